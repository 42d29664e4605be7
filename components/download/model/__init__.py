"""The stage ``download_model`` as a program of its own."""
