"""The geometry of a model: its parameters by part and its sizes, from its ``config.json`` alone.

The model is built of transformers' own classes on the meta device, where a weight has a shape and
no bytes, so that a model of any size is counted in seconds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omnistage.errors import InputError
from omnistage.swift.family import Family, family_named

Part = Literal["text", "embeddings", "output", "vision", "audio", "aligner"]

_PARTS: tuple[tuple[str, Part], ...] = (
    (".merger", "aligner"),
    (".deepstack_merger", "aligner"),
    ("audio_tower.proj", "aligner"),
    ("audio_tower.", "audio"),
    ("visual.", "vision"),
    ("lm_head.", "output"),
    ("embed_tokens.", "embeddings"),
)
"""Part of a weight's name to the part of the model, as ms-swift's own table of its models has them;
what fits none is of the text model's layers."""
_MERGE = 4  # vision patches that become one token, in every family
_QWEN_2_5 = "qwen2_5"
_QWEN_2_5_POOL = 2  # positions of the sound encoder that become one token; Qwen3's come as they are


@dataclass(frozen=True)
class Layer:
    """A layer of a transformer, in numbers an element of each token."""

    hidden: int
    queries: int
    """Width of all query heads."""
    keys: int
    """Width of all key heads, as that of all value heads."""
    inner: int
    """Width inside the feed-forward part; of a mixture of experts, of those that a token meets."""
    gated: bool
    """Whether that part multiplies two branches (SwiGLU)."""
    routed: int = 0
    """Experts that a token meets; 0 where there are none."""
    experts: int = 0
    normed_heads: bool = False
    """Whether queries and keys have norms of their own."""


@dataclass(frozen=True)
class Encoder:
    """The vision or the sound encoder."""

    layers: int
    layer: Layer
    positions: int
    """Of its own for each token that it makes."""


@dataclass(frozen=True)
class Geometry:
    """What a model's size consists of."""

    family: Family
    parameters: Mapping[Part, int]
    """By part; tied weights are counted once, under ``embeddings``."""
    linear: Mapping[Part, int]
    """Sum over the linear layers of a part of their inputs and outputs; times the rank r it is the
    parameters of a LoRA adapter on them. Experts count each."""
    layers: int
    """Of the text model."""
    layer: Layer
    vocabulary: int
    vision: Encoder
    audio: Encoder | None

    @property
    def total(self) -> int:
        """Parameters in all."""
        return sum(self.parameters.values())

    @property
    def cached(self) -> int:
        """Elements of the key-value cache for each token."""
        return 2 * self.layers * self.layer.keys


def read_geometry(config: Mapping[str, Any], where: str) -> Geometry:
    """Return the geometry of a model.

    Args:
        config: Its ``config.json``.
        where: Where that was read, for errors.

    Raises:
        InputError: If its family is not known here, transformers is not installed, or does not
            take the configuration.
    """
    family = family_named(config.get("model_type"), where)
    try:
        import torch
        import transformers
        from huggingface_hub.errors import StrictDataclassError
    except ImportError as e:
        raise InputError(
            f"counting a model's parameters needs torch and transformers ({e}); install "
            "omnistage[train]"
        ) from e
    try:
        made = getattr(transformers, f"{family.classes}Config").from_dict(dict(config))
        if hasattr(made, "enable_audio_output"):
            made.enable_audio_output = False  # the talker is neither loaded nor trained
        with torch.device("meta"):
            model = getattr(transformers, f"{family.classes}ForConditionalGeneration")(made)
    except (TypeError, ValueError, AttributeError, RuntimeError, StrictDataclassError) as e:
        raise InputError(f"{where}: transformers cannot build this model: {e}") from e
    return _geometry(family, made, model)


def _geometry(family: Family, config: Any, model: Any) -> Geometry:
    whole = config.thinker_config if family.generator else config
    text = whole.text_config
    parameters: Counter[Part] = Counter()
    linear: Counter[Part] = Counter()
    for name, weight in model.named_parameters():
        parameters[_part(name)] += weight.numel()
    for name, size in _linear(model, family):
        linear[_part(name)] += size
    layer = _text_layer(text, model)
    return Geometry(
        family=family,
        parameters=dict(parameters),
        linear=dict(linear),
        layers=text.num_hidden_layers,
        layer=layer,
        vocabulary=text.vocab_size,
        vision=_vision(whole.vision_config, gated=_QWEN_2_5 in family.model_type),
        audio=_audio(whole.audio_config, family) if family.hears else None,
    )


def _part(name: str) -> Part:
    for piece, part in _PARTS:
        if piece in f".{name}":
            return part
    return "text"


def _linear(model: Any, family: Family) -> Iterator[tuple[str, int]]:
    """Yield the linear layers that adapters may be on, and the experts: inputs and outputs."""
    from torch import nn

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
            yield f"{name}.", module.in_features + module.out_features
    for name, weight in model.named_parameters():
        if family.experts and name.endswith(family.experts):
            experts, *sides = weight.shape
            yield name, experts * sum(sides)


def _text_layer(text: Any, model: Any) -> Layer:
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    routed = getattr(text, "num_experts_per_tok", 0) or 0
    inner = routed * text.moe_intermediate_size if routed else text.intermediate_size
    names = (name for name, _ in model.named_parameters())
    return Layer(
        hidden=text.hidden_size,
        queries=heads * head,
        keys=(text.num_key_value_heads or heads) * head,
        inner=inner,
        gated=True,
        routed=routed,
        experts=getattr(text, "num_experts", 0) or 0,
        normed_heads=any("self_attn.q_norm" in name for name in names),
    )


def _vision(config: Any, gated: bool) -> Encoder:
    width = config.hidden_size
    layer = Layer(width, width, width, config.intermediate_size, gated)
    return Encoder(config.depth, layer, _MERGE)


def _audio(config: Any, family: Family) -> Encoder:
    width = config.d_model
    layer = Layer(width, width, width, config.encoder_ffn_dim, gated=False)
    pool = _QWEN_2_5_POOL if _QWEN_2_5 in family.model_type else 1
    return Encoder(config.encoder_layers, layer, pool)
