"""What the evaluation computes; every metric is a pure function over lists."""
