"""vLLM's Qwen2.5-Omni with transformers' positions.

vLLM counts a clip with sound from ``<|audio_bos|>`` on, which it gives the place of the first
picture, and gives no place twice; transformers counts from the first picture, with the start tags
at one place and the end tags at one (``get_mrope_input_positions`` in
``vllm/model_executor/models/qwen2_5_omni_thinker.py``). Every token of the clip then has its
neighbour's position.
"""

from typing import Any

import torch
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniPreTrainedModelForConditionalGeneration as Transformers,
)
from vllm import ModelRegistry  # pyright: ignore[reportMissingImports]
from vllm.model_executor.models.qwen2_5_omni_thinker import (  # pyright: ignore[reportMissingImports]
    Qwen2_5OmniThinkerForConditionalGeneration,
)

ARCHITECTURE = "Qwen2_5OmniForConditionalGeneration"


class _Positions:
    """What transformers' model needs of itself to count."""

    get_rope_index = Transformers.get_rope_index
    get_llm_pos_ids_for_vision = Transformers.get_llm_pos_ids_for_vision
    get_chunked_index = Transformers.get_chunked_index

    def __init__(self, config: Any) -> None:
        self.config = config
        self.spatial_merge_size = config.vision_config.spatial_merge_size


class Qwen2_5Omni(Qwen2_5OmniThinkerForConditionalGeneration):  # noqa: N801 - the model's name
    """vLLM's model, but for the positions."""

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[Any]
    ) -> tuple[torch.Tensor, int]:
        """Return the positions (3 × tokens), and what to add to a later token's number."""
        places = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        found = {
            key: [feature.data[key].data for feature in places if feature.modality == kind]
            for kind, key in (
                ("image", "image_grid_thw"),
                ("video", "video_grid_thw"),
                ("video", "second_per_grid_ts"),
                ("video", "use_audio_in_video"),
                ("audio", "audio_feature_lengths"),
            )
        }
        if not found["video_grid_thw"]:
            return super().get_mrope_input_positions(input_tokens, mm_features)
        rows = {
            key: torch.stack([torch.as_tensor(v) for v in vs]) for key, vs in found.items() if vs
        }
        lengths = rows.get("audio_feature_lengths")
        counter: Any = _Positions(self.config)
        positions, _ = counter.get_rope_index(
            torch.tensor([input_tokens]),
            rows.get("image_grid_thw"),
            rows["video_grid_thw"],
            torch.ones(1, len(input_tokens), dtype=torch.long),
            bool(rows["use_audio_in_video"].any()),
            None if lengths is None else lengths.flatten(),
            rows["second_per_grid_ts"].flatten(),
        )
        positions = positions[:, 0].long()
        return positions, int(positions.max()) + 1 - len(input_tokens)


def register() -> None:
    """Have vLLM use this model in this process."""
    ModelRegistry.register_model(ARCHITECTURE, Qwen2_5Omni)
