"""Rows of any known format into canonical records."""
