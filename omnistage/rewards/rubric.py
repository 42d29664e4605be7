"""Rewards for reasoning that compares two candidates on five dimensions: the rubric.

``mm_rubric`` is OmniCritic-R1's, ``mm_rubric_strict`` the same sum over what a reader would count.
Both work on the words of the reasoning: one pass finds them, the rest looks at their kinds.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from omnistage.rewards.columns import column, log_parsed, turns
from omnistage.rewards.omnicritic import UNREADABLE, read_verdict_object


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


DIMENSIONS = {
    "fluency": ("fluency", "coherence", "flow", "coherent"),
    "relevance": ("relevance", "related", "pertinent", "alignment"),
    "accuracy": ("accuracy", "accurate", "correct", "correctness", "precision"),
    "reasoning": ("reasoning", "analysis", "logic", "logical", "inference"),
    "safety": ("safety", "safe", "ethical", "harmless", "toxic", "toxicity"),
}
"""Each dimension and the words that name it."""

_LABELS = ("candidate", "answer", "response", "model", "option")
_NUMBER = {word: n for n, words in enumerate(DIMENSIONS.values()) for word in words}
_COLLECTIVE = _set(
    "both two each either neither all response responses candidate candidates answer answers"
)
_COMPARATIVE = _set(
    "better worse superior inferior preferable outperform outperforms outperformed outperforming"
)
_DIMENSION_WORDS = frozenset(_NUMBER)
_NOT_OWN = _DIMENSION_WORDS | {
    ".",
    "a",
    "b",
    "think",
    *_LABELS,
    *(f"{label}s" for label in _LABELS),
}
_PLAIN_WORDS = _set(
    "about and are both can does file for from has have how image images audio video clip "
    "sound its not question sentence shows than that the their there they this two was were "
    "what when where which who why will with better worse more less"
)
"""Words that say nothing about a particular question."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MARKS = str.maketrans(
    dict.fromkeys("!?;\n。；！？…", ".")
    | dict.fromkeys(",:()[]{}<>*/|\\`'\"“”‘’«»—–-=+~#%$&@^，：0123456789", " ")
)
"""Ends of sentences and lines become full stops, other marks and digits spaces: it splits a text in
a tenth of ``_TOKEN``'s time (``python -m benchmarks.rewards``)."""
_FEWEST_WORDS = 3
"""A prompt with fewer words of its own, such as one in Chinese, does not tell what is about it."""
_COMPARISON_WORDS = 2
_COVERAGE, _COMPARISON = 0.8, 0.2


def mm_rubric(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for the five dimensions' keywords, -1 or 0 to 1; listing them earns it all.

    Published (OmniCritic-R1): -1 if the completion is unparsable, else
    ``.8 * mentioned / 5 + .2 * gain``. A dimension is mentioned if one of its keywords stands in
    the reasoning. It is compared if its segment, from its first mention to the next mention of
    another dimension, names both candidates (a and b, in any case), or has a collective word
    (both, each, answers, …) and a comparative (better, more X, …). Gain is ``compared / 5``, or
    ``max(0, compared / 5 - cmp_gt)`` with the gold reasoning's share ``cmp_gt``, 0 to 1.

    | case | published | here | why |
    | --- | --- | --- | --- |
    | a fenced answer | -1 | the fence is opened | a right verdict in a fence is readable |
    | ``cmp_gt`` as a column | ignored | used for its own sample | it is what the text says |
    | NaN, a lone ``\\ud800``, deep nesting | see mm_format | see mm_format | see mm_format |

    ``omnistage rewards audit`` shows what this pays for; the recipes use mm_rubric_strict.

    Example:
        >>> mm_rubric(['{"reasoning": "flow a b relevance a b accuracy a b logic a b safe a b"}'])
        [1.0]
        >>> mm_rubric(['{"reasoning": "Accuracy: A beats B."}', "no JSON"])
        [0.2, -1.0]
    """
    return _rewards(completions, columns, lambda text, _: count_dimensions(text))


def mm_rubric_strict(completions: Sequence[str], **columns: Any) -> list[float | None]:
    """Pay for reasoning that compares the candidates at hand on five dimensions, -1 or 0 to 1.

    Not published: the sum of mm_rubric over words that say something. *Own words* are the words
    other than dimension keywords, the letters a and b, and labels such as "response".

    | case | mm_rubric | here | why |
    | --- | --- | --- | --- |
    | a keyword | a mention | in a sentence with half as many own words as dimensions | lists |
    | a comparison | names a and b | and two own words, not those of another segment | padding |
    | "a dog" | names candidate a | capital, or behind a label ("response a") | the article |
    | a sentence of the prompt, or said before | counts | does not | copying, repeating |
    | no word of the question or candidates | counts | earns 0 | one text for every prompt |

    The last two need the column ``messages``; without it they are not checked.

    Example:
        >>> mm_rubric_strict(['{"reasoning": "fluency a b relevance a b accuracy a b"}'])
        [0.0]
        >>> mm_rubric_strict(['{"reasoning": "Accuracy: A says red, B says blue."}'])
        [0.2]
    """
    return _rewards(completions, columns, count_strictly)


def _rewards(completions: Sequence[str], columns: dict[str, Any], count: Any) -> list[float | None]:
    size = len(completions)
    shares = column(columns, "cmp_gt", size)
    prompts = column(columns, "messages", size)
    rewards: list[float | None] = []
    counts: list[str] = []
    for text, share, messages in zip(completions, shares, prompts, strict=True):
        fields, _ = read_verdict_object(text)
        reasoning = None if fields is None else fields.get("reasoning", "")
        if not isinstance(reasoning, str):
            rewards.append(UNREADABLE)
            counts.append("")
            continue
        mentioned, compared = count(reasoning, messages)
        gold = None if share is None else _share(share)
        gain = compared / len(DIMENSIONS)
        gain = gain if gold is None else max(0.0, gain - gold)
        rewards.append(_COVERAGE * mentioned / len(DIMENSIONS) + _COMPARISON * gain)
        counts.append(f"{mentioned} mentioned, {compared} compared")
    log_parsed(columns, "dimensions", counts)
    return rewards


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        share = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(share) else max(0.0, min(1.0, share))


def count_dimensions(reasoning: str) -> tuple[int, int]:
    """Return how many of the five dimensions a reasoning mentions, and how many it compares.

    Example:
        >>> count_dimensions("Fluency: A reads better than B. Safety is fine.")
        (2, 1)
    """
    words = _TOKEN.findall(reasoning.lower())
    segments = [words[start:end] for _, start, end in _segments(words)]
    compared = sum(("a" in part and "b" in part) or _collective(part) for part in segments)
    return len(segments), compared


def count_strictly(reasoning: str, messages: object = None) -> tuple[int, int]:
    """Return how many dimensions a reasoning mentions and compares by mm_rubric_strict's rules.

    Example:
        >>> prompt = [{"role": "user", "content": "Response A: A red dog. Response B: A blue cat."}]
        >>> count_strictly("On accuracy A is better than B.", prompt)
        (0, 0)
        >>> count_strictly("The dog is red. On accuracy A is better than B.", prompt)
        (1, 1)
    """
    prompt = _prompt(*turns(messages)) if messages else _NO_PROMPT
    text = reasoning.replace("<think>", " ").replace("</think>", " ").translate(_MARKS)
    if len(prompt.about) >= _FEWEST_WORDS and prompt.about.isdisjoint(_words(text.lower())):
        return 0, 0
    said: set[str] = set()
    mentioned: set[int] = set()
    spoken: list[str] = []
    for sentence in text.split("."):
        named = sentence.split()
        lowered = " ".join(named).lower()
        if lowered in said or f" {lowered} " in prompt.text:
            continue
        said.add(lowered)
        spoken += named
        unique = frozenset(lowered.split(" "))
        keywords = unique & _DIMENSION_WORDS
        if keywords:
            dimensions = set(map(_NUMBER.__getitem__, keywords))
            if len(dimensions) <= 2 * len(unique - _NOT_OWN):
                mentioned |= dimensions
    return len(mentioned), _comparisons(spoken, mentioned)


def _comparisons(spoken: list[str], mentioned: set[int]) -> int:
    """Return how many of the mentioned dimensions have a comparison of their own."""
    words = list(map(str.lower, spoken))
    found: set[frozenset[str]] = set()
    for dimension, start, end in _segments(words):
        own = frozenset(words[start:end]) - _NOT_OWN
        if (
            dimension in mentioned
            and len(own) >= _COMPARISON_WORDS
            and (_names_both(spoken[start:end]) or _collective(words[start:end]))
        ):
            found.add(own)
    return len(found)


@dataclass(frozen=True, slots=True)
class _Prompt:
    text: str
    """All its words, a space around each."""
    about: frozenset[str]
    """Words of the user's turn that the system's does not have and that are not plain ones."""


@lru_cache(maxsize=1024)
def _prompt(system: str, user: str) -> _Prompt:
    asked, told = _sentences(user), _sentences(system)
    known = {*told, *_NOT_OWN, *_PLAIN_WORDS}
    about = frozenset(w for w in asked if len(w) > 2 and w.isalpha() and w.isascii()) - known
    return _Prompt(f" {' '.join([*told, *asked])} ", about)


def _sentences(text: str) -> list[str]:
    """Return a text's words in lower case, a full stop between its sentences."""
    return text.lower().translate(_MARKS).replace(".", " . ").split()


_NO_PROMPT = _Prompt("", frozenset())


def _words(text: str) -> list[str]:
    return text.replace(".", " ").split()


def _segments(words: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield each dimension's number, and where its segment begins and ends, by first mention."""
    numbers = map(_NUMBER.get, words)
    marks = [(i, number) for i, number in enumerate(numbers) if number is not None]
    seen: set[int] = set()
    for n, (start, dimension) in enumerate(marks):
        if dimension not in seen:
            seen.add(dimension)
            later = (i for i, other in marks[n + 1 :] if other != dimension)
            yield dimension, start, next(later, len(words))


_LETTERS = frozenset("ab")


def _names_both(spoken: list[str]) -> bool:
    """Whether both candidates are named, by a capital or by either letter behind a label."""
    if "A" in spoken and "B" in spoken:
        return True
    found = {"A", "B"}.intersection(spoken)
    if not _LETTERS.isdisjoint(spoken):
        labelled = zip(spoken[1:], spoken, strict=False)
        found |= {
            w.upper() for w, before in labelled if w in ("a", "b") and before.lower() in _LABELS
        }
    return len(found) == 2


def _collective(words: list[str]) -> bool:
    """Whether a segment has a collective word and a comparative."""
    if _COLLECTIVE.isdisjoint(words):
        return False
    if not _COMPARATIVE.isdisjoint(words):
        return True
    return any(w in ("more", "less") and then[0].isalnum() for w, then in pairwise(words))
