"""Figures of one task for each section of the report that only some evaluations have."""
