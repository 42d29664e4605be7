"""Canonical records of a benchmark: its items, asked as a protocol says, beside their media."""

import csv
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from components.eval.benchmarks.benchmark import (
    LETTERS,
    Benchmark,
    Folder,
    Item,
    LayoutError,
    Medium,
    Row,
)
from components.eval.protocols.protocol import OMNISTAGE, Protocol
from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from omnistage.records.pairs import JUDGE_INSTRUCTIONS, candidates, judge_prompt
from omnistage.records.plain_text import escape_tags
from omnistage.records.record import TAGS, RecordError, check

_ASKED = {
    "choice": "Answer with the letter of the right choice in <answer></answer>.",
    "multi_choice": "Answer with the letters of all right choices in <answer></answer>.",
    "yes_no": "Answer yes or no in <answer></answer>.",
    "emotion": "Answer with one word in <answer></answer>.",
    "rec": "Answer with its box as [x1, y1, x2, y2] in <answer></answer>.",
}
"""How omnistage's own protocol asks; other tasks ask for the answer in the tags."""
_OTHERWISE = "Put the answer in <answer></answer>."
_RECORDS = "records.jsonl"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        records: Their file.
        count: Their number.
        missing: Media that are not in the folder, by record.
    """

    records: Path
    count: int
    missing: Sequence[str]


def write_records(
    benchmark: Benchmark,
    folder: Path,
    out: Path,
    protocol: Protocol,
    columns: Mapping[str, str] | None = None,
) -> Written:
    """Write a benchmark's records and, as links or copies, the media that they show.

    Args:
        benchmark: The benchmark.
        folder: Where its files lie, archives unpacked.
        out: Folder to write; gets ``records.jsonl`` and the media.
        protocol: How it is asked.
        columns: The file's own name of a column, by the name that the benchmark's reader knows.

    Raises:
        InputError: If the files are not there or not in the layout; names file, row and field.
    """
    source = Folder(folder)
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for where, row in _rows(benchmark, folder, out):
        renamed = {**row, **{ours: row.get(theirs) for ours, theirs in (columns or {}).items()}}
        try:
            items = [_shown(item, protocol) for item in benchmark.read(renamed, source)]
            made = [_record(benchmark, item, protocol) for item in items]
            for record in made:
                check(record)
        except (LayoutError, RecordError) as e:
            raise InputError(f"{where}: {benchmark.title}: {e}") from e
        missing += [f"{i.id}: {m.name}" for i in items for m in i.media if not _place(m, out)]
        rows += made
    if not rows:
        raise InputError(f"{folder}: {benchmark.title} has no rows there")
    repeated, count = Counter(row["id"] for row in rows).most_common(1)[0]
    if count > 1:
        raise InputError(f"{folder}: {benchmark.title}: the id {repeated!r} is there {count} times")
    write_jsonl(out / _RECORDS, rows)
    return Written(out / _RECORDS, len(rows), missing)


def _rows(benchmark: Benchmark, folder: Path, out: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row and where it is: of the files that match the first pattern, or the media.

    What lies in the folder that is written is no input.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not benchmark.files:
        for path in (p for p in _files(folder, "*", out) if p.suffix in (".mp4", ".wav")):
            yield str(path), {"path": path.relative_to(folder).as_posix()}
        return
    found = next((f for p in benchmark.files if (f := _files(folder, p, out))), [])
    if not found:
        needed = "; ".join(f"{f.files} ({f.source}, {f.terms})" for f in benchmark.fetch)
        raise InputError(
            f"{folder}: no file {' or '.join(benchmark.files)}; {benchmark.title} needs {needed}"
        )
    for path in found:
        for number, row in enumerate(_read(path), 1):
            yield f"{path}:{number}", {"number": number - 1, **row}


def _files(folder: Path, pattern: str, out: Path) -> list[Path]:
    return sorted(p for p in folder.rglob(pattern) if p.is_file() and not p.is_relative_to(out))


def _read(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        import pyarrow.parquet  # only for tables, and slow to import

        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(256):
            yield from batch.to_pylist()
    elif path.suffix in (".csv", ".tsv"):
        csv.field_size_limit(sys.maxsize)
        with path.open(newline="", encoding="utf-8") as f:
            yield from csv.DictReader(f, delimiter="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".json":
        try:
            value = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as e:
            raise InputError(f"{path}: not valid JSON: {e}") from e
        if isinstance(value, dict):
            value = [{"key": key, **row} for key, row in value.items() if isinstance(row, dict)]
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise InputError(f"{path}: objects in a list, or by name, are needed")
        yield from value
    else:
        yield from read_jsonl(path)


def _shown(item: Item, protocol: Protocol) -> Item:
    """Return an item with the media that the protocol shows.

    A sound beside a clip is the clip's own: it is left out where it is heard in the clip.
    """
    kinds = {m.kind for m in item.media}
    if "videos" in kinds and protocol.sound != "apart":
        return replace(item, media=[m for m in item.media if m.kind != "audios"])
    return item


def _record(benchmark: Benchmark, item: Item, protocol: Protocol) -> dict[str, Any]:
    media: dict[str, list[str]] = {}
    for medium in item.media:
        media.setdefault(medium.kind, []).append(medium.name)
    tags = "".join(f"{TAGS[medium.kind]}\n" for medium in item.media)
    record: dict[str, Any] = {
        "id": f"{benchmark.name}:{item.id}",
        "source": f"{benchmark.title}/{item.group}" if item.group else benchmark.title,
        "task": item.task,
        "messages": _pair(item, protocol, tags) if item.pair else _asked(item, protocol, tags),
        **media,
        "solution": orjson.dumps({"better": _gold_shown(item, protocol)}).decode()
        if item.pair
        else item.gold,
    }
    if item.options and not item.pair:
        texts = zip(LETTERS, item.options, strict=False)
        record["options"] = (
            list(item.options) if item.task == "emotion" else [f"{n}. {text}" for n, text in texts]
        )
    return record


def _asked(item: Item, protocol: Protocol, tags: str) -> list[dict[str, Any]]:
    lines = [f"{n}. {text}" for n, text in zip(LETTERS, item.options, strict=False)]
    options = ", ".join(item.options) if item.task == "emotion" else "\n".join(lines)
    if protocol is OMNISTAGE:
        parts = [item.question, options, _ASKED.get(item.task, _OTHERWISE)]
        text = "\n".join(part for part in parts if part)
    else:
        text = _filled(protocol, question=item.question, options=options)
    return [*_system(protocol.system), {"role": "user", "content": tags + escape_tags(text)}]


def _pair(item: Item, protocol: Protocol, tags: str) -> list[dict[str, Any]]:
    """Return the prompt of a pair: our own, or the protocol's text before the two answers."""
    first, second = map(escape_tags, _answers(item, protocol))
    system, user = judge_prompt(escape_tags(item.question), first, second)
    if protocol is not OMNISTAGE:
        asked = escape_tags(_filled(protocol, question=item.question, options=""))
        answers = user["content"][user["content"].rindex("<response_a>") :]
        user = {"role": "user", "content": f"{asked}\n\n{answers}"}
        system = {"role": "system", "content": protocol.system or ""}
    else:
        system = {"role": "system", "content": protocol.system or JUDGE_INSTRUCTIONS}
    messages = [*_system(system["content"]), {**user, "content": tags + user["content"]}]
    if candidates(messages) is None:
        raise LayoutError(f"{item.id}: an answer is empty, or holds the marks around answers")
    return messages


def _answers(item: Item, protocol: Protocol) -> tuple[str, str]:
    """Return the two answers in the order that the protocol shows first.

    lmms-eval and VLMEvalKit exchange VL-RewardBench's where their summed length is odd.
    """
    a, b = item.pair or ("", "")
    return (b, a) if _exchanged(item, protocol) else (a, b)


def _gold_shown(item: Item, protocol: Protocol) -> str:
    other = {"A": "B", "B": "A"}.get(item.gold, item.gold)
    return other if _exchanged(item, protocol) else item.gold


def _exchanged(item: Item, protocol: Protocol) -> bool:
    lengths = sum(map(len, item.pair or ()))
    return protocol.name == "lmms_vl_rewardbench" and lengths % 2 == 1


def _filled(protocol: Protocol, **fields: str) -> str:
    text = protocol.template
    for name, value in fields.items():
        text = text.replace("{" + name + "}", value)
    return text


def _system(text: str | None) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}] if text else []


def _place(medium: Medium, out: Path) -> bool:
    """Write a medium to the folder of the records; tell whether it is there."""
    target = out / medium.name
    if target.exists():
        return True
    if medium.path is not None and not medium.path.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if medium.path is None:
        target.write_bytes(medium.data)
        return True
    try:
        os.link(medium.path.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(medium.path, target)
    return True
