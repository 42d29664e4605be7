"""``omnistage prune``: what no run needs any more, and its removal."""
