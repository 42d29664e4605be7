"""The options of a multiple-choice question: in the prompt, so that its answer can be known."""

import ast
import contextlib
import re
from typing import Any

import orjson

from components.rewrite_paths.draft import Draft, Row, RowError
from components.rewrite_paths.formats.numbers import json_text
from omnistage.files import counted
from omnistage.records.answer import last_answer

_NAMES = ("options", "choices", "candidates", "Choice")
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COLUMNS = [
    ("", _UPPER),
    *(
        (before, case)
        for before in ("option_", "choice_", "option")
        for case in (_UPPER, _UPPER.lower())
    ),
]
"""How columns that hold an option each are called: a beginning, and its letters."""
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:option|choice|answer)\b\s*(?:is\b)?\s*:?\s*)?[(\[]?([A-Z])[)\].:]?",
    re.IGNORECASE,
)
_RUN = re.compile(r"[A-Z]{2,6}")
_VALUE = re.compile(r"\$?\s*(\d+(?:\.\d+)?)\s*\$?(?:\s*\S{1,12})?")
_NUMBERED = re.compile(r"\s*[(\[]?\d[)\].:]\s")
_BETWEEN = re.compile(r"\s*[,;/&]\s*|\s+and\s+")
_LABEL = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:]|\s*[-–]\s)")
# What may stand between two options of a list: signs and an "or", and then the label of the next.
_SIGNS = r"['\"\s,;/|)\].]*(?:\b(?:or|and)\b\s*)?['\"]?"
_GAP, _GAP_AND_LABEL = re.compile(_SIGNS), re.compile(_SIGNS + r"[(\[]?[A-Z1-9][)\].:]\s*['\"]?")


def read_options(value: Any) -> list[str]:
    """Return options as texts: a list of texts or numbers, or texts by letter.

    A text may hold the list, as JSON or as Python writes it (MMMU), or an option a line.

    Raises:
        RowError: If they are anything else.
    """
    letters: list[str] | None = None
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, dict):
        value = {key: text for key, text in value.items() if text is not None}
        letters, value = list(value), list(value.values())
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise RowError("bad_field", "options: a list of texts is needed")
    texts = [v if isinstance(v, str) else json_text(v) for v in value]
    if letters is None:
        return texts
    return [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]


def _listed(text: str) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return ast.literal_eval(text.strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if len(lines) > 1 else text


def options_of(row: Row) -> list[str] | None:
    """Return the options of a row, under any of their names; None if it has none."""
    given = next((key for key in _NAMES if row.peek(key)), None)
    if given is not None:
        return read_options(row[given])
    for before, letters in _COLUMNS:
        names = [f"{before}{letter}" for letter in letters]
        names = [name for name in names if row.peek(name) not in (None, "")]
        if names[:2] == [before + letters[0], before + letters[1]]:
            return read_options({name[-1].upper(): row[name] for name in names})
    return None


def show_options(draft: Draft) -> list[str]:
    """Write a draft's options below its question, a line each, unless it already lists them.

    They get letters where the answer is one or several letters and they have none.

    Returns:
        The letters that the answer names; none where it is a text, or there are no options.

    Raises:
        RowError: If the answer is the letter of an option that is not there, or names one option
            by its letter and another by its text.
    """
    options = draft.gold.get("options")
    if not options:
        return []
    last = draft.messages[-1]
    answer = draft.solution
    if answer is None and last["role"] == "assistant":
        answer = last["content"]
    question = next(m for m in reversed(draft.messages) if m["role"] == "user")
    letters: list[str] = []
    if isinstance(answer, str):
        _check_agrees(last_answer(answer), options)
        _check_number(last_answer(answer), options, question["content"])
        letters = _letters(last_answer(answer), options)
    known = _labels(options, letters) or _alphabet(options)
    absent = [letter for letter in letters if letter not in known]
    if absent:
        raise RowError("answer_not_in_options", f"{absent[0]} of {counted(len(options), 'option')}")
    question["content"] = _with_options(question["content"], options, letters)
    return letters


def options_of_pair(question: str, options: list[str], responses: list[str]) -> str:
    """Return a question with its options; a response, which may be wrong, may name no option."""
    letters = [letter for response in responses for letter in _letters(response, options)]
    return _with_options(question, options, letters)


def _with_options(question: str, options: list[str], letters: list[str]) -> str:
    """Return a question with its options, unless it lists them; with letters if any are named."""
    with_letters = bool(letters) and _labels(options, letters) is None
    if _lists(question, options, with_letters):
        return question
    if with_letters:
        options = [f"{letter}. {o}" for letter, o in zip(_alphabet(options), options, strict=True)]
    return "\n".join([question, *options])


def _alphabet(options: list[str]) -> list[str]:
    if len(options) > len(_UPPER):
        raise RowError("bad_field", f"options: {len(options)} are more than there are letters")
    return list(_UPPER[: len(options)])


def _labels(options: list[str], letters: list[str]) -> list[str] | None:
    """Return the letters that options begin with, if these are labels: ``E. coli`` has none."""
    found = [match[1].upper() for match in map(_LABEL.match, options) if match]
    labelled = len(found) == len(options) and found == sorted(set(found))
    return found if labelled and (found[0] == "A" or set(letters) <= set(found)) else None


def _letters(answer: str, options: list[str]) -> list[str]:
    """Return the letters that an answer consists of; none if it is an option itself or a text."""
    answer = answer.strip().strip("*").strip()
    labels = _labels(options, [])
    if labels and labels[0] == "A" and answer in options:
        return [labels[options.index(answer)]]
    texts = {text.casefold() for option in options for text in (option, _unlabelled(option))}
    if answer.casefold() in texts and answer.upper() not in (labels or []):
        return []
    with contextlib.suppress(orjson.JSONDecodeError):
        listed = orjson.loads(answer)
        if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
            answer = ", ".join(listed)
    found = [_LETTER.fullmatch(part.strip()) for part in _BETWEEN.split(answer)]
    letters = [match[1].upper() for match in found if match]
    if len(letters) == len(found):
        return letters
    run = list(answer) if _RUN.fullmatch(answer) else []  # "AC", unless an option has it
    named_so = any(answer in option for option in options)
    if run and not named_so and run == sorted(set(run)) and _place(run[-1]) < len(options):
        return run
    # "B. y" or "(B) y", where y is that option.
    named = _LABEL.match(answer)
    if named is None or _place(named[1]) >= len(options):
        return []
    text, shown = answer[named.end() :].strip(), options[_place(named[1])]
    return [named[1].upper()] if text and text in (shown, _unlabelled(shown)) else []


def _place(letter: str) -> int:
    return ord(letter.upper()) - ord("A")


def _check_agrees(answer: str, options: list[str]) -> None:
    """Refuse an answer that names one option by its letter and another by its text."""
    named = _LABEL.match(answer.strip())
    texts = [_unlabelled(option) for option in options]
    if named is None or answer.strip() in (*options, *texts):
        return
    text, place = answer.strip()[named.end() :].strip(), _place(named[1])
    if text in texts and (place >= len(texts) or texts[place] != text):
        raise RowError(
            "gold_conflict", f"the answer says {named[1]}, but {text[:40]!r} is another option"
        )


def _check_number(answer: str, options: list[str], question: str) -> None:
    """Refuse an answer that counts options: whether from 0 or from 1 cannot be known."""
    if not answer.isdecimal() or int(answer) > len(options):
        return
    # "1. cat" in the options, or such a list in the question, says where counting begins.
    listed = re.compile(r"[01][)\].:]\s*" + re.escape(options[0]))
    numbered = any(_NUMBERED.match(option) for option in options) or listed.search(question)
    values = [found[1] for option in options if (found := _VALUE.fullmatch(_unlabelled(option)))]
    if not numbered and float(answer) not in map(float, values):
        raise RowError(
            "answer_not_in_options",
            f"{answer} is the number of an option, from 0 or from 1; write its letter or its text",
        )


def _unlabelled(option: str) -> str:
    return _LABEL.sub("", option, count=1).strip()


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
