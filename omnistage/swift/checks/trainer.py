"""What is checked in the trainer itself before its first step; a plugin that registers it.

Passed to ms-swift as one of ``--external_plugins`` and as ``--callbacks omnistage``. Here are the
very model, template and settings that are trained with, so that it is seen what goes wrong without
an error: a prompt from which the media are left out, a rejected answer without the image that the
chosen one has, adapters on an encoder that was to be left alone and none on the experts.

What it finds is written into the output folder as ``checks.json``, see :class:`Found`; where
something is wrong the training does not begin.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from swift.callbacks import TrainerCallback, callbacks_map

from omnistage.files import read_jsonl, write_atomic
from omnistage.records.record import MEDIA
from omnistage.swift.checks.spec import FOUND, NAME, VARIABLE, ChecksSpec, Found
from omnistage.swift.family import FAMILIES

FEATURES = {"pixel_values": "image", "pixel_values_videos": "video", "input_features": "audio"}
"""What the template calls the features of a medium."""
_SIDES = ("", "chosen_", "rejected_")
_PARTS: Mapping[str, str] = {
    "aligner": "the projections from the encoders",
    "vision_tower": "the encoders of images and sounds",
    "language_model": "the language model",
}
_RECORDS = 2  # of each kind of media


class TrainingError(Exception):
    """Why the training does not begin."""


class Checks(TrainerCallback):
    """Makes the checks when the training begins."""

    def __init__(self, args: Any, trainer: Any) -> None:
        super().__init__(args, trainer)
        self.spec = ChecksSpec.model_validate_json(os.environ[VARIABLE])

    def on_init_end(self, *args: Any, **kwargs: Any) -> None:
        """Take adapters off what was to be left alone, before there is an optimizer.

        peft resolves the targets of a mixture of experts to bare names, and so puts adapters on
        layers of the audio encoder that have the same names. Untrained they change nothing.
        """
        model: Any = self.trainer.model
        if self.spec.tuner == "lora":
            for name, weight in model.named_parameters():
                if weight.requires_grad and part_of(model, name) in self.spec.frozen:
                    weight.requires_grad_(False)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the checks; the first process writes down what was found.

        Raises:
            TrainingError: If something is wrong.
        """
        found = Found(trainable=trainable(self.trainer.model))
        try:
            check_trainable(self.trainer.model, self.spec)
            if self.spec.rows:
                found.media = check_media(self.trainer, Path(self.spec.rows))
        except TrainingError as e:
            found.problem = str(e)
        if state.is_world_process_zero:
            write_atomic(Path(args.output_dir) / FOUND, found.model_dump_json(indent=2))
        if found.problem:
            raise TrainingError(found.problem)


def part_of(model: Any, name: str) -> str:
    """Return which part of a model a weight belongs to, by ms-swift's table, or ``""``."""
    bare = _bare(name)
    for part in _PARTS:  # an aligner lies within its encoder
        for prefix in getattr(model.model_meta.model_arch, part):
            if bare == prefix or bare.startswith(f"{prefix}."):
                return part
    return ""


def trainable(model: Any) -> dict[str, int]:
    """Return the weights that are trained: module, with ``*`` for a layer's number, to count."""
    found: Counter[str] = Counter()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            found[_module(name)] += getattr(weight, "ds_numel", weight.numel())
    return dict(sorted(found.items()))


def check_trainable(model: Any, spec: ChecksSpec) -> None:
    """Check that what is trained is what was asked for.

    Raises:
        TrainingError: Naming a module that is trained and should not be, or a part that is not.
    """
    trained: dict[str, str] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            trained.setdefault(part_of(model, name), _module(name))
    for part in spec.frozen:
        if part in trained:
            setting = "freeze_aligner" if part == "aligner" else "freeze_vit"
            raise TrainingError(
                f"{setting} is on, but {trained[part]} would be trained, which is part of "
                f"{_PARTS[part]}"
            )
    for part in spec.wanted:
        if part not in trained:
            raise TrainingError(f"no weight of {_PARTS[part]} would be trained")
    modules = trainable(model)
    for expert in spec.experts:
        if not any(expert.rpartition(".")[0] in module for module in modules):
            raise TrainingError(f"no adapter is on the experts ({expert})")


def check_media(trainer: Any, rows: Path) -> str:
    """Check that what the loss is computed from changes when a medium is replaced by another.

    Args:
        trainer: Of ms-swift, about to begin.
        rows: Its data set.

    Returns:
        The changes of the log probabilities, by kind of media.

    Raises:
        TrainingError: If a side of a preference lacks media, or the media change nothing.
    """
    template, model = trainer.template, trainer.model
    changes: dict[str, float] = {}
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for kind, records in _sample(rows).items():
            sides = [(name, _sides(template, record)) for name, record in records]
            for key, medium in FEATURES.items():
                if medium == kind:
                    change = _least_change(trainer, key, medium, sides)
                    changes[medium] = min(change, changes.get(medium, change))
    model.train(was_training)
    return ", ".join(f"{kind} {change:.1e}" for kind, change in changes.items()) or "no media"


def other_features(own: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return features to put in the place of a medium's: another's, or its own turned round."""
    for other in others:
        if other.shape == own.shape and not other.equal(own):
            return other
    return own.flip(0, -1) + 1.0


def _least_change(
    trainer: Any, key: str, medium: str, sampled: Sequence[tuple[str, dict[str, dict[str, Any]]]]
) -> float:
    """Return the least change over the sides of the first record.

    Raises:
        TrainingError: If there is none.
    """
    name, sides = sampled[0]
    changes = []
    for side, encoded in sides.items():
        if encoded.get(key) is None:
            which = f"the {side.removesuffix('_')} answer of " if side else ""
            raise TrainingError(f"{which}record {name!r} is encoded without its {medium}")
        _check_places(trainer, encoded, medium, f"record {name!r}")
        others = [s[side][key] for _, s in sampled[1:] if s[side].get(key) is not None]
        base = _figures(trainer, encoded)
        noise = float((_figures(trainer, encoded) - base).abs().max())
        swapped = encoded | {key: other_features(encoded[key], others)}
        change = float((_figures(trainer, swapped) - base).abs().max())
        if change <= 10 * noise + 1e-6:
            which = f" of its {side.removesuffix('_')} answer" if side else ""
            raise TrainingError(
                f"the loss of record {name!r} does not change ({change:.1e}) when the {medium}"
                f"{which} is replaced: the {medium} does not reach the model"
            )
        changes.append(change)
    return min(changes)


def _check_places(trainer: Any, encoded: Mapping[str, Any], medium: str, record: str) -> None:
    """Check that a medium has as many tokens as features.

    ms-swift looks for tokens by the published models' ids; where a model has others, one token is
    left for a whole image.

    Raises:
        TrainingError: If not.
    """
    family = FAMILIES[trainer.model_meta.model_type]
    processor = trainer.template.processor
    if medium == "audio":
        frames = encoded["feature_attention_mask"].sum(-1).tolist()
        due = sum(family.sound_tokens(int(n)) for n in frames)
    else:
        due = int(encoded[f"{medium}_grid_thw"].prod(-1).sum())
        due //= processor.image_processor.merge_size**2
    token = family.placeholders[medium]
    places = list(encoded["input_ids"]).count(processor.tokenizer.convert_tokens_to_ids(token))
    if places != due:
        raise TrainingError(
            f"{record} has {places} {token} tokens for {due} features of its {medium}: the "
            f"{medium} does not reach the model as it is"
        )


def _figures(trainer: Any, encoded: Mapping[str, Any]) -> torch.Tensor:
    """Return what the loss of one answer is made of.

    That is the log probability of each learned token, or a reward model's score.
    """
    batch = trainer.template._data_collator([dict(encoded)])
    batch = {k: v.to(trainer.args.device) if hasattr(v, "to") else v for k, v in batch.items()}
    labels = batch.pop("labels", None)
    for key in ("text_position_ids", "loss_scale", "channel"):
        batch.pop(key, None)
    logits = trainer.model(**batch).logits.float()
    if labels is None:
        return logits.flatten()
    kept = labels[:, 1:] != -100
    chosen = labels[:, 1:].clamp(min=0).unsqueeze(-1)
    return logits[:, :-1].log_softmax(-1).gather(-1, chosen).squeeze(-1)[kept]


def _sides(template: Any, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Encode a record: one answer under ``""``, or the two of a preference by their prefixes."""
    encoded = template.encode(dict(record))
    if not any(key.startswith("chosen_") for key in encoded):
        return {"": encoded}
    return {
        side: {k.removeprefix(side): v for k, v in encoded.items() if k.startswith(side)}
        for side in _SIDES[1:]
    }


def _sample(rows: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the first records with each kind of media, under the lines that they stand in."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {name[:-1]: [] for name in MEDIA}
    for number, row in enumerate(read_jsonl(rows), 1):
        for name in MEDIA:
            if row.get(name) and len(found[name[:-1]]) < _RECORDS:
                found[name[:-1]].append((str(row.get("id", f"line {number}")), row))
    return {kind: records for kind, records in found.items() if records}


def _bare(name: str) -> str:
    """Return a weight's name without what wrappers put in front of it."""
    return re.sub(r"^(?:module\.|base_model\.model\.)+", "", name)


def _module(name: str) -> str:
    bare = _bare(name).replace(".base_layer", "")
    bare = re.sub(r"\.lora_\w+\..*$|\.(?:weight|bias)$", "", bare)
    return re.sub(r"\.\d+(?=\.|$)", ".*", bare)


callbacks_map[NAME] = Checks
