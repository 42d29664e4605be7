"""The same questions with their options in every other rotation, to see whether place decides.

In rotation r every option stands r places further on, the last ones in front: ``A. cat B. dog C.
ox`` becomes ``A. ox B. cat C. dog``. The letters stay where they are and the options' texts move.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.eval.records import TestRecord
from components.eval.tasks.task import show

Prompt = dict[str, Any]
_BETWEEN = r"['\"\s,;/|)\].]*(?:\b(?:or|and)\b\s*)?"
# Options that name others by place mean something else in another place.
_ABOUT_OTHERS = re.compile(
    r"\b(above|below|foregoing|preceding|all of|none of|neither|both)\b|\b[A-Z] (and|or) [A-Z]\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Where the options of a question stand in its prompt.

    Attributes:
        message: Number of the message.
        spans: Start and end of each option's text in it, in order.
    """

    message: int
    spans: tuple[tuple[int, int], ...]


def find_options(record: TestRecord) -> Options | None:
    """Return where a record of ``choice`` lists its options, each behind its letter.

    Returns:
        None where they are not listed just once, or one of them is about the others, such as "all
        of the above".
    """
    if record.task.name != "choice" or record.error is not None:
        return None
    texts = [text.strip() for _, text in show(record.row).candidates]
    letters = [chr(ord("A") + n) for n in range(len(texts))]
    if len(texts) < 2 or record.gold not in letters or any(map(_ABOUT_OTHERS.search, texts)):
        return None
    listed = _BETWEEN.join(
        rf"(?<![A-Za-z0-9])[(\[]?{letter}[)\].:]\s*['\"]?({re.escape(text)})"
        for letter, text in zip(letters, texts, strict=True)
    )
    pattern = re.compile(rf"{listed}(?![A-Za-z0-9])")
    found = [
        (number, match)
        for number, message in enumerate(record.prompts[0].messages)
        if message["role"] == "user"
        for match in pattern.finditer(message["content"])
    ]
    if len(found) != 1:
        return None
    number, match = found[0]
    return Options(number, tuple(match.span(n) for n in range(1, len(texts) + 1)))


def rotations_of(record: TestRecord) -> int:
    """Return in how many orders the options of a record are asked: 1 where they cannot be moved."""
    options = find_options(record)
    return len(options.spans) if options else 1


def rotated_prompts(records: Sequence[TestRecord], prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts of all rotations, with ids that :func:`rotated_answers` knows.

    Args:
        records: All test records.
        prompts: With ``id``, ``messages`` and media.
    """
    by_id = {record.id: record for record in records}
    changed = []
    for prompt in prompts:
        record = by_id.get(prompt["id"])
        options = find_options(record) if record else None
        for rotation in range(1, len(options.spans) if options else 0):
            assert options
            messages = _rotated(prompt["messages"], options, rotation)
            name = rotated_id(rotation, prompt["id"])
            changed.append({**prompt, "id": name, "messages": messages})
    return changed


def rotated_answers(
    records: Sequence[TestRecord], answers: Mapping[str, Any], *, strict: bool
) -> dict[str, list[str | None]]:
    """Return what a model says in each rotation, the record's own order first.

    Args:
        records: All test records.
        answers: A model's answers by prompt id, those to :func:`rotated_prompts` among them.
        strict: Whether an answer must have the format that was asked for.

    Returns:
        By record id, of each record whose options are rotated, the letters that the options named
        have in the record; None for an answer that names none of them.
    """
    found: dict[str, list[str | None]] = {}
    for record in records:
        options = find_options(record)
        if options is None:
            continue
        size = len(options.spans)
        said = []
        for rotation in range(size):
            row = answers[rotated_id(rotation, record.id) if rotation else record.id]
            letter = record.task.read(record.row, row.get("text") or "", 0, strict)
            said.append(None if row.get("error") else own_letter(letter, rotation, size))
        found[record.id] = said
    return found


def own_letter(letter: str | None, rotation: int, size: int) -> str | None:
    """Return the letter in the record of the option that stands at a letter in a rotation.

    Args:
        letter: In the rotation; None, or one behind the options', for none.
        rotation: Places that every option is moved on.
        size: Number of options.
    """
    place = ord(letter) - ord("A") if letter and len(letter) == 1 else -1
    return chr(ord("A") + (place - rotation) % size) if 0 <= place < size else None


def _rotated(
    messages: Sequence[dict[str, Any]], options: Options, rotation: int
) -> list[dict[str, Any]]:
    text = messages[options.message]["content"]
    texts = [text[start:end] for start, end in options.spans]
    parts, at = [], 0
    for place, (start, end) in enumerate(options.spans):
        parts += [text[at:start], texts[(place - rotation) % len(texts)]]
        at = end
    changed = {**messages[options.message], "content": "".join([*parts, text[at:]])}
    return [changed if n == options.message else m for n, m in enumerate(messages)]


def rotated_id(rotation: int, prompt_id: str) -> str:
    """Return the id of a prompt with every option so many places further on."""
    return f"rotation {rotation}\n{prompt_id}"
