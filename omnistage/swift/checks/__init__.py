"""Checks made in the trainer itself before its first step."""
