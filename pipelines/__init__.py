"""Pipelines made of the components; each compiles to one package for ``kfp run create``."""
