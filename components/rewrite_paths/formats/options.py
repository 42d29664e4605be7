"""The options of a multiple-choice question: in the prompt, so that its answer can be known."""

import re
from typing import Any

from components.rewrite_paths.draft import Draft, RowError
from components.rewrite_paths.formats.numbers import json_text
from omnistage.records.answer import last_answer

_LETTER = re.compile(r"[(\[]?([A-Z])[)\].:]?")
_LABEL = re.compile(r"[(\[]?[A-Z](?:[)\].:]|\s*[-–]\s)")
# What may stand between two options of a list: signs and an "or", and then the label of the next.
_SIGNS = r"['\"\s,;/|)\].]*(?:\b(?:or|and)\b\s*)?['\"]?"
_GAP, _GAP_AND_LABEL = re.compile(_SIGNS), re.compile(_SIGNS + r"[(\[]?[A-Z1-9][)\].:]\s*['\"]?")


def read_options(value: Any) -> list[str]:
    """Return options as texts: a list of texts or numbers, or texts by letter.

    Raises:
        RowError: If they are anything else.
    """
    letters: list[str] | None = None
    if isinstance(value, dict):
        value = {key: text for key, text in value.items() if text is not None}
        letters, value = list(value), list(value.values())
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise RowError("bad_field", "options: a list of texts is needed")
    texts = [v if isinstance(v, str) else json_text(v) for v in value]
    if letters is None:
        return texts
    return [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]


def show_options(draft: Draft) -> None:
    """Write a draft's options below its question, a line each, unless it already lists them.

    They get letters where the answer is a letter and they have none.

    Raises:
        RowError: If the answer is the letter of an option that is not there.
    """
    options = draft.gold.get("options")
    if not options:
        return
    letter = _answer_letter(draft)
    labelled = all(_LABEL.match(option) for option in options)
    if letter is not None and not labelled and ord(letter) - ord("A") >= len(options):
        raise RowError("answer_not_in_options", f"{letter} of {len(options)} options")
    question = next(m for m in reversed(draft.messages) if m["role"] == "user")
    with_letters = letter is not None and not labelled
    if _lists(question["content"], options, with_letters):
        return
    lines = options
    if with_letters:
        lines = [f"{chr(ord('A') + n)}. {option}" for n, option in enumerate(options)]
    question["content"] = "\n".join([question["content"], *lines])


def _answer_letter(draft: Draft) -> str | None:
    last = draft.messages[-1]
    answer = draft.solution
    if answer is None and last["role"] == "assistant":
        answer = last["content"]
    found = _LETTER.fullmatch(last_answer(answer)) if isinstance(answer, str) else None
    options: list[str] = draft.gold["options"]
    # An option that itself is this letter needs no label to be the answer.
    return None if found is None or last_answer(str(answer)) in options else found[1]


def _lists(text: str, options: list[str], with_letters: bool) -> bool:
    """Whether a text lists the options one after another, if need be each behind its letter."""
    start = text.find(options[0])
    while start >= 0:
        before = text[:start]
        at, found = start + len(options[0]), not before[-1:].isalnum()
        lettered = re.search(r"[(\[]?A[)\].:]\s*$", before) is not None
        for number, option in enumerate(options[1:], 1):
            gaps = [gap for gap in (_GAP.match(text, at), _GAP_AND_LABEL.match(text, at)) if gap]
            gap = next((gap for gap in gaps if text.startswith(option, gap.end())), None)
            if gap is None:
                found = False
                break
            lettered = lettered and chr(ord("A") + number) in gap[0]
            at = gap.end() + len(option)
        if found and not text[at : at + 1].isalnum() and (lettered or not with_letters):
            return True
        start = text.find(options[0], start + 1)
    return False
