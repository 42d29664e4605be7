"""Readers of the formats that rows are published in."""
