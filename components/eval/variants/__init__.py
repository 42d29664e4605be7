"""The same records asked again in another way: without a modality, sampled, options rotated."""
