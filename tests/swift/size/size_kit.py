"""A small model's geometry, made up, and a ``config.json`` that transformers takes."""

from typing import Any

from omnistage.swift.family import FAMILIES
from omnistage.swift.size.geometry import Encoder, Geometry, Layer

LAYER = Layer(hidden=100, queries=100, keys=20, inner=300, gated=True)
MODEL = Geometry(
    family=FAMILIES["qwen2_5_omni"],
    parameters={
        "text": 8_000,
        "embeddings": 500,
        "output": 500,
        "vision": 600,
        "audio": 300,
        "aligner": 100,
    },
    linear={"text": 90, "vision": 5, "audio": 3, "aligner": 2},
    layers=10,
    layer=LAYER,
    vocabulary=1000,
    vision=Encoder(2, LAYER, 4),
    audio=Encoder(2, LAYER, 2),
)


def vl_config(hidden: int, layers: int, vocabulary: int = 30_000) -> dict[str, Any]:
    """Return the ``config.json`` of a Qwen2.5-VL whose heads are 64 wide."""
    heads = hidden // 64
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    text = {
        "model_type": "qwen2_5_vl_text",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 3 * hidden,
        "vocab_size": vocabulary,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "rope_parameters": rotary,
        "bos_token_id": None,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": [1],
    }
    return {
        "model_type": "qwen2_5_vl",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": 4,
        "video_token_id": 5,
        "vision_start_token_id": 6,
        "vision_end_token_id": 7,
        "tie_word_embeddings": False,
    }
