"""Settings of supervised fine-tuning."""

from omnistage.swift.settings import TrainingSettings


class SFTSettings(TrainingSettings):
    """``swift sft`` on the records of the SFT split."""
