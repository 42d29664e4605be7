"""Gangs on the real operators: launched, adopted, disturbed and ended."""
