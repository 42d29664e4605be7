"""The answer that a text gives: the last ``<answer>`` outside the thought."""

import re

_THOUGHT = re.compile(r"<(think|context)>.*?</\1>", re.DOTALL)
# What a text begins with; where a prompt ends in <think>, its answer has the closing tag alone.
_BEFORE = re.compile(
    r"\s*(?:(?:<(think|context)>.*?</\1>\s*)+|(?:(?!<think>).)*?</think>[ \t]*(?=\n|<answer>))",
    re.DOTALL,
)
_UNCLOSED = re.compile(r"\s*<(think|context)>(?!.*</\1>)", re.DOTALL)
_OPEN, _CLOSE = "<answer>", "</answer>"


def last_answer(text: str) -> str:
    """Return what stands in the last ``<answer>…</answer>`` of a text, else all but its thought.

    A tag within ``<think>…</think>`` or ``<context>…</context>`` is talked about, not used.

    Example:
        >>> last_answer("<think>the tag <answer> comes last</think><answer> B </answer>")
        'B'
        >>> last_answer("<think>3 and 4</think> 7")
        '7'
    """
    return _tagged(_outside(text)) or _bare(text) or text.strip()


def has_no_answer(text: str) -> bool:
    """Whether a text is nothing but thought, or its last ``<answer>`` is empty."""
    outside = _outside(text)
    thought_alone = not outside.strip() or not _bare(text) or _UNCLOSED.match(text) is not None
    return thought_alone or _tagged(outside) == ""


def _outside(text: str) -> str:
    return _THOUGHT.sub("", text) if "<think>" in text or "<context>" in text else text


def _bare(text: str) -> str:
    """Return a text without the thought, and the mark of an answer, that it begins with."""
    before = _BEFORE.match(text) if "</think>" in text or "</context>" in text else None
    after = text[before.end() :].strip() if before else text.strip()
    return after.removeprefix(_OPEN).strip() if before else after


def _tagged(outside: str) -> str | None:
    end = outside.rfind(_CLOSE)
    start = outside.rfind(_OPEN, 0, end) if end >= 0 else -1
    return outside[start + len(_OPEN) : end].strip() if start >= 0 else None
