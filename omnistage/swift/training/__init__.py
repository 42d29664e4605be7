"""A training from launch to result: follow, resume, keep checkpoints, keep what was made."""
