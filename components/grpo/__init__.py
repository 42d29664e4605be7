"""Stage ``grpo``: reinforcement learning from verifiable rewards, giving a LoRA adapter."""
