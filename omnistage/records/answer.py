"""The answer that a text gives: the last ``<answer>`` outside the thought."""

import re

_THOUGHT = re.compile(r"<(think|context)>.*?</\1>", re.DOTALL)
_OPEN, _CLOSE = "<answer>", "</answer>"


def last_answer(text: str) -> str:
    """Return what stands in the last ``<answer>…</answer>`` of a text, else all of the text.

    A tag within ``<think>…</think>`` or ``<context>…</context>`` is talked about, not used.

    Example:
        >>> last_answer("<think>the tag <answer> comes last</think><answer> B </answer>")
        'B'
    """
    return _tagged(_outside(text)) or text.strip()


def has_no_answer(text: str) -> bool:
    """Whether a text is nothing but thought, or its last ``<answer>`` is empty."""
    outside = _outside(text)
    return not outside.strip() or _tagged(outside) == ""


def _outside(text: str) -> str:
    return _THOUGHT.sub("", text) if "<think>" in text or "<context>" in text else text


def _tagged(outside: str) -> str | None:
    end = outside.rfind(_CLOSE)
    start = outside.rfind(_OPEN, 0, end) if end >= 0 else -1
    return outside[start + len(_OPEN) : end].strip() if start >= 0 else None
