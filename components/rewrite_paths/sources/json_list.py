"""Turns a JSON list of any size into JSON Lines without holding it in memory."""

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

from components.rewrite_paths.sources.lines import BYTE_ORDER_MARK, rows_of
from omnistage.errors import InputError

_BLOCK = 1 << 20
_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
# What is passed over within an item, up to a bracket, and between items, also up to a comma.
_WITHIN = re.compile(rb'(?:[^"\[\]{}]++|' + _TEXT + rb")*+", re.S)
_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|' + _TEXT + rb")*+", re.S)


def list_to_lines(path: Path, target: Path) -> Path:
    """Write each item of a JSON list as a line, and return the file.

    A file that already is JSON Lines under the name ``.json`` is returned as it is. Items are not
    checked: a broken one becomes a line that its reader rejects, and if a break hides where its
    item ends, all the rest is one last line.

    Args:
        path: JSON list.
        target: File to write.

    Raises:
        InputError: If the file is neither a list nor JSON Lines.
    """
    if not begins_list(path):
        _check_lines(path)
        return path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        for item in split_items(_blocks(path)):
            out.write(item.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    return target


def begins_list(path: Path) -> bool:
    """Whether a file holds a JSON list, whatever its name."""
    with path.open("rb") as f:
        return f.read(_BLOCK).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def _check_lines(path: Path) -> None:
    """Check that a file is JSON Lines, by its first row."""
    first = next(rows_of(path), b"").strip()
    if first[:1] != b"{":
        raise InputError(f"{path}: neither a JSON list nor JSON Lines")
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError as e:
        with path.open("rb") as f:
            end = f.read(_BLOCK).rstrip()[-1:]
        if first == b"{" or (end == b"}" and not first.endswith(b"}")):
            raise InputError(
                f"{path}: one JSON object over several lines; a list of rows, or a row a line, is "
                "needed"
            ) from e


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as f:
        while block := f.read(_BLOCK):
            yield block


def split_items(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the items of a JSON list as they stand in its text.

    Args:
        blocks: The text in pieces; begins with ``[`` after white space or a byte order mark.
    """
    buffer = next(blocks, b"").removeprefix(BYTE_ORDER_MARK)
    depth = at = start = 0
    while True:
        skipped = (_WITHIN if depth > 1 else _BETWEEN).match(buffer, at)
        at = skipped.end() if skipped else at
        token = buffer[at : at + 1]
        # A lone quotation mark begins a text that goes on in what is not read yet.
        if token in (b"", b'"'):
            more = _read_more(blocks, len(buffer) - start)
            if not more:
                break
            buffer, start, at = buffer[start:] + more, 0, at - start
            continue
        at += 1
        if token in b"[{":
            depth += 1
            if depth == 1:
                start = at
        elif token in b"]}":
            depth -= 1
        if depth == 0 or (token == b"," and depth == 1):
            item = buffer[start : at - 1].strip()
            if item:
                yield item
            start = at
            if depth == 0:
                break
    rest = buffer[start:] + b"".join(blocks)
    if rest.strip():
        yield rest.strip()


def _read_more(blocks: Iterator[bytes], known: int) -> bytes:
    """Return at least as much again as is known of an item, so that a long one is read twice."""
    read, size = [], 0
    while size <= known and (block := next(blocks, b"")):
        read.append(block)
        size += len(block)
    return b"".join(read)
