"""The training processes of one machine."""
