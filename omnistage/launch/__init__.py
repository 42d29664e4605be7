"""Launch back ends: where the processes of a training or evaluation stage run."""
