"""What vLLM needs so that it sees, and samples, what transformers does."""
