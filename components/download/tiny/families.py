"""What differs between the tiny models: classes, configurations and processors of each family.

Sizes that transformers accepts although they are wrong (positions that do not split, deepstack
layers that are not there, a grid of positions that is no square) are computed here from those in
:class:`~components.download.tiny.settings.TinyModelSettings`, so that nobody sets them.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from components.download.tiny.media import SAMPLE_RATE, SIDE
from components.download.tiny.start import INITIAL_STD
from components.download.tiny.tokenizer import END_OF_TEXT, MEDIA_TOKENS, TURN_END, token_id
from omnistage.swift.family import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin, Qwen2Tokenizer

    from components.download.tiny.settings import TinyModelSettings

AUDIO_SECONDS = 2  # the length that the feature extractor pads to; cuts off what is longer
_MERGE, _MEL_BINS = 2, 128  # as all families
_POSITIONS = 8**2  # of the learned grid of a Qwen3 vision encoder, interpolated to an image's own
_EXPERTS, _EXPERTS_USED = 4, 2
_QWEN3 = ("qwen3_omni_moe", "qwen3_vl")

# As the families' own: media as tokens, text as it is; Qwen2.5 adds a system turn if there is none.
_SYSTEM = """\
{%- if loop.first and message['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
"""
_CHAT_TEMPLATE = """\
{{%- for message in messages -%}}
{system}{{{{- '<|im_start|>' + message['role'] + '\\n' -}}}}
{{%- if message['content'] is string -%}}
{{{{- message['content'] -}}}}
{{%- else -%}}
{{%- for part in message['content'] -%}}
{media}{{{{- part['text'] -}}}}{{%- endif -%}}
{{%- endfor -%}}
{{%- endif -%}}
{{{{- '<|im_end|>\\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{- '<|im_start|>assistant\\n' -}}}}{{%- endif -%}}
"""


def class_of(model_type: str, kind: str) -> Any:
    """Return a class of transformers of a family.

    Args:
        model_type: The family.
        kind: ``Config``, ``Processor`` or ``ForConditionalGeneration``.
    """
    import transformers

    return getattr(transformers, FAMILIES[model_type].classes + kind)


def build_config(tokenizer: "Qwen2Tokenizer", settings: "TinyModelSettings") -> "PreTrainedConfig":
    """Return the configuration of a tiny model."""
    build = class_of(settings.model_type, "Config")
    parts: dict[str, Any] = {
        "text_config": _text_config(tokenizer, settings),
        "vision_config": _vision_config(settings),
    }
    ids = {name: token_id(tokenizer, t) for name, t in MEDIA_TOKENS[settings.model_type].items()}
    if "audio_token" not in ids:
        names = _token_names(ids, "image", "video") | _ends(ids, "vision")
        return build(**parts, **names, tie_word_embeddings=False, dtype="float32")
    suffix = "index" if settings.model_type == "qwen2_5_omni" else "id"
    thinker: dict[str, Any] = {
        **parts,
        "audio_config": _audio_config(settings),
        **_token_names(ids, "image", "audio", "video", suffix=suffix),
        **_ends(ids, "vision"),
        **_ends(ids, "audio"),
        "user_token_id": token_id(tokenizer, "user\n"),
        "initializer_range": INITIAL_STD,
        "pad_token_id": token_id(tokenizer, END_OF_TEXT),
    }
    return build(thinker_config=thinker, enable_audio_output=False, dtype="float32")


def text_parts(model: "PreTrainedModel") -> tuple[Any, Any]:
    """Return the text model of a tiny model, which has embeddings and layers, and its output."""
    whole: Any = getattr(model, "thinker", model)
    return getattr(whole.model, "language_model", whole.model), whole.lm_head


def build_processor(tokenizer: "Qwen2Tokenizer", model_type: str) -> "ProcessorMixin":
    """Return the processor of a family, for the small media of the tiny set."""
    import transformers

    hears = "audio_token" in MEDIA_TOKENS[model_type]
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": 16 * SIDE * SIDE}
    vision: dict[str, Any] = {"size": pixels, "patch_size": _patch(model_type)}
    vision["merge_size"] = _MERGE
    if model_type in _QWEN3:
        vision |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    videos = "Qwen3VLVideoProcessor" if model_type == "qwen3_vl" else "Qwen2VLVideoProcessor"
    parts: dict[str, Any] = {
        "image_processor": transformers.Qwen2VLImageProcessor(**vision),
        "video_processor": getattr(transformers, videos)(**vision),
        "tokenizer": tokenizer,
        "chat_template": _chat_template(model_type),
    }
    if hears:
        parts["feature_extractor"] = transformers.WhisperFeatureExtractor(
            feature_size=_MEL_BINS, sampling_rate=SAMPLE_RATE, chunk_length=AUDIO_SECONDS
        )
    return class_of(model_type, "Processor")(**parts)


def _patch(model_type: str) -> int:
    return 16 if model_type in _QWEN3 else 14


def _token_names(ids: dict[str, int], *kinds: str, suffix: str = "id") -> dict[str, int]:
    return {f"{kind}_token_{suffix}": ids[f"{kind}_token"] for kind in kinds}


def _ends(ids: dict[str, int], kind: str) -> dict[str, int]:
    names = {"start": ids[f"{kind}_bos_token"], "end": ids[f"{kind}_eos_token"]}
    return {f"{kind}_{end}_token_id": number for end, number in names.items()}


def _text_config(tokenizer: "Qwen2Tokenizer", settings: "TinyModelSettings") -> dict[str, Any]:
    ids = partial(token_id, tokenizer)
    head = settings.hidden_size // settings.heads
    rotary = head // 2  # pairs of a head, split over time, height and width
    qwen3 = settings.model_type in _QWEN3
    if qwen3:
        sections = [rotary - 2 * (rotary // 3), rotary // 3, rotary // 3]
    else:
        sections = [rotary // 4, rotary * 3 // 8, rotary * 3 // 8]
    positions: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": sections,
    }
    found: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "intermediate_size": 3 * settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.heads // 2,
        "rope_parameters": positions | ({"mrope_interleaved": True} if qwen3 else {}),
        "pad_token_id": ids(END_OF_TEXT),
        "eos_token_id": ids(TURN_END),
        "tie_word_embeddings": False,
        "initializer_range": INITIAL_STD,
    }
    if qwen3:
        found["head_dim"] = head
    if settings.model_type == "qwen2_5_vl":
        found["bos_token_id"] = None  # by default an id of the published vocabulary
    if settings.model_type == "qwen3_omni_moe":
        found |= {"num_experts": _EXPERTS, "num_experts_per_tok": _EXPERTS_USED}
        found["moe_intermediate_size"] = settings.hidden_size
    return found


def _vision_config(settings: "TinyModelSettings") -> dict[str, Any]:
    found: dict[str, Any] = {
        "depth": settings.vision_layers,
        "hidden_size": settings.encoder_size,
        "intermediate_size": 2 * settings.encoder_size,
        "num_heads": 2,
        "out_hidden_size": settings.hidden_size,
        "initializer_range": INITIAL_STD,
    }
    last = settings.vision_layers - 1
    if settings.model_type in _QWEN3:
        found |= {"num_position_embeddings": _POSITIONS, "patch_size": _patch(settings.model_type)}
        # Features of these blocks are added to as many of the first text layers.
        found["deepstack_visual_indexes"] = list(range(last))[: settings.layers]
    else:
        found["fullatt_block_indexes"] = [last]
    return found


def _audio_config(settings: "TinyModelSettings") -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_mel_bins": _MEL_BINS,
        "d_model": settings.encoder_size,
        "encoder_layers": settings.audio_layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * settings.encoder_size,
        "output_dim": settings.hidden_size,
        "initializer_range": INITIAL_STD,
    }
    if settings.model_type == "qwen3_omni_moe":
        found["downsample_hidden_size"] = settings.encoder_size
    return found


def _chat_template(model_type: str) -> str:
    tokens = MEDIA_TOKENS[model_type]
    kinds = [kind for kind in ("image", "audio", "video") if f"{kind}_token" in tokens]
    lines = []
    for number, kind in enumerate(kinds):
        around = "audio" if kind == "audio" else "vision"
        text = tokens[f"{around}_bos_token"] + tokens[f"{kind}_token"]
        text += tokens[f"{around}_eos_token"]
        word = "elif" if number else "if"
        lines.append(f"{{%- {word} part['type'] == '{kind}' -%}}{{{{- '{text}' -}}}}\n")
    media = "".join(lines) + "{%- else -%}"
    system = "" if model_type in _QWEN3 else _SYSTEM
    return _CHAT_TEMPLATE.format(system=system, media=media)
