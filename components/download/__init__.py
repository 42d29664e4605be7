"""Stages that fetch: a data set, a base model."""
