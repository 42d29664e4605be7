"""Writes a recipe as commented YAML."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnistage.files import counted
from pipelines.first_recipe.choose import Rewards
from pipelines.first_recipe.look import FileLook


@dataclass(frozen=True)
class Draft:
    """What a recipe is written from."""

    name: str
    about: str
    source: Mapping[str, Any]
    model: Mapping[str, Any]
    looks: Sequence[FileLook]
    rewrite: Mapping[str, Any]
    """The section ``rewrite_paths``."""
    media: Mapping[str, Any]
    sft: bool
    rewards: Rewards | None
    """None where nothing is learned by reinforcement."""
    longest: int
    """Tokens of the longest prompt or dialogue, estimated."""

    @property
    def dtype(self) -> str:
        """The type of the weights: the embedded model is for a CPU."""
        return "float32" if self.model["type"] == "tiny" else "bfloat16"


def recipe_text(draft: Draft) -> str:
    """Return the recipe."""
    return "\n".join(_lines(draft)) + "\n"


def _lines(draft: Draft) -> Iterator[str]:
    yield "# Written by `omnistage init` from a look at the data; every line may be changed. All"
    yield "# settings are in docs/recipes.md, `omnistage plan` says what they would take."
    yield f"name: {draft.name}"
    yield f"description: {json.dumps(draft.about)}"
    yield "pipeline: post_training"
    yield "seed: 42"
    yield ""
    yield "data:"
    yield f"  {draft.name}:"
    yield "    sources:"
    yield from _listed(draft.source, 6)
    yield "    rewrite_paths:"
    for one in draft.looks:
        kinds = ", ".join(one.formats) or "none"
        read = " and ".join(one.splits) or "nothing: it cannot be read"
        rows = counted(one.rows, "row")
        yield f"      # {one.shown}: {rows}, of the form {kinds}; read for {read}"
    for key, value in draft.rewrite.items():
        yield from _pair(key, value, 6)
    yield ""
    yield "model:"
    yield "  sources:"
    yield from _listed(draft.model, 4)
    yield ""
    yield "steps:"
    if draft.sft:
        yield from _training(draft, "sft")
    if draft.rewards:
        yield from _training(draft, "grpo")
    yield "  eval: # every model above and the base model, on the held-out records"
    yield "    stage: eval"
    yield f"    max_completion_length: {_completion(draft)}"
    yield f"    dtype: {draft.dtype}"
    yield from _media(draft)


def _training(draft: Draft, stage: str) -> Iterator[str]:
    start = "sft" if stage == "grpo" and draft.sft else "base"
    yield f"  {stage}:"
    yield f"    stage: {stage}"
    yield f"    from: {start}"
    yield "    tuner: lora # full trains all weights"
    if stage == "sft":
        yield "    epochs: 2"
        yield "    learning_rate: 1.0e-4"
    else:
        assert draft.rewards
        yield "    learning_rate: 1.0e-5"
        yield f"    # {draft.rewards.why}"
        yield "    reward_weights:"
        for name, weight in draft.rewards.weights.items():
            yield f"      {name}: {weight}"
        yield "    num_generations: 8"
        yield f"    max_completion_length: {_completion(draft)}"
    yield "    batch_size: 16 # over all GPUs"
    yield f"    max_length: {_room(draft.longest)} # tokens, those of media too"
    yield f"    dtype: {draft.dtype}"
    yield from _media(draft)
    yield ""


def _room(longest: int) -> int:
    """Return a maximum length a quarter above an estimate, in steps of 512."""
    return max(1024, 512 * -(-longest * 5 // (4 * 512)))


def _completion(draft: Draft) -> int:
    return 64 if draft.model["type"] == "tiny" else 1024


def _media(draft: Draft) -> Iterator[str]:
    if draft.media:
        yield "    media: # bounds that leave nine of ten as they are, or the shipped recipes'"
        for key, value in draft.media.items():
            yield f"      {key}: {json.dumps(value)}"


def _listed(values: Mapping[str, Any], indent: int) -> Iterator[str]:
    for number, (key, value) in enumerate(values.items()):
        yield f"{' ' * indent}{'  ' if number else '- '}{key}: {json.dumps(value)}"


def _pair(key: str, value: Any, indent: int) -> Iterator[str]:
    """Yield a setting; lists of files and sections over several lines."""
    lead = " " * indent
    if isinstance(value, list) and value:
        yield f"{lead}{key}:"
        for entry in value:
            yield from _listed(entry, indent + 2)
    elif isinstance(value, dict):
        yield f"{lead}{key}:"
        for name, one in value.items():
            yield f"{lead}  {name}: {json.dumps(one)}"
    else:
        yield f"{lead}{key}: {json.dumps(value)}"
