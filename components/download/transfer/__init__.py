"""Transfer files: ranges, resume, verification."""
