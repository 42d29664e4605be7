"""Every recipe in small, run to its report by the real trainer: `make test-recipes`."""
