"""A run on this machine: its folder, live table, supervision."""
