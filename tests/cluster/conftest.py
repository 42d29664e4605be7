"""Fixtures of the tests of launching."""

from tests.cluster.scene import scene

__all__ = ["scene"]
