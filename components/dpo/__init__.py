"""Direct preference optimization with ms-swift."""
