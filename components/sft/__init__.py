"""Supervised fine-tuning with ms-swift."""
