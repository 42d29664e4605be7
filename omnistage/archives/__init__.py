"""Archives: reading, safe names, decompression, extraction, the media root."""
