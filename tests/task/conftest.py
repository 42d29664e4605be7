"""Fixtures of the tests of tasks."""

from tests.cluster.scene import scene

__all__ = ["scene"]
