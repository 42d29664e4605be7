"""The embedded default: tiny models of each family and a generated judging set, made by code."""
