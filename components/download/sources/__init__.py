"""The sources: each lists its files, with what is known of them, before anything is fetched."""
