"""How large a training is, known before it runs: parameters, memory, tokens."""
