"""Choose, split, order and swap the converted records."""
