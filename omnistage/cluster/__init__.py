"""Training jobs on a Kubernetes cluster."""
