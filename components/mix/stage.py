"""The stage: canonical records of several data sets in, one RewrittenJSONL out.

Of the records that are trained on, those that show what a test record of any set shows are left
out: the same bytes of a medium or, of records without media, the same prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from components.mix.config import MixSettings
from omnistage.errors import InputError
from omnistage.files import counted, read_jsonl, write_jsonl
from omnistage.records.media_facts import media_name, split_files
from omnistage.records.mixing import interleave
from omnistage.records.record import MEDIA, SPLITS, dump
from omnistage.stage.contract import Context, Result, Stage

_NAMED = 3
_RULES = ("on_missing", "on_bad")


@dataclass
class _Shown:
    """What test records show."""

    media: set[str] = field(default_factory=set)
    """The sha256 of each medium."""
    prompts: set[str] = field(default_factory=set)
    """The prompt of each record without media."""

    def add(self, folder: Path) -> None:
        """Add the test records of a data set."""
        digests = {row["path"]: row["sha256"] for row in _media(folder, "test")}
        for record in read_jsonl(folder / "test.jsonl"):
            paths = _paths(record)
            self.media.update(digests[path] for path in paths)
            if not paths:
                self.prompts.add(_prompt(record))

    def leak(self, record: dict[str, Any], digests: dict[str, str]) -> str | None:
        """Return what a record shares with a test record, or None."""
        paths = _paths(record)
        shared = [path for path in paths if digests[path] in self.media]
        if shared:
            return f"{shared[0]} is in a test record"
        if not paths and _prompt(record) in self.prompts:
            return "a test record has the same prompt"
        return None


@dataclass(frozen=True)
class _Part:
    """What is kept of one data set."""

    folder: Path
    prefix: str
    """Put before its paths: the number of the set where there are several."""
    kept: Sequence[tuple[int, int]]
    """Offset and size of the line of each record."""
    read: int


def run(context: Context[MixSettings]) -> Result:
    """Put the records of the inputs ``records`` together.

    The artifact has ``<split>.jsonl``, ``<split>.media.jsonl`` and ``rejected.jsonl``; the files
    of other splits are empty.

    Raises:
        InputError: If there is not a weight for each, or no record is left.
    """
    config, sets = context.config, context.several("records")
    if config.weights and len(config.weights) != len(sets):
        raise InputError(f"{context.step}: {len(config.weights)} weights for {len(sets)} data sets")
    shown = _Shown()
    for tests in context.several("tests"):
        shown.add(context.files(tests, "tests"))
    rejected: list[dict[str, str]] = []
    parts = []
    for number, manifest in enumerate(sets, 1):
        folder = context.files(manifest, "records")
        prefix = f"{number}/" if len(sets) > 1 else ""
        parts.append(_select(folder, prefix, config.split, shown, rejected))
    write_jsonl(context.out / "rejected.jsonl", rejected)
    read = sum(part.read for part in parts)
    if rejected:
        _say(context, rejected, read)
    order = _order(config, [len(part.kept) for part in parts])
    if not order:
        raise InputError(f"{context.step}: no record of the split {config.split} is left")
    for split in SPLITS:
        for name in (f"{split}.jsonl", media_name(split)):
            (context.out / name).touch()  # a reader of records looks for all splits
    _write(context.out, config.split, parts, order)
    rules = [m.produced_by.get("config", {}) for m in sets]
    left_out = read - len(rejected) - len(order)
    return Result(
        counts={
            "rows": read,
            **dict.fromkeys(SPLITS, 0),
            config.split: len(order),
            "rejected": {"shares_media_with_test": len(rejected)} if rejected else {},
            "left_out": {"mixing": left_out} if left_out else {},
        },
        metadata={r: "stop" for r in _RULES if any(rule.get(r) == "stop" for rule in rules)},
    )


def _select(
    folder: Path, prefix: str, split: str, shown: _Shown, rejected: list[dict[str, str]]
) -> _Part:
    """Return which records of a data set are kept; those that leak are added to ``rejected``."""
    digests = {row["path"]: row["sha256"] for row in _media(folder, split)}
    kept: list[tuple[int, int]] = []
    read = offset = 0
    path = folder / f"{split}.jsonl"
    if not path.is_file() or not path.stat().st_size:
        raise InputError(f"{path}: the split is empty; see rejected.jsonl beside it")
    with path.open("rb") as lines:
        for line in lines:
            read += 1
            record = orjson.loads(line)
            leak = shown.leak(record, digests)
            if leak:
                row = {"id": prefix + record["id"], "reason": "shares_media_with_test"}
                rejected.append({**row, "detail": leak})
            else:
                kept.append((offset, len(line)))
            offset += len(line)
    return _Part(folder, prefix, kept, read)


def _order(config: MixSettings, lengths: Sequence[int]) -> list[int]:
    """Return from which data set each record of the result is."""
    if config.weights:
        return interleave(lengths, config.weights, config.mix_until, [config.seed])
    return [place for place, length in enumerate(lengths) for _ in range(length)]


def _write(out: Path, split: str, parts: Sequence[_Part], order: Sequence[int]) -> None:
    """Write the records in order, each with its paths below its set, and what its media are."""
    paths: list[set[str]] = [set() for _ in parts]
    files = [(part.folder / f"{split}.jsonl").open("rb") for part in parts]
    left = [iter(part.kept) for part in parts]
    try:
        with (out / f"{split}.jsonl").open("wb") as target:
            for place in order:
                offset, size = next(left[place])
                files[place].seek(offset)
                record = orjson.loads(files[place].read(size))
                paths[place].update(_paths(record))
                target.write(dump(_below(record, parts[place].prefix)))
    finally:
        for f in files:
            f.close()
    write_jsonl(
        out / media_name(split),
        (
            {**row, "path": part.prefix + row["path"]}
            for part, shown in zip(parts, paths, strict=True)
            for row in _media(part.folder, split)
            if row["path"] in shown
        ),
    )


def _below(record: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a record whose id and paths begin with a prefix."""
    moved = {kind: [prefix + path for path in record[kind]] for kind in MEDIA if kind in record}
    return {**record, **moved, "id": prefix + record["id"]}


def _say(context: Context[MixSettings], rejected: Sequence[dict[str, str]], read: int) -> None:
    named = "; ".join(f"{row['id']}: {row['detail']}" for row in rejected[:_NAMED])
    context.events.warn(f"{len(rejected)} of {counted(read, 'record')} left out: {named}")


def _media(folder: Path, split: str) -> Any:
    return read_jsonl(folder / media_name(split))


def _paths(record: dict[str, Any]) -> list[str]:
    return [path for kind in MEDIA for path in record.get(kind, ())]


def _prompt(record: dict[str, Any]) -> str:
    return "\0".join(m["content"] for m in record["messages"] if m["role"] == "user")


STAGE = Stage(
    name="mix",
    kind="RewrittenJSONL",
    version=1,
    config=MixSettings,
    inputs={"records": "RewrittenJSONL", "tests": "RewrittenJSONL"},
    several=frozenset({"records", "tests"}),
    optional=frozenset({"tests"}),
    reads={"tests": split_files("test")},
    run=run,
    program="components.mix",
)
