"""Driving ms-swift by its public command line."""
