"""A real Kubernetes cluster of two nodes on this machine, and the tests that run on it."""
