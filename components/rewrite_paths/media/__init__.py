"""Find the media that a row names."""
