"""What the candidates of a judge row say: text, whatever it looks like."""

import re

from components.rewrite_paths.draft import Draft
from components.rewrite_paths.media.tags import count_any, path_lines
from omnistage.records.pairs import find_candidates
from omnistage.records.record import MEDIA

PLACE = "\ufdd1"
"""Stands before a tag that a media part of the row has; no text may hold this character."""
_HIDDEN = "\ufdd0"  # no text may hold this one either
_TAG = re.compile(r"<(image|audio|video)>")
_ANY_TAG = (
    r"(?:<\|(?:vision|audio)_(?:bos|start)\|>)?<\|?(?:image|audio|video)(?:_pad)?\|?>"
    r"(?:<\|(?:vision|audio)_(?:eos|end)\|>)?"
)
# What is a medium's place and not a candidate's word: after a blank line a path, or an image as
# the first Qwen-VL has it; where a medium has no other place, a tag that begins a line, if need be
# behind a label, or ends the text.
_PATH_AFTER = re.compile(r"\n[ \t]*\n\s*(?:(?:Image|Audio|Video) file:|<img>[^<>\n]+</img>)")
_LAST_PATH = re.compile(r"\n[ \t]*(?:Image|Audio|Video) file:[^\n]+\s*\Z")
_TAGS_AFTER = re.compile(
    rf"(?:\A|\n)\s*(?:[\w ]{{0,20}}:[ \t]*)?{_ANY_TAG}|\s*(?:{_ANY_TAG}\s*)+\Z", re.I
)
_FIRST_TAG = re.compile(_ANY_TAG, re.I)


def hide_candidates(draft: Draft) -> None:
    """Put marks in the place of the candidates of a draft, and remember what each stands for.

    What a candidate says shows no medium. A medium that stands behind a candidate is none of its
    words: the tag of a media part, and a line of its own where the medium is shown nowhere else.
    """
    for message in draft.messages:
        text = message["content"]
        spans = find_candidates(text) if message["role"] == "user" else None
        if spans is None:
            continue
        between = text[spans.first[1] : spans.second[0]]
        outside = text[: spans.first[0]] + between + text[spans.second[1] :]
        shown = "outside" if draft.quotes else _shown(draft, text, outside)
        mark = _HIDDEN
        while mark in text:
            mark += mark
        for (start, end), name in zip(reversed(spans), "ba", strict=True):
            end = start + _own_length(text[start:end], shown, last=name == "b")
            draft.hidden[f"{mark}{name}"] = _TAG.sub(r"<\\\1>", text[start:end])
            text = f"{text[:start]}{mark}{name}{text[end:]}"
        message["content"] = text


def _shown(draft: Draft, text: str, outside: str) -> str:
    """Say where the media of a row have their places.

    Returns:
        ``none`` without media; ``outside`` where all have one outside the candidates; ``both``
        where the tags outside and inside are just as many as the media; ``inside`` else.
    """
    counts = {name: len(getattr(draft, name)) + draft.places.count(name) for name in MEDIA}
    if not any(counts.values()):
        return "none"
    lines = [kind for *_, kind, _ in path_lines(outside)]
    tags = {name: count_any(outside, name) for name in MEDIA}
    if all(count <= tags[name] + lines.count(name) for name, count in counts.items()):
        return "outside"
    exact = all(count in (0, count_any(text, name)) for name, count in counts.items())
    return "both" if exact and any(tags.values()) else "inside"


def _own_length(text: str, shown: str, last: bool) -> int:
    """Return how much of a candidate's text is its own.

    Args:
        text: The text.
        shown: Where the row's media have their places.
        last: Whether it is the second candidate, behind which nothing else stands.
    """
    marks = {
        "none": [_PATH_AFTER, *([_LAST_PATH] if last else [])],
        "outside": [],
        "both": [_FIRST_TAG],
        "inside": [_PATH_AFTER, _TAGS_AFTER, *([_LAST_PATH] if last else [])],
    }[shown]
    ends = [len(text)]
    ends += [found.start() for mark in marks if (found := mark.search(text))]
    place = text.find(f"{PLACE}<")
    return min(*ends, place) if place >= 0 else min(ends)
