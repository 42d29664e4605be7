"""Turns a JSON list of any size into JSON Lines without holding it in memory."""

import re
from collections.abc import Iterator
from pathlib import Path

from components.rewrite_paths.lines import BYTE_ORDER_MARK
from omnistage.errors import InputError

_BLOCK = 1 << 20
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|"|[\[\]{},]', re.S)


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
    with path.open("rb") as f:
        start = f.read(_BLOCK).removeprefix(BYTE_ORDER_MARK).lstrip()[:1]
    if start == b"{":
        return path
    if start != b"[":
        raise InputError(f"{path}: neither a JSON list nor JSON Lines")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        for item in split_items(_blocks(path)):
            out.write(item.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    return target


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
    depth = 0
    at = start = 0
    ended = False
    while True:
        match = _TOKEN.search(buffer, at)
        # A lone quote is a text that goes on in the next block.
        if match is None or match[0] == b'"':
            block = next(blocks, b"")
            if not block:
                break
            cut = match.start() if match else len(buffer)
            buffer, start, at = buffer[start:] + block, 0, cut - start
            continue
        at = match.end()
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth == 1:
                start = at
        elif token in b"]}":
            depth -= 1
        if (token == b"," and depth == 1) or (depth == 0 and not ended):
            item = buffer[start : match.start()].strip()
            if item:
                yield item
            start = at
            ended = depth == 0
        if depth <= 0 and ended:
            break
    rest = buffer[start:] + b"".join(blocks)
    if rest.strip():
        yield rest.strip()
