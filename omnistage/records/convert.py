"""Writes canonical records in the formats of other trainers.

==============  ===================================================================================
format          file
==============  ===================================================================================
ms_swift        ms-swift's standard JSON Lines: ``messages``, media lists, ``solution``, columns
trl             TRL: ``prompt`` (and ``completion`` where there is an answer turn) as lists of
                turns whose content is text parts and places for media, ``images`` and the other
                media lists as columns, ``solution``, columns; JSON Lines
verl            verl's RL rows: ``data_source``, ``prompt``, media as ``{"image": path}``,
                ``reward_model.ground_truth``, ``extra_info``; JSON Lines
llama_factory   LLaMA-Factory's ShareGPT form as a JSON list, with ``dataset_info.json``
openai          OpenAI chat messages with parts of type ``text``, ``image_url``, ``audio_url`` and
                ``video_url``; JSON Lines. Servers want ``file://`` before absolute paths
==============  ===================================================================================
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from omnistage.errors import InputError, machine_errors
from omnistage.files import write_json
from omnistage.records.record import GOLD, SPLITS, TAGS, prompt_of, read_records

ExportFormat = Literal["ms_swift", "trl", "verl", "llama_factory", "openai"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

_KIND_OF_TAG = {tag: name[:-1] for name, tag in TAGS.items()}
_TAG = re.compile("(" + "|".join(TAGS.values()) + ")")
Write = Callable[[dict[str, Any]], dict[str, Any]]


def convert(
    folder: Path, format: ExportFormat, out: Path, media_root: str | None = None
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
    counts: dict[str, int] = {}
    columns: dict[str, set[str]] = {}
    with machine_errors(f"writing {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            source = folder / f"{split}.jsonl"
            if not source.exists():
                raise InputError(f"{folder}: no {split}.jsonl; not the output of rewrite_paths")
            rows = (writers[format](_placed(r, media_root)) for r in read_records(source))
            suffix = "json" if format == "llama_factory" else "jsonl"
            counts[split], columns[split] = _write(out / f"{split}.{suffix}", rows)
        if format == "llama_factory":
            write_json(out / "dataset_info.json", _dataset_info(columns))
    return {split: count for split, count in counts.items() if count}


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> tuple[int, set[str]]:
    """Write a file, or remove that of an earlier run if there are no rows.

    Returns:
        How many rows there are, and what keys they have.
    """
    as_list = path.suffix == ".json"
    part = path.with_name(f".{path.name}.part")
    count, keys = 0, set[str]()
    try:
        with part.open("wb") as f:
            for row in rows:
                if as_list:
                    f.write(b",\n" if count else b"[\n")
                f.write(orjson.dumps(row) + (b"" if as_list else b"\n"))
                count += 1
                keys.update(row)
            if as_list and count:
                f.write(b"\n]\n")
        if count:
            part.replace(path)
        else:
            path.unlink(missing_ok=True)
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


def _media(record: dict[str, Any]) -> dict[str, list[str]]:
    return {name: record[name] for name in TAGS if name in record}


def _ms_swift(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": record["messages"],
        **_media(record),
        "solution": record["solution"],
        **_gold(record),
        "task": record["task"],
        "source": record["source"],
        "id": record["id"],
    }


def _trl(record: dict[str, Any]) -> dict[str, Any]:
    def turns(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [
            {"role": m["role"], "content": [_trl_part(p) for p in _pieces(m["content"])]}
            for m in messages
        ]

    prompt = prompt_of(record)
    answer = record["messages"][len(prompt) :]
    return {
        "prompt": turns(prompt),
        **({"completion": turns(answer)} if answer else {}),
        **_media(record),
        "solution": record["solution"],
        **_gold(record),
        "task": record["task"],
        "source": record["source"],
        "id": record["id"],
    }


def _trl_part(piece: str) -> dict[str, str]:
    # A path in the part would become a key with no value in the text parts of a table, which chat
    # templates take for one more medium; TRL fills the places from the column.
    kind = _KIND_OF_TAG.get(piece)
    return {"type": kind} if kind else {"type": "text", "text": piece}


def _verl(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "data_source": record["source"],
        "prompt": prompt_of(record),
        **{name: [{name[:-1]: path} for path in paths] for name, paths in _media(record).items()},
        "ability": record["task"],
        "reward_model": {"style": "rule", "ground_truth": record["solution"]},
        "extra_info": {
            "id": record["id"],
            "answer": record["messages"][-1]["content"]
            if record["messages"][-1]["role"] == "assistant"
            else None,
            **_gold(record),
        },
    }


_SHAREGPT = {"user": "human", "assistant": "gpt"}


def _llama_factory(record: dict[str, Any]) -> dict[str, Any]:
    messages = record["messages"]
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
    return row | _media(record)


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
    queues = _queues(record)
    messages = [
        {"role": m["role"], "content": _openai_content(m["content"], queues)}
        for m in record["messages"]
    ]
    return {
        "messages": messages,
        "solution": record["solution"],
        **_gold(record),
        "task": record["task"],
        "source": record["source"],
        "id": record["id"],
    }


def _openai_content(text: str, queues: dict[str, Iterator[str]]) -> str | list[dict[str, Any]]:
    pieces = list(_pieces(text))
    if not any(piece in _KIND_OF_TAG for piece in pieces):
        return text
    parts: list[dict[str, Any]] = []
    for piece in pieces:
        kind = _KIND_OF_TAG.get(piece)
        if kind:
            parts.append({"type": f"{kind}_url", f"{kind}_url": {"url": next(queues[kind])}})
        else:
            parts.append({"type": "text", "text": piece})
    return parts


def _queues(record: dict[str, Any]) -> dict[str, Iterator[str]]:
    return {name[:-1]: iter(record.get(name, [])) for name in TAGS}


def _pieces(text: str) -> Iterator[str]:
    """Yield a text's tags and what stands between them, in order."""
    return (piece for piece in _TAG.split(text) if piece)
