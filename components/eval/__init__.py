"""Stage ``eval``: the base, SFT and GRPO models on the same held-out records, and the report."""
