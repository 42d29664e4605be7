"""Example records for the data card, with their media as data URIs."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from components.rewrite_paths.media.index import MemberIndex
from omnistage.archives.names import group_archives
from omnistage.archives.reader import ArchiveLimits, read_members
from omnistage.errors import InputError
from omnistage.records.preview import MIME_TYPES, data_uri, still
from omnistage.records.record import SPLITS, TAGS, modality_of

PIXELS = 320  # longest side of an image in the card
EMBEDDED = 1_000_000  # bytes of a sound or clip in the card, at most
SEARCHED = 200_000_000  # bytes of a compressed archive read in search of an example, at most
_WINDOWS = 48  # places of a file that examples are looked for
_LINES = 4  # records read at each
_TEXT = 1200  # characters of a turn shown


def find_examples(out: Path, count: int) -> list[dict[str, Any]]:
    """Return records of each split, task and modality, from all over the files.

    Args:
        out: Folder with the split files.
        count: Records of each kind at most.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for split in SPLITS:
        for record in _glimpses(out / f"{split}.jsonl"):
            modality = modality_of(record)
            kind = found.setdefault((split, record["task"], modality), [])
            known = any(record["id"] == other["record"]["id"] for other in kind)
            if len(kind) < count and not known:
                kind.append({"split": split, "modality": modality, "record": record})
    return [example for examples in found.values() for example in examples]


def _glimpses(path: Path) -> Iterator[dict[str, Any]]:
    size = path.stat().st_size
    with path.open("rb") as f:
        for window in range(_WINDOWS):
            f.seek(size * window // _WINDOWS)
            if window:
                f.readline()
            for _ in range(_LINES):
                line = f.readline()
                if line:
                    yield orjson.loads(line)


def show_examples(
    examples: Iterable[dict[str, Any]], data: Path, index: MemberIndex
) -> list[dict[str, Any]]:
    """Return the examples as the page shows them: turns cut to size, media as data URIs.

    Args:
        examples: From :func:`find_examples`.
        data: Folder of the data set, whose archives are read; a medium that cannot be read, or
            only after much of an archive, is named instead.
        index: Its members.
    """
    examples = list(examples)
    paths = {p for e in examples for name in TAGS for p in e["record"].get(name, [])}
    # A member's number is that of its line.
    wanted = {index.at(path) for path in paths}
    media = _read_media(data, wanted)
    shown = []
    for example in examples:
        record = example["record"]
        items = [
            _show(path, name, media.get(path)) for name in TAGS for path in record.get(name, [])
        ]
        turns = [
            {"role": m["role"], "text": _cut(m["content"], 300 if m["role"] == "system" else _TEXT)}
            for m in record["messages"]
        ]
        shown.append(
            {
                "split": example["split"],
                "task": record["task"],
                "modality": example["modality"],
                "id": record["id"],
                "turns": turns,
                "solution": None
                if record["messages"][-1]["role"] == "assistant"
                else _cut(record["solution"], _TEXT),
                "media": items,
            }
        )
    return shown


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rstrip() + " …"


def _read_media(data: Path, wanted: set[int]) -> dict[str, bytes]:
    entries: dict[str, list[dict[str, Any]]] = {}
    with (data / "index.jsonl").open("rb") as f:
        for number, line in enumerate(f):
            if number in wanted:
                entry = orjson.loads(line)
                entries.setdefault(entry["file"], []).append(entry)
    found: dict[str, bytes] = {}
    whole = {a.name for a in group_archives(entries) if len(a.parts) == 1}
    for file, rows in entries.items():
        path = data / "files" / file
        for row in rows:
            if row["member"] is None and path.is_file() and row["size"] <= 20 * EMBEDDED:
                found[row["path"]] = path.read_bytes()
        names = {row["member"]: row["path"] for row in rows if row["member"] is not None}
        if names and file in whole and path.is_file():
            found |= _read_archive(path, names)
    return found


def _read_archive(path: Path, names: dict[str, str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    limits = ArchiveLimits(max_members=10**8, max_bytes=10**15, max_ratio=float("inf"))
    seekable, passed = path.suffix == ".zip", 0
    with path.open("rb") as f:
        try:
            for member in read_members(f, path.stat().st_size, path.name, limits):
                if member.name in names and member.size <= 20 * EMBEDDED:
                    found[names[member.name]] = b"".join(member.chunks())
                passed += 0 if seekable else member.size
                if len(found) == len(names) or passed > SEARCHED:
                    break
        except InputError:
            return found  # the stage download has checked it; the card only shows less
    return found


def _show(path: str, name: str, content: bytes | None) -> dict[str, Any]:
    item: dict[str, Any] = {"path": path, "kind": name[:-1], "uri": None}
    if content is None:
        return item
    if name == "images":
        item["uri"], item["small"] = _thumbnail(content)
    else:
        kind = MIME_TYPES.get(Path(path).suffix.lower())
        if kind and len(content) <= EMBEDDED:
            item["uri"] = data_uri(kind, content)
    return item


def _thumbnail(content: bytes) -> tuple[str | None, bool]:
    """Return the picture as a data URI, None if it cannot be read, and whether it is small."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            small = max(image.size) <= PIXELS // 2
            return still(image, PIXELS, lossless=small), small
    except (OSError, ValueError, Image.DecompressionBombError):
        return None, False
