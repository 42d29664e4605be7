"""Watch GRPO while it trains, and diagnose runs that cannot learn."""
