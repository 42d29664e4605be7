"""What every reward reads: the columns beside the completions, and tagged parts of a text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class RewardFunction(Protocol):
    """Scores completions; called as the trainer does, with the data set's columns as lists."""

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """Return one reward a completion; None leaves that completion out of this reward."""
        ...


def column(columns: Mapping[str, Any], name: str, size: int) -> Sequence[Any]:
    """Return a column as one value for each completion.

    A column that is missing gives None for each; a value that is not a list holds for all.

    Raises:
        ValueError: If the column has another length than the completions.
    """
    values = columns.get(name)
    if not isinstance(values, list | tuple):
        return [values] * size
    if len(values) != size:
        raise ValueError(f"column {name!r} has {len(values)} values for {size} completions")
    return values


def tagged(text: str, tag: str) -> str | None:
    """Return what stands in the last ``<tag>…</tag>`` of a text, stripped, or None without one."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    return text[start + len(tag) + 2 : end].strip() if start >= 0 else None


def gold_answer(solution: object) -> str | None:
    """Return the gold answer in a ``solution``: its ``<answer>`` if tagged, else all of it.

    Returns:
        The answer, or None when the solution is missing or empty.
    """
    if solution is None or isinstance(solution, Mapping | list | tuple):
        return None
    text = str(solution)
    inner = tagged(text, "answer")
    return (text.strip() if inner is None else inner) or None


def prompt_text(messages: object) -> str:
    """Return the text of the system and user turns, one after the other; media items are left out.

    Args:
        messages: OpenAI-style messages, their content a string or a list of items.

    Example:
        >>> prompt_text([{"role": "user", "content": [{"type": "text", "text": "Which?"}]}])
        'Which?'
    """
    return "\n".join(text for text in turns(messages) if text)


def turns(messages: object) -> tuple[str, str]:
    """Return the text of the system turns and that of the user's; see :func:`prompt_text`."""
    found: dict[object, list[str]] = {"system": [], "user": []}
    for message in messages if isinstance(messages, list | tuple) else ():
        parts = found.get(message.get("role")) if isinstance(message, Mapping) else None
        if parts is None:
            continue
        content = message.get("content")
        for item in content if isinstance(content, list | tuple) else [content]:
            text = item.get("text") if isinstance(item, Mapping) else item
            if isinstance(text, str):
                parts.append(text)
    return "\n".join(found["system"]), "\n".join(found["user"])


def log_parsed(columns: Mapping[str, Any], name: str, values: Sequence[Any]) -> None:
    """Hand what a reward read out of the completions to the trainer's table, if there is one.

    Args:
        columns: The reward's columns; the trainer adds ``log_extra(name, values)``, as TRL does.
        name: Column of the table.
        values: One value a completion.
    """
    log = columns.get("log_extra")
    if callable(log):
        log(name, list(values))


def tag_form(text: str, opening: str, joints: Sequence[re.Pattern[str]], closing: str) -> float:
    """Return 1.0 if a text, stripped, opens and closes so with the joints in order, else 0.0.

    The same as a full match of ``opening.*?joint.*?…closing``, but in linear time: such a pattern
    takes minutes on a completion that repeats its tags hundreds of times.
    """
    body = text.strip()
    if not (body.startswith(opening) and body.endswith(closing)):
        return 0.0
    position = len(opening)
    for joint in joints:
        match = joint.search(body, position)
        if match is None:
            return 0.0
        position = match.end()
    return float(position <= len(body) - len(closing))
