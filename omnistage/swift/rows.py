"""The rows that a training stage trains on: those that the trainer can encode, and no others.

Every record is trained, or rejected with a reason that is counted: nothing is swapped for another
row, cut or left out while training.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnistage.errors import InputError
from omnistage.files import count_lines, counted, read_jsonl, write_jsonl
from omnistage.records.record import Split
from omnistage.records.training_data import write_training_file
from omnistage.stage.contract import Context
from omnistage.stage.media import records_root
from omnistage.swift.data_card import NAME as DATA_CARD
from omnistage.swift.data_card import data_card
from omnistage.swift.encoding import Encoded, encode_records, token_figures
from omnistage.swift.family import Family
from omnistage.swift.lineage import Start
from omnistage.swift.media import MediaSettings
from omnistage.swift.settings import TrainingSettings

REJECTED = "rejected.jsonl"
_NAMED = 3


@dataclass(frozen=True)
class TrainingRows:
    """What a training stage trains on."""

    path: Path
    """The trainer's input file."""
    records: Path
    """The canonical records, with their ids."""
    root: Path
    """Media root."""
    counts: dict[str, Any]
    """``read``, ``records`` (trained) and ``rejected`` by reason."""
    tokens: dict[str, Any]
    """:func:`omnistage.swift.encoding.token_figures` of the rows that are trained."""


def training_file(context: Context[Any], split: Split) -> Path:
    """Return where the trainer's input file is written."""
    return context.work / f"{split}.jsonl"


def count_records(context: Context[Any], split: Split) -> int:
    """Return how many records a split has.

    Raises:
        InputError: If it has none.
    """
    records = context.folder("records") / f"{split}.jsonl"
    count = count_lines(records) if records.is_file() else 0
    if not count:
        raise InputError(f"{records}: the split is empty; see rejected.jsonl beside it")
    return count


def training_rows(
    context: Context[Any], start: Start, config: TrainingSettings, split: Split
) -> TrainingRows:
    """Encode a split's records, set aside those that cannot be trained on, write the others.

    The rejected ones are written to ``rejected.jsonl`` of the artifact: ``id``, ``reason``
    (``missing``, ``too long``, ``cannot be encoded``) and ``detail``. ``data_card.md`` beside it
    sums up what is trained on.

    Args:
        context: The stage's, with inputs ``records`` and ``data``.
        start: What is trained.
        config: The stage's settings.
        split: ``rl`` rows are prompts and keep their gold columns.

    Raises:
        InputError: If no row is left, or the recipe says to stop at such rows.
    """
    root, family = records_root(context), start.family
    records = context.folder("records") / f"{split}.jsonl"
    count_records(context, split)
    check_hearing(records, family, config.media)
    rows = encode_records(context, start, config.media, config.dtype, split, root)
    reasons = [_reason(row, config.max_length) for row in rows]
    rejected = [
        {"id": record.get("id"), "reason": reason[0], "detail": reason[1]}
        for record, reason in zip(read_jsonl(records), reasons, strict=True)
        if reason
    ]
    write_jsonl(context.out / REJECTED, rejected)
    if rejected:
        _report(context, rejected, len(rows), records)
    path = training_file(context, split)
    kept = [reason is None for reason in reasons]
    trained = write_training_file(
        records, root, path, context.events, gold=split == "rl", kept=kept
    )
    good = [row for row, keep in zip(rows, kept, strict=True) if keep]
    figures = token_figures(good)
    context.events.message(
        f"{figures['total']:,} tokens an epoch, {figures['media_share']:.0%} of them media; a "
        f"record has {figures['median']:,} in the middle and {figures['longest']:,} at most"
    )
    by_reason = dict(sorted(Counter(row["reason"] for row in rejected).items()))
    counts = {"read": len(rows), "records": trained, "rejected": by_reason}
    card = data_card(context.step, counts, figures, rejected)
    (context.out / DATA_CARD).write_text(card)
    return TrainingRows(path, records, root, counts, figures)


def check_hearing(records: Path, family: Family, media: MediaSettings) -> None:
    """Check that a model hears if its data have sound.

    Raises:
        InputError: If it cannot.
    """
    if family.hears:
        return
    if media.use_audio_in_video:
        raise InputError(f"media.use_audio_in_video is on, but {family.title} cannot hear")
    sounding = sum(bool(row.get("audios")) for row in read_jsonl(records))
    if sounding:
        have = "record has" if sounding == 1 else "records have"
        raise InputError(
            f"{records.name}: {sounding} {have} sound, but {family.title} cannot hear; "
            "choose an Omni model, or name only record files without sound in "
            f"rewrite_paths.{records.stem}"
        )


def _reason(row: Encoded, max_length: int) -> tuple[str, str] | None:
    if row.missing:
        return "missing", row.missing
    if row.error:
        return "cannot be encoded", row.error
    if row.length > max_length:
        kinds = ", ".join(f"{count} {kind}" for kind, count in row.tokens.items())
        return "too long", f"{row.length} tokens ({kinds}), max_length is {max_length}"
    return None


def _report(
    context: Context[Any], rejected: list[dict[str, Any]], total: int, records: Path
) -> None:
    """Warn of the rejected rows, or stop where the recipe says so."""
    kinds = Counter(row["reason"] for row in rejected)
    reasons = ", ".join(f"{count} {reason}" for reason, count in kinds.items())
    named = "; ".join(f"{row['id']}: {row['detail']}" for row in rejected[:_NAMED])
    of = counted(total, "record")
    text = f"{len(rejected)} of {of} cannot be trained on ({reasons}): {named}"
    made = context.inputs["records"]
    rules = {**made.produced_by.get("config", {}), **made.metadata}
    for setting, found in (
        ("on_missing", kinds["missing"]),
        ("on_bad", kinds.total() - kinds["missing"]),
    ):
        if found and rules.get(setting) == "stop":
            raise InputError(f"{text}. rewrite_paths.{setting} is stop; reject sets them aside")
    if len(rejected) == total:
        raise InputError(f"{records.name}: no record is left to train on; {text}")
    context.events.warn(text)
