"""A stage as a program, as the body of a KFP task, and what a run records of its tasks."""
