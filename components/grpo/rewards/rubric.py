"""OmniCritic-R1's ``mm_rubric``: does the reasoning compare the candidates on five dimensions?

The published reward counts keywords, so ``fluency a b relevance a b …`` earns the full 1.0. Here
a keyword counts only together with words that say something. A dimension's *segment* runs from
its first mention to the next mention of any other dimension; its *own words* are its distinct
words other than dimension keywords, the letters a and b, and labels such as "response". Then

* a dimension is **mentioned** if its segment has at least one own word;
* it is **compared** if its segment also names both candidates (or has a collective word and a
  comparative), has at least two own words, and these are not the very words of a segment already
  counted: the same phrase pasted behind five keywords is one comparison.

A candidate's name is a capital letter (``A``), or either letter behind a label (``response a``),
so the article in "a dog" names nobody.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from components.grpo.rewards.columns import column
from components.grpo.rewards.omnicritic import UNREADABLE
from omnistage.verdict import VerdictError, read_object

_DIMENSIONS = {
    "fluency": r"fluency|coherence|flow|coherent",
    "relevance": r"relevance|related|pertinent|alignment",
    "accuracy": r"accuracy|accurate|correct(?:ness)?|precision",
    "reasoning": r"reasoning|analysis|logic(?:al)?|inference",
    "safety": r"safety|safe|ethical|harmless|toxic(?:ity)?",
}
_MENTION = re.compile(
    r"\b(?:" + "|".join(f"(?P<{name}>{words})" for name, words in _DIMENSIONS.items()) + r")\b",
    re.IGNORECASE,
)
_LABEL = r"(?:candidate|answer|response|model|option)"
_NAMES = {
    letter: re.compile(rf"(?<!\w){letter}(?!\w)|\b(?i:{_LABEL}\s+{letter})\b")
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
_NOT_OWN = re.compile(rf"{_MENTION.pattern}|[ab]|{_LABEL}s?", re.IGNORECASE)
_MENTION_WORDS, _COMPARISON_WORDS = 1, 2
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
    mentioned = 0
    comparisons: set[frozenset[str]] = set()
    for segment in _segments(reasoning):
        own = frozenset(
            word for word in _WORD.findall(segment.lower()) if not _NOT_OWN.fullmatch(word)
        )
        mentioned += len(own) >= _MENTION_WORDS
        if len(own) >= _COMPARISON_WORDS and _compares(segment):
            comparisons.add(own)
    return mentioned, len(comparisons)


def _segments(reasoning: str) -> Iterator[str]:
    """Yield each dimension's segment, from its first mention to the next other dimension."""
    text = reasoning.replace("<think>", " ").replace("</think>", " ")
    mentions = [(match.start(), match.lastgroup) for match in _MENTION.finditer(text)]
    first_seen: set[str | None] = set()
    for i, (start, dimension) in enumerate(mentions):
        if dimension in first_seen:
            continue
        first_seen.add(dimension)
        ends = (later for later, other in mentions[i + 1 :] if other != dimension)
        yield text[start : next(ends, len(text))]


def _compares(segment: str) -> bool:
    names_both = all(name.search(segment) for name in _NAMES.values())
    return names_both or bool(_COLLECTIVE.search(segment) and _COMPARATIVE.search(segment))
