"""Fixtures of the tests of Kubeflow Pipelines."""

from tests.cluster.scene import scene

__all__ = ["scene"]
