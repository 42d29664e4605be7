"""What is wrong with a GRPO run, in words a user can act on."""

from dataclasses import dataclass
from typing import Literal

_EXAMPLE = 200  # characters of a completion that are shown

Sign = Literal[
    "garbled",
    "drifted",
    "broken_gradient",
    "constant_reward",
    "floor",
    "stuck_gradient",
    "truncated",
]


@dataclass(frozen=True)
class Diagnosis:
    """Why a run is stopped.

    Attributes:
        sign: Which sign held.
        step: Optimizer step at which it was clear.
        seen: The figures, in words.
        example: One completion, cut short, where it helps.
        causes: Likely causes, the likeliest first.
        todo: What to do about it.
    """

    sign: Sign
    step: int
    seen: str
    example: str | None
    causes: tuple[str, ...]
    todo: str

    @classmethod
    def of(cls, sign: Sign, step: int, seen: str, example: str | None) -> "Diagnosis":
        """Return a diagnosis with the usual causes of a sign; the example is cut short."""
        if example is not None and len(example) > _EXAMPLE:
            example = example[:_EXAMPLE] + "…"
        causes, todo = _ADVICE[sign]
        return cls(sign, step, seen, example, causes, todo)

    def __str__(self) -> str:
        parts = [f"step {self.step}: {self.seen}"]
        if self.example is not None:
            parts.append(f"for example: {self.example!r}")
        parts.append("likely: " + "; or ".join(self.causes))
        parts.append(f"do: {self.todo}")
        return ". ".join(parts)


_ADVICE: dict[Sign, tuple[tuple[str, ...], str]] = {
    "garbled": (
        (
            "the rollout sees another prompt or other media than plain inference does "
            "(use_audio_in_video differs, a sound track counted twice, media not forwarded)",
            "the checkpoint does not fit its tokenizer or chat template, or the rollout's weights "
            "are out of step with the trainer's",
        ),
        "read the preflight result, compare with plain inference on the same prompt, and check "
        "that GRPO starts from the intended checkpoint; a lower learning rate if it began well",
    ),
    "drifted": (
        (
            "vLLM's weights are out of step with the trainer's (an adapter that it ignores, as "
            "vllm_enable_lora can make it, or a weight sync that fails)",
            "vLLM sees another prompt or other media than the trainer",
            "vLLM computes in another precision (quantized, float16)",
        ),
        "leave vllm_enable_lora off, read the preflight result, and compare with a run without "
        "vllm; raise watch.rollout_kl if the difference is meant",
    ),
    "broken_gradient": (
        (
            "the learning rate is too high",
            "float16 overflows",
            "a record whose completion or loss is empty",
        ),
        "use bfloat16, lower learning_rate, set max_grad_norm; resume from the last checkpoint",
    ),
    "constant_reward": (
        (
            "the rewards cannot tell the completions apart (wrong gold column, wrong format asked)",
            "too few generations a prompt or too low a temperature",
            "the records are all too hard or all too easy for this checkpoint",
        ),
        "read completions.jsonl beside the gold answers; start from the SFT checkpoint; raise "
        "num_generations or temperature; filter the records by difficulty",
    ),
    "floor": (
        (
            "the content rewards cannot parse any completion (format not learned, answer cut off)",
            "their gold column is missing or has another form",
            "one easy reward is all that is being optimized",
        ),
        "read completions.jsonl beside the gold answers; start from an SFT checkpoint that writes "
        "the format; raise max_completion_length; lower the weight of the reward that pays",
    ),
    "stuck_gradient": (
        (
            "no trainable parameter takes part in the loss (everything frozen, adapter on other "
            "modules than those used)",
            "every completion is masked (overlong_filter with a too small limit)",
        ),
        "check freeze_* and target_modules, and that the adapter is loaded as trainable",
    ),
    "truncated": (
        (
            "max_completion_length is too small for the answers",
            "the model never writes its end token, as an untrained or collapsed one does",
        ),
        "raise max_completion_length, or start from an SFT checkpoint that ends its answers",
    ),
}
