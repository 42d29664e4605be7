"""Settings of direct preference optimization."""

from typing import Literal

from pydantic import Field

from omnistage.swift.settings import TrainingSettings


class DPOSettings(TrainingSettings):
    """``swift rlhf --rlhf_type dpo``: the right verdict of a judge record over the opposite one."""

    beta: float = Field(
        default=0.1, gt=0, description="How closely it stays with the model that it starts from."
    )
    loss_type: Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"] = Field(
        default="sigmoid", description="The loss of a pair; sigmoid is DPO's own."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of preferences taken to be wrong."
    )
    sft_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the loss of plain fine-tuning on the right answer (RPO's α).",
    )
