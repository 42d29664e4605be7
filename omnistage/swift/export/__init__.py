"""Hands on what a training step has made: a folder for others, a card, the command to serve it."""
