"""The cluster that the tests run on: its programs, nodes, operators and images."""
