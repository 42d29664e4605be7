"""What the candidates of a judge row say: text, whatever it looks like."""

import re

from components.rewrite_paths.draft import Draft
from components.rewrite_paths.media.tags import path_lines
from omnistage.records.pairs import find_candidates
from omnistage.records.record import MEDIA, TAGS

PLACE = "\ufdd1"
"""Stands before a tag that a media part of the row has; no text may hold this character."""
_HIDDEN = "\ufdd0"  # no text may hold this one either
_TAG = re.compile(r"<(image|audio|video)>")
_TAGS_ALONE = r"(?:[\w ]{0,20}:[ \t]*)?(?:<(?:image|audio|video)>[ \t]*)+(?=\n|\Z)"
# What is a medium's place and not a candidate's word: after a blank line a line of tags, a path or
# an image as the first Qwen-VL has it; where a medium has no other place, also the last line.
_AFTER = re.compile(
    rf"\n[ \t]*\n\s*(?:{_TAGS_ALONE}|(?:Image|Audio|Video) file:|<img>[^<>\n]+</img>)"
)
_AFTER_TAGS = re.compile(rf"\n[ \t]*\n\s*{_TAGS_ALONE}|\n[ \t]*{_TAGS_ALONE}\s*\Z")


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
        outside = text[: spans.first[0]] + text[spans.first[1] : spans.second[0]]
        missing = _missing(draft, outside + text[spans.second[1] :])
        mark = _HIDDEN
        while mark in text:
            mark += mark
        for (start, end), name in zip(reversed(spans), "ba", strict=True):
            end = start + _own_length(text[start:end], missing)
            draft.hidden[f"{mark}{name}"] = _TAG.sub(r"<\\\1>", text[start:end])
            text = f"{text[:start]}{mark}{name}{text[end:]}"
        message["content"] = text


def _missing(draft: Draft, outside: str) -> bool | None:
    """Whether a medium of the row has no place outside the candidates; None without media."""
    counts = {name: len(getattr(draft, name)) + draft.places.count(name) for name in MEDIA}
    if not any(counts.values()):
        return None
    lines = [kind for *_, kind, _ in path_lines(outside)]
    return any(
        count > outside.count(TAGS[name]) + lines.count(name) for name, count in counts.items()
    )


def _own_length(text: str, missing: bool | None) -> int:
    """Return how much of a candidate's text is its own."""
    ends = [text.find(f"{PLACE}<")]
    if missing is None:
        paths = _AFTER.search(text)
        ends.append(paths.start() if paths and "<image>" not in paths[0] else -1)
    elif missing:
        ends += [
            found.start() for found in (_AFTER.search(text), _AFTER_TAGS.search(text)) if found
        ]
    return min((end for end in ends if end > 0), default=len(text))
