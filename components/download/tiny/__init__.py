"""The embedded default: a tiny Qwen2.5-Omni and a generated judging set, both made by code."""
