"""The store: manifests, and artifacts in a folder or in S3."""
