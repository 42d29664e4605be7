"""How much memory a training process (a rank) takes at its peak, by part.

States follow Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models" (2020), section 3: with Ψ weights in a type of d bytes, weights take d·Ψ, gradients d·Ψ,
and the optimizer 12·Ψ under DeepSpeed (a float32 copy, momentum and variance) or 2·d·Ψ for plain
AdamW. ZeRO 1 divides the optimizer by the ranks, 2 the gradients too, 3 the weights too. Adapters
and what belongs to them are float32 (peft's ``autocast_adapter_dtype``).

Activations are counted as Korthikanti et al., "Reducing Activation Recomputation in Large
Transformer Models" (2022), section 4, do it, for the layers of these families: what autograd keeps
of a token in a layer, with h the width, q and k those of all query and of all key heads, f the
inner width, d the bytes of the type:

- two RMS norms: 2·h·(4 + 2·d), the input in float32, the normed value and the output;
- attention, which keeps no scores (SDPA, flash): 2·d·(q + k), queries, keys, values and output;
  where queries and keys have norms of their own, (q + k)·(4 + d) more;
- the feed-forward part: 4·d·f (gate, its activation, up, product), 2·d·f without a gate; a token
  that is routed to e experts is copied to each, 3·e·d·h more.

With gradient checkpointing a layer keeps its input only, d·h, and one layer at a time is computed
again. Frozen encoders keep nothing. LoRA counts as full training does: what it need not keep for
frozen weights its dropout keeps.

Logits take positions · vocabulary · (d + 8): the model's, their log-softmax in float32 and its
gradient (transformers' ``ForCausalLMLoss``); in GRPO 4·d for the completion's positions (TRL's
``selective_log_softmax``).

Not counted: what CUDA, NCCL and the allocator take for themselves, about 1 to 2 GB of a GPU.
"""

from dataclasses import dataclass
from typing import Literal

from omnistage.swift.size.geometry import Encoder, Geometry, Layer

_FLOAT32 = 4
_SOFTMAX = 2 * _FLOAT32
_POLICY = 4  # tensors of the logits' size while GRPO takes log-probabilities
_COPIES = 3  # of a token that is routed to an expert: gathered, computed, weighted
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Load:
    """What a rank trains, and how."""

    tuner: Literal["full", "lora"]
    lora_rank: int
    freeze_vit: bool
    freeze_aligner: bool
    dtype: str
    zero_stage: int
    """0 also where DeepSpeed is not used."""
    ranks: int
    checkpointing: bool
    sequences: int
    """That a rank takes at once."""
    tokens: int
    """Of the longest sequence."""
    vision: int = 0
    """Of these, those of images and clips."""
    audio: int = 0
    """Of these, those of sounds."""
    completion: int = 0
    """Of these, those that were sampled and whose probabilities are needed alone; 0 for all."""
    reference: bool = False
    """Whether a second copy of the weights is held."""
    rollout: int = 0
    """Sequences that are sampled at once, by the trainer itself."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a rank by part."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    cache: float
    """Keys and values while completions are sampled; freed before anything is trained."""

    @property
    def peak(self) -> float:
        """Bytes at the peak: sampling and training take turns."""
        states = self.weights + self.gradients + self.optimizer
        return states + max(self.activations + self.logits, self.cache)


def trainable(geometry: Geometry, load: Load) -> int:
    """Return how many parameters are trained."""
    counts = geometry.parameters if load.tuner == "full" else geometry.linear
    frozen = {"vision", "audio"} if load.freeze_vit else set()
    frozen |= {"aligner"} if load.freeze_aligner else set()
    number = sum(count for part, count in counts.items() if part not in frozen)
    return number if load.tuner == "full" else number * load.lora_rank


def memory(geometry: Geometry, load: Load) -> Memory:
    """Return what a rank takes, see the module."""
    size, trained, zero = BYTES[load.dtype], trainable(geometry, load), load.zero_stage
    lora = load.tuner == "lora"
    own = _FLOAT32 if lora else size  # of what is trained
    weights = geometry.total * size * (2 if load.reference else 1) + (trained * own if lora else 0)
    gradients = trained * own
    optimizer = trained * (3 * _FLOAT32 if zero else 2 * own)
    positions = load.completion or load.tokens
    wide = _POLICY * size if load.completion else size + _SOFTMAX
    return Memory(
        weights=weights / (load.ranks if zero >= 3 else 1),
        gradients=gradients / (load.ranks if zero >= 2 else 1),
        optimizer=optimizer / (load.ranks if zero >= 1 else 1),
        activations=load.sequences * _activations(geometry, load, size),
        logits=load.sequences * positions * geometry.vocabulary * wide,
        cache=load.rollout * load.tokens * geometry.cached * size,
    )


def checkpoint_bytes(geometry: Geometry, load: Load) -> tuple[float, float]:
    """Return the bytes of what a step makes, and of a checkpoint to go on from.

    The second has the optimizer's states beside what is trained.
    """
    trained, size = trainable(geometry, load), BYTES[load.dtype]
    lora = load.tuner == "lora"
    own = _FLOAT32 if lora else size
    made = trained * own if lora else geometry.total * size
    return made, made + trained * (3 * _FLOAT32 if load.zero_stage else 2 * own)


def _activations(geometry: Geometry, load: Load, size: int) -> float:
    """Return the bytes that a sequence's forward pass keeps for the backward pass."""
    kept = load.tokens * _kept(geometry.layers, geometry.layer, size, load)
    if not load.freeze_vit:
        kept += _encoder(geometry.vision, load.vision, size, load)
        if geometry.audio:
            kept += _encoder(geometry.audio, load.audio, size, load)
    return kept


def _encoder(encoder: Encoder, tokens: int, size: int, load: Load) -> float:
    return tokens * encoder.positions * _kept(encoder.layers, encoder.layer, size, load)


def _kept(layers: int, layer: Layer, size: int, load: Load) -> float:
    """Return the bytes that are kept of a position in all layers."""
    if load.checkpointing:
        return layers * layer.hidden * size + layer_bytes(layer, size)
    return layers * layer_bytes(layer, size)


def layer_bytes(layer: Layer, size: int) -> int:
    """Return the bytes that autograd keeps of one position in one layer.

    Args:
        layer: The layer.
        size: Bytes of its type.
    """
    norms = 2 * layer.hidden * (_FLOAT32 + 2 * size)
    attention = size * 2 * (layer.queries + layer.keys)
    if layer.normed_heads:
        attention += (layer.queries + layer.keys) * (_FLOAT32 + size)
    branches = 4 if layer.gated else 2
    forward = size * (branches * layer.inner + _COPIES * layer.routed * layer.hidden)
    return norms + attention + forward
