"""Settings of the tiny model."""

from typing import Literal

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TinyModelSettings":
        if self.hidden_size % (self.heads * 16):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of 16 x heads ({self.heads}), "
                "so that a head's rotary positions split over time, height and width"
            )
        return self
