"""What the rows of one of OmniCritic's files have in common, learned from one of them.

The rows of a file are alike but for a path (which stands twice), a question and a verdict. When the
general path has converted such a row, its line and its record are taken apart into these strings
and the constant bytes between them: a template. A later line with the same constants is the same
JSON with other strings in it; ``fast_path.py`` puts its record together without parsing it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from components.rewrite_paths.convert.row import ConvertedRow
from components.rewrite_paths.media.tags import LINES
from omnistage.records.record import ROLES, TAGS
from omnistage.records.verdict import MAX_SCORE, better_of

ENDING = b"  \\n"
"""What ends a path in OmniCritic's prompts, as it stands in JSON."""
FILE = b" file:"
ANSWER = b'"},{"role":"assistant","content":"'
"""Between the prompt and the answer of a record."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands before a verdict's reasoning tells the scores, and these tell the rest.

    Attributes:
        label: ``A``, ``B`` or ``equal``.
        ending: What must follow the reasoning.
        columns: End of the record, with the gold columns.
        escapes: Backslashes in opening and ending, none of which is a character.
    """

    label: str
    ending: bytes
    columns: bytes
    escapes: int


@cache
def openings_before(last: bytes) -> dict[bytes, Opening]:
    """Return the openings of all consistent verdicts, whose endings are followed by ``last``."""
    openings = {}
    for a in range(MAX_SCORE + 1):
        for b in range(MAX_SCORE + 1):
            better = better_of(a, b)
            verdict = {"score_A": a, "score_B": b, "better": better, "reasoning": "<think>\n"}
            verdict["final_verdict"] = f"<answer>[[{better}]]</answer>"
            text = orjson.dumps(json.dumps(verdict))[1:-1]
            opening, _, ending = text.partition(b"<think>\\\\n")
            gold = {"better": better, "score_A": a, "score_B": b}
            columns = b'",' + orjson.dumps(gold)[1:] + b"\n"
            escapes = (opening + ending).count(b"\\")
            openings[opening] = Opening(better, b"</think>" + ending + last, columns, escapes)
    return openings


@dataclass(frozen=True, slots=True)
class Template:
    """The constant bytes of rows and of their records.

    A row is ``head PATH ENDING TEXT following … second … last``, with the path and the verdict in
    the gaps, in the order that ``path_first`` tells.

    Attributes:
        head: Up to the path in the prompt.
        following: After the prompt's text.
        second: Between the second path and the verdict.
        last: After both.
        path_first: Whether the second path comes before the verdict.
        slash: What separates the components of the path.
        medium: Media list of the record.
        before: Of the record, between the line number and the prompt's text.
        media: Of the record, before the path.
        openings: By what stands before the reasoning; their endings reach to the end of the row
            where the verdict comes last.
        characters: Of the record without the prompt's text and the verdict.
    """

    head: bytes
    following: bytes
    second: bytes
    last: bytes
    path_first: bool
    slash: bytes
    medium: str
    before: bytes
    media: bytes
    openings: dict[bytes, Opening]
    characters: int


def derive(line: bytes, built: ConvertedRow, front: bytes, sft: bool) -> Template | None:
    """Derive a template.

    Args:
        line: A row.
        built: The record that the general path made of it.
        front: How the record begins, up to its line number inclusive.
        sft: Whether the record ends with an assistant turn.

    Returns:
        The template; None if the row is not made of constants and the four strings.
    """
    medium, raw, prompt, answer = _strings(orjson.loads(line))
    if medium is None:
        return None
    before, found, text = prompt.partition(f"{LINES[medium]}{raw}  \n")
    path, question, verdict = (orjson.dumps(value)[1:-1] for value in (raw, text, answer))
    start = line.find(path + ENDING + question)
    if start < 0:
        return None
    head = line[:start]
    rest = line[start + len(path + ENDING + question) :]
    at_path, at_verdict = rest.find(b'"' + path + b'"') + 1, rest.find(verdict)
    if not (found and text and at_path > 0 < at_verdict) or FILE.decode() in before:
        return None
    (at, one), (after, other) = sorted([(at_path, path), (at_verdict, verdict)])
    first, second = rest[:at], rest[at + len(one) : after]
    last = rest[after + len(other) :]
    # The strings must be whole: between quotation marks.
    whole = first[:1] + first[-1:] + second[:1] + second[-1:] + last[:1] == b'"""""'
    media = b'"}],"' + medium.encode() + b'":["'
    end = built.line.find(ANSWER if sft else media)
    if not (whole and built.line.startswith(front) and built.line[:end].endswith(question)):
        return None
    # The gaps must be where the strings are read, not where the same text stands once more.
    gaps = (b"p", b"v") if at_path < at_verdict else (b"v", b"p")
    probe = b"".join([head, b"p", ENDING, b"t", first, gaps[0], second, gaps[1], last])
    try:
        read = _strings(orjson.loads(probe))
    except orjson.JSONDecodeError:  # the path follows a backslash, as in "\\/x/1.png"
        return None
    if read != (medium, "p", f"{before}{LINES[medium]}p  \nt", "v"):
        return None
    return Template(
        head,
        first,
        second,
        last,
        at_path < at_verdict,
        b"\\\\" if b"\\" in path else b"/",
        medium,
        built.line[len(front) : end - len(question)],
        media,
        openings_before(last if at_path < at_verdict else b""),
        built.characters - len(text) - (len(answer) if sft else 0),
    )


def _strings(row: Mapping[str, Any]) -> tuple[str | None, str, str, str]:
    """Return the media list, the path, the prompt and the verdict of a plain row.

    The media list is None if the row is not plain: one medium, one verdict, no further columns.
    """
    nothing = (None, "", "", "")
    old = "input" in row
    media = [key for key in row if key in TAGS or f"{key}s" in TAGS]
    rest = set(row) - set(media) - ({"input", "output"} if old else {"messages", "solution"})
    if len(media) != 1 or rest:
        return nothing
    path = row[media[0]]
    if isinstance(path, list) and len(path) == 1:
        path = path[0]
    if old:
        prompt, answers = row["input"], [row["output"]]
    else:
        turns = [(turn.get("role"), turn.get("content")) for turn in row["messages"]]
        prompts = [content for role, content in turns if role == "user"]
        if len(prompts) != 1 or not {role for role, _ in turns} <= set(ROLES):
            return nothing
        prompt = prompts[0]
        answers = [content for role, content in turns if role == "assistant"]
        answers += [row["solution"]] if "solution" in row else []
    answer = answers[0] if len(answers) == 1 else None
    if not (isinstance(path, str) and isinstance(prompt, str) and isinstance(answer, str)):
        return nothing
    return media[0].removesuffix("s") + "s", path, prompt, answer
