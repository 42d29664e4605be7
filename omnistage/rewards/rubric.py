"""OmniCritic-R1's ``mm_rubric``: does the reasoning compare the candidates on five dimensions?

The published reward counts keywords, so ``fluency a b relevance a b …`` earns the full 1.0. Here
a keyword counts only together with words that say something: *own words* are the distinct words
other than dimension keywords, the letters a and b, and labels such as "response".

* A dimension is **mentioned** if one of its keywords stands in a sentence with own words, at least
  half as many as the sentence names dimensions.
* It is **compared** if its segment, from its first mention to the next mention of any other
  dimension, names both candidates (or has a collective word and a comparative), has at least two
  own words, and these are not the very words of a segment already counted: the same phrase pasted
  behind five keywords is one comparison.

A candidate's name is a capital letter (``A``), or either letter behind a label (``response a``),
so the article in "a dog" names nobody.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omnistage.records.verdict import VerdictError, read_object
from omnistage.rewards.columns import column
from omnistage.rewards.omnicritic import UNREADABLE

_DIMENSIONS = {
    "fluency": ("fluency", "coherence", "flow", "coherent"),
    "relevance": ("relevance", "related", "pertinent", "alignment"),
    "accuracy": ("accuracy", "accurate", "correct", "correctness", "precision"),
    "reasoning": ("reasoning", "analysis", "logic", "logical", "inference"),
    "safety": ("safety", "safe", "ethical", "harmless", "toxic", "toxicity"),
}
_DIMENSION_OF = {word: name for name, words in _DIMENSIONS.items() for word in words}
_LABELS = ("candidate", "answer", "response", "model", "option")
_NOT_OWN = {*_DIMENSION_OF, "a", "b", *_LABELS, *(f"{label}s" for label in _LABELS)}
_NAMES = {
    letter: re.compile(rf"(?<!\w){letter}(?!\w)|\b(?i:(?:{'|'.join(_LABELS)})\s+{letter})\b")
    for letter in ("A", "B")
}
_COLLECTIVE = re.compile(
    r"\b(?:both|two|each|either|neither|all|responses?|candidates?|answers?)\b", re.IGNORECASE
)
_COMPARATIVE = re.compile(
    r"\b(?:better|worse|superior|inferior|preferable|outperform\w*|more\s+\w+|less\s+\w+)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?;\n]+")
_COMPARISON_WORDS = 2
_COVERAGE, _COMPARISON = 0.8, 0.2


def mm_rubric(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for reasoning that compares the candidates on the five dimensions, 0 to 1, or -1.

    -1 if the completion is no JSON object (a fence is opened) or its reasoning is no text; else
    ``.8 * mentioned / 5 + .2 * gain``, where gain is ``compared / 5``, or
    ``max(0, compared / 5 - cmp_gt)`` for a sample whose column ``cmp_gt`` (share of dimensions
    compared in the gold reasoning, clipped to 0..1) is given. See the module for what counts.
    """
    gold = column(columns, "cmp_gt", len(completions))
    return [_rubric(text, share) for text, share in zip(completions, gold, strict=True)]


def _rubric(completion: str, cmp_gt: object) -> float:
    try:
        fields, _ = read_object(completion)
    except VerdictError:
        return UNREADABLE
    reasoning = fields.get("reasoning", "")
    if not isinstance(reasoning, str):
        return UNREADABLE
    mentioned, compared = count_dimensions(reasoning)
    gain = compared / len(_DIMENSIONS)
    share = _share(cmp_gt)
    if share is not None:
        gain = max(0.0, gain - share)
    return _COVERAGE * mentioned / len(_DIMENSIONS) + _COMPARISON * gain


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        share = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(share) else max(0.0, min(1.0, share))


def count_dimensions(reasoning: str) -> tuple[int, int]:
    """Return how many of the five dimensions a reasoning mentions, and how many it compares."""
    text = reasoning.replace("<think>", " ").replace("</think>", " ")
    mentioned: set[str] = set()
    for sentence in _SENTENCE_END.split(text):
        words = set(_WORD.findall(sentence.lower()))
        named = {_DIMENSION_OF[word] for word in words & _DIMENSION_OF.keys()}
        if len(named) <= 2 * len(words - _NOT_OWN):
            mentioned |= named
    comparisons: set[frozenset[str]] = set()
    for segment in _segments(text):
        own = frozenset(_WORD.findall(segment.lower())) - _NOT_OWN
        if len(own) >= _COMPARISON_WORDS and _compares(segment):
            comparisons.add(own)
    return len(mentioned), len(comparisons)


def _segments(text: str) -> Iterator[str]:
    """Yield each dimension's segment, from its first mention to the next other dimension."""
    mentions = [
        (match.start(), _DIMENSION_OF[match.group().lower()])
        for match in _WORD.finditer(text)
        if match.group().lower() in _DIMENSION_OF
    ]
    first_seen: set[str] = set()
    for i, (start, dimension) in enumerate(mentions):
        if dimension in first_seen:
            continue
        first_seen.add(dimension)
        ends = (later for later, other in mentions[i + 1 :] if other != dimension)
        yield text[start : next(ends, len(text))]


def _compares(segment: str) -> bool:
    names_both = all(name.search(segment) for name in _NAMES.values())
    return names_both or bool(_COLLECTIVE.search(segment) and _COMPARATIVE.search(segment))
