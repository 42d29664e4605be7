"""Worker processes that take tasks on stdin and answer on stdout."""
