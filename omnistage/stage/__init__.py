"""The contract of a stage, its key, and how it is executed."""
