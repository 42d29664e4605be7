"""Tests with vLLM, on CPUs: `make test-vllm` makes their environment and runs them."""
