"""Settings of the tiny model."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.download.tiny.sets import KINDS, kind_named
from omnistage.settings import Settings, added


class TinyModelSettings(Settings):
    """Family, seed and sizes of the tiny model; the defaults give about a million parameters."""

    model_type: Literal["qwen2_5_omni", "qwen3_omni_moe", "qwen2_5_vl", "qwen3_vl"] = Field(
        default="qwen2_5_omni",
        description="The model's family, as its config.json names it.",
        json_schema_extra=added(),
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")
    layers: int = Field(default=4, ge=1, description="Layers of the text model.")
    hidden_size: int = Field(default=128, ge=32, description="Width of the text model.")
    heads: int = Field(
        default=4, ge=2, multiple_of=2, description="Attention heads of the text model."
    )
    vision_layers: int = Field(default=2, ge=1, description="Blocks of the vision encoder.")
    audio_layers: int = Field(default=1, ge=1, description="Layers of the audio encoder.")
    encoder_size: int = Field(
        default=32, ge=16, multiple_of=16, description="Width of the vision and audio encoders."
    )

    kinds: list[str] = Field(
        default=["judge"],
        min_length=1,
        description=f"Kinds of generated data whose lines are one token each: {', '.join(KINDS)}.",
        json_schema_extra=added(),
    )
    lessons: int = Field(
        default=0,
        ge=0,
        description="Steps of training on lessons of these kinds, after which it answers in the "
        "form that is asked for, as an instruction-tuned model does; 0 for none.",
        json_schema_extra=added(),
    )

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: list[str]) -> list[str]:
        for kind in kinds:
            kind_named(kind)
        return kinds

    @model_validator(mode="after")
    def _lessons_are_given(self) -> "TinyModelSettings":
        if self.lessons and not any(KINDS[kind].lesson for kind in self.kinds):
            raise ValueError(f"lessons: {', '.join(self.kinds)} gives none; leave it out")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TinyModelSettings":
        if self.hidden_size % (self.heads * 16):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of 16 x heads ({self.heads}), "
                "so that a head's rotary positions split over time, height and width"
            )
        return self
