"""Record files: JSON Lines, JSON lists, mixtures."""
