"""Writes canonical records in the formats of other trainers.

==============  ===================================================================================
format          file
==============  ===================================================================================
ms_swift        ms-swift's standard JSON Lines: ``messages``, media lists, ``objects``,
                ``solution``, columns
trl             TRL: ``prompt`` (and ``completion`` where there is an answer turn) as lists of
                turns whose content is text parts and places for images, ``images`` as a column,
                ``solution``, columns; JSON Lines. Load it with ``datasets``, and where there are
                images ``cast_column("images", [datasets.Image()])``
verl            verl's RL rows: ``data_source``, ``prompt``, media as ``{"image": path}``,
                ``reward_model.ground_truth``, ``extra_info``; JSON Lines in a file named ``.json``,
                the ending that verl's loader wants
llama_factory   LLaMA-Factory's ShareGPT form as a JSON list, with ``dataset_info.json``
openai          OpenAI chat messages with parts of type ``text``, ``image_url``, ``audio_url`` and
                ``video_url``; JSON Lines. Servers want ``file://`` before absolute paths
==============  ===================================================================================

A record that a format cannot hold is left out, and how many are and why is said: one with more
``<bbox>`` or ``<ref-object>`` than its objects have, or boxes as shares of the image (``norm1``),
where those are written out; the name of a control token, such as ``<|im_end|>``, for all but
OpenAI; TRL 0.29 fills no places for sounds and clips, verl none for sounds; verl and LLaMA-Factory
take every ``<image>`` for a medium; TRL and verl learn the last answer, also one with ``loss:
false``, and LLaMA-Factory every answer; LLaMA-Factory wants turns in alternation.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

import orjson

from omnistage.errors import InputError, machine_errors
from omnistage.events import Events
from omnistage.files import counted, write_json
from omnistage.records.plain_text import for_ms_swift, split_tags, unescape_tags
from omnistage.records.record import GOLD, MEDIA, SPLITS, TAGS, prompt_of, read_records

ExportFormat = Literal["ms_swift", "trl", "verl", "llama_factory", "openai"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

_SUFFIX = {"verl": "json", "llama_factory": "json"}
_TAG = re.compile("|".join(TAGS.values()))
_PLACE = re.compile("<(bbox|ref-object)>")
Write = Callable[[dict[str, Any]], dict[str, Any]]


class CannotHoldError(Exception):
    """The format has no place for something of a record; the message says what."""


def convert(
    folder: Path,
    format: ExportFormat,
    out: Path,
    media_root: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Write the splits of a RewrittenJSONL folder for another trainer.

    Files appear under their final names only when they are whole.

    Args:
        folder: With ``sft.jsonl``, ``rl.jsonl`` and ``test.jsonl``; empty splits are left out.
        format: Name of the format.
        out: Folder to write to; made if missing.
        media_root: Put before each media path: an absolute folder, one relative to where the
            trainer runs, or a URL such as ``file:///data``; without, paths stay relative to the
            media root.
        warn: Told how many records of a split are left out, and why; stderr by default.

    Returns:
        How many records each split has.

    Raises:
        InputError: If the format is unknown, a record is broken, or ``out`` is the input or cannot
            be written.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    if out.resolve() == folder.resolve():
        raise InputError(f"{out}: this would overwrite the records; choose another folder")
    writers: dict[str, Write] = {
        "ms_swift": _ms_swift,
        "trl": _trl,
        "verl": _verl,
        "llama_factory": _llama_factory,
        "openai": _openai,
    }
    warn = warn or Events("convert").warn
    counts: dict[str, int] = {}
    columns: dict[str, set[str]] = {}
    with machine_errors(f"writing {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            source = folder / f"{split}.jsonl"
            if not source.exists():
                raise InputError(f"{folder}: no {split}.jsonl; not the output of rewrite_paths")
            left_out: Counter[str] = Counter()
            records = (_placed(r, media_root) for r in read_records(source))
            rows = _held(records, writers[format], left_out)
            path = out / f"{split}.{_SUFFIX.get(format, 'jsonl')}"
            media = _media_of(source) if format in ("trl", "verl") else ()
            counts[split], columns[split] = _write(path, rows, media, format == "llama_factory")
            _say(split, source, format, left_out, warn)
        if format == "llama_factory":
            write_json(out / "dataset_info.json", _dataset_info(columns))
    return {split: count for split, count in counts.items() if count}


def _held(
    records: Iterator[dict[str, Any]], write: Write, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    for record in records:
        try:
            yield write(record)
        except CannotHoldError as e:
            left_out[str(e)] += 1


def _media_of(source: Path) -> tuple[str, ...]:
    """Return the media lists that any record of a split has."""
    found: set[str] = set()
    for record in read_records(source):
        found.update(name for name in MEDIA if name in record)
    return tuple(name for name in MEDIA if name in found)


def _say(
    split: str, source: Path, format: str, left_out: Counter[str], warn: Callable[[str], None]
) -> None:
    """Say what of a split the format does not hold, or not as the model sees it."""
    for why, count in left_out.items():
        warn(f"{split}: {counted(count, 'record')} left out: {why}")
    boxes = [record.get("objects", {}) for record in read_records(source)]
    boxed = sum(bool(o.get("bbox")) and o.get("bbox_type") != "norm1" for o in boxes)
    if boxed and format != "ms_swift":
        warn(
            f"{split}: boxes of {counted(boxed, 'record')} are written in pixels of the image as "
            "it is; ms-swift alone scales them with the image"
        )


def _write(
    path: Path, rows: Iterator[dict[str, Any]], media: tuple[str, ...], as_list: bool
) -> tuple[int, set[str]]:
    """Write a file, and remove what an earlier run left if there are no rows.

    Args:
        path: The file.
        rows: Its rows.
        media: Columns that each row has, if need be empty: a loader makes null of a missing one,
            and trainers go through it.
        as_list: Whether to write a JSON list.

    Returns:
        How many rows there are, and what keys they have.
    """
    part = path.with_name(f".{path.name}.part")
    count, keys = 0, set[str]()
    try:
        with part.open("wb") as f:
            for row in rows:
                row = {**{name: [] for name in media}, **row}
                if as_list:
                    f.write(b",\n" if count else b"[\n")
                f.write(orjson.dumps(row) + (b"" if as_list else b"\n"))
                count += 1
                keys.update(row)
            if as_list and count:
                f.write(b"\n]\n")
        for old in (path.with_suffix(".jsonl"), path.with_suffix(".json")):
            old.unlink(missing_ok=True)
        if count:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count, keys


def _placed(record: dict[str, Any], root: str | None) -> dict[str, Any]:
    if not root:
        return record
    base = root.rstrip("/")
    return record | {
        name: [f"{base}/{path}" for path in record[name]] for name in TAGS if name in record
    }


def _gold(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in GOLD if key in record}


def _beside(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record has beside turns and media: its answer, gold columns and source."""
    return {
        "solution": record["solution"],
        **_gold(record),
        "task": record["task"],
        "source": record["source"],
        "id": record["id"],
    }


_APPENDS = "LLaMA-Factory"  # whose rows end with an answer, if need be the solution
_CONTROL = re.compile(r"<\|[A-Za-z][A-Za-z0-9_]{1,30}\|>")


def _check_control(record: dict[str, Any], trainer: str) -> None:
    """Check that no text names a control token, which only this project's templates spell out."""
    texts = [message["content"] for message in record["messages"]]
    texts += record.get("objects", {}).get("ref") or []
    for text in [*texts, record["solution"] if trainer == _APPENDS else ""]:
        found = _CONTROL.search(text)
        if found:
            raise CannotHoldError(f"{trainer} takes {found[0]} in a text for a control token")


def _media(record: dict[str, Any]) -> dict[str, list[str]]:
    return {name: record[name] for name in TAGS if name in record}


def _ms_swift(record: dict[str, Any]) -> dict[str, Any]:
    _check_control(record, "ms-swift")
    objects = {"objects": record["objects"]} if "objects" in record else {}
    return {
        "messages": for_ms_swift(record),
        **_media(record),
        **objects,
        **_beside(record),
    }


def _trl(record: dict[str, Any]) -> dict[str, Any]:
    _check_control(record, "TRL")
    for name in ("audios", "videos"):
        if name in record:
            raise CannotHoldError(f"TRL fills no places for {name}")

    def turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"role": m["role"], "content": [_trl_part(*piece) for piece in _pieces(m)]}
            for m in messages
        ]

    _check_learned(record, "TRL")
    record = _written_out(record)
    prompt = prompt_of(record)
    answer = record["messages"][len(prompt) :]
    return {
        "prompt": turns(prompt),
        **({"completion": turns(answer)} if answer else {}),
        **_media(record),
        **_beside(record),
    }


def _trl_part(text: str, kind: str | None) -> dict[str, str]:
    # A path in the part would become a key with no value in the text parts of a table, which chat
    # templates take for one more medium; TRL fills the places from the column.
    return {"type": kind} if kind else {"type": "text", "text": text}


def _verl(record: dict[str, Any]) -> dict[str, Any]:
    _check_control(record, "verl")
    if "audios" in record:
        raise CannotHoldError("verl fills no places for audios")
    _check_learned(record, "verl")
    record = _written_out(record)
    prompt = [{"role": m["role"], "content": m["content"]} for m in prompt_of(record)]
    _check_tags(prompt, "verl")
    last = record["messages"][-1]
    return {
        "data_source": record["source"],
        "prompt": prompt,
        **{name: [{name[:-1]: path} for path in paths] for name, paths in _media(record).items()},
        "ability": record["task"],
        "reward_model": {"style": "rule", "ground_truth": record["solution"]},
        "extra_info": {
            "id": record["id"],
            "answer": last["content"] if last["role"] == "assistant" else None,
            **_gold(record),
        },
    }


def _check_learned(record: dict[str, Any], trainer: str) -> None:
    """Check that the answer a record ends with is one to learn from."""
    if "loss" in record["messages"][-1]:
        raise CannotHoldError(f"{trainer} learns the last answer, also one with loss: false")


def _check_tags(messages: list[dict[str, Any]], trainer: str) -> None:
    """Check that no text has a tag that stands for no medium."""
    for message in messages:
        text = message["content"]
        own = message["role"] == "assistant" and _TAG.search(text)
        if own or unescape_tags(text) != text:
            raise CannotHoldError(f"{trainer} takes every tag for a medium, also one that is text")


def _written_out(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the names and boxes of its ``objects`` in the text."""
    if "objects" not in record:
        return record
    objects = record["objects"]
    if objects.get("bbox_type") == "norm1":
        raise CannotHoldError("its boxes are shares of the image (norm1), which a text cannot say")
    queues = {
        "ref-object": iter(objects.get("ref") or []),
        "bbox": (json.dumps(box) for box in objects.get("bbox") or []),
    }

    def written(found: re.Match[str]) -> str:
        text = next(queues[found[1]], None)
        if text is None:
            raise CannotHoldError(f"the text has more {found[0]} than the objects have")
        return text

    messages = [m | {"content": _PLACE.sub(written, m["content"])} for m in record["messages"]]
    return {key: value for key, value in record.items() if key != "objects"} | {
        "messages": messages
    }


_SHAREGPT = {"user": "human", "assistant": "gpt"}


def _llama_factory(record: dict[str, Any]) -> dict[str, Any]:
    _check_control(record, _APPENDS)
    record = _written_out(record)
    messages = record["messages"]
    _check_tags([*messages, {"role": "assistant", "content": record["solution"]}], _APPENDS)
    if any("loss" in message for message in messages):
        raise CannotHoldError("LLaMA-Factory learns every answer, also one with loss: false")
    if next(m["role"] for m in messages if m["role"] != "system") != "user":
        raise CannotHoldError("LLaMA-Factory wants a user's turn first")
    row: dict[str, Any] = {"conversations": []}
    system = [message["content"] for message in messages if message["role"] == "system"]
    if system:
        row["system"] = "\n".join(system)
    for message in messages:
        if message["role"] != "system":
            row["conversations"].append(
                {"from": _SHAREGPT[message["role"]], "value": message["content"]}
            )
    if messages[-1]["role"] != "assistant":
        row["conversations"].append({"from": "gpt", "value": record["solution"]})
    # Its loader reads the columns that dataset_info.json names and passes over the others.
    return row | _media(record) | _beside(record)


def _dataset_info(columns: dict[str, set[str]]) -> dict[str, Any]:
    """Describe the files; LLaMA-Factory fails on a column that no row of a file has."""
    return {
        f"omnistage_{split}": {
            "file_name": f"{split}.json",
            "formatting": "sharegpt",
            "columns": {
                "messages": "conversations",
                **{name: name for name in ("system", *TAGS) if name in keys},
            },
        }
        for split, keys in columns.items()
        if keys
    }


def _openai(record: dict[str, Any]) -> dict[str, Any]:
    record = _written_out(record)
    queues = _queues(record)
    messages = [
        {
            "role": m["role"],
            "content": _openai_content(m, queues),
            **({"weight": 0} if "loss" in m else {}),
        }
        for m in record["messages"]
    ]
    return {
        "messages": messages,
        **_beside(record),
    }


def _openai_content(
    message: dict[str, Any], queues: dict[str, Iterator[str]]
) -> str | list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for text, kind in _pieces(message):
        if kind:
            url = next(queues[kind])
            base, found, path = url.partition("://")
            # In an address # and ? end the path.
            url = f"{base}://{quote(path, safe='/:@')}" if found else url
            parts.append({"type": f"{kind}_url", f"{kind}_url": {"url": url}})
        else:
            parts.append({"type": "text", "text": text})
    texts_alone = all(part["type"] == "text" for part in parts)
    return "".join(part["text"] for part in parts) if texts_alone else parts


def _queues(record: dict[str, Any]) -> dict[str, Iterator[str]]:
    return {name[:-1]: iter(record.get(name, [])) for name in TAGS}


def _pieces(message: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield a turn's texts and, between them, the kinds of its media, in order."""
    if message["role"] == "assistant":
        return iter([(message["content"], None)] if message["content"] else [])
    return split_tags(message["content"])
