"""Rewards that ask a server: a language model as judge, a reward server, a trained critic."""
