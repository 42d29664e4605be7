"""Converts records of any known data set into canonical ones whose media are known to be there."""
