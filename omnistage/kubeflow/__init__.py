"""Kubeflow Pipelines: artifact types, the server, submitting runs."""
