"""How much two short texts overlap in words: BLEU-2, ROUGE-1 and METEOR (exact matches)."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

# Ideographs and kana are words of one character, for they are written without spaces.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿]|[^\W぀-ヿ㐀-䶿一-鿿]+")


def words(text: str) -> list[str]:
    """Split a text into lower-case words; punctuation is dropped."""
    return _WORD.findall(text.lower())


def bleu2(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Sentence BLEU with weights (.5, .5) on one- and two-word sequences, 0 to 1.

    Brevity penalty ``exp(1 - r/h)`` for a hypothesis shorter than the reference, times the
    geometric mean of the clipped precisions; unsmoothed (Papineni et al., 2002). A text of one
    word has no pair of words, so then the one-word precision stands alone: otherwise a right
    one-word answer would earn 0.
    """
    if not reference or not hypothesis:
        return 0.0
    orders = (1, 2) if min(len(reference), len(hypothesis)) > 1 else (1,)
    precisions = [_precision(reference, hypothesis, order) for order in orders]
    if 0.0 in precisions:
        return 0.0
    brevity = min(1.0, math.exp(1 - len(reference) / len(hypothesis)))
    return brevity * math.prod(precisions) ** (1 / len(orders))


def _precision(reference: Sequence[str], hypothesis: Sequence[str], order: int) -> float:
    found, wanted = _sequences(hypothesis, order), _sequences(reference, order)
    return (found & wanted).total() / found.total()


def _sequences(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def rouge1(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """ROUGE-1 F: harmonic mean of the precision and recall of words, 0 to 1 (Lin, 2004)."""
    shared = (Counter(reference) & Counter(hypothesis)).total()
    return 2 * shared / (len(reference) + len(hypothesis)) if shared else 0.0


def meteor(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """METEOR with exact matches only (no stems, no synonyms), 0 to 1 (Banerjee and Lavie, 2005).

    ``10PR / (R + 9P) * (1 - .5 * (chunks / matches)^3)``. Words are matched from the end of the
    hypothesis backwards, each to the last free equal word of the reference, as NLTK does; chunks
    are runs of matches adjacent in both texts. Equal texts of n words give ``1 - .5 / n^3``.
    """
    free: dict[str, list[int]] = {}
    for position, word in enumerate(reference):
        free.setdefault(word, []).append(position)
    matches = [
        (i, free[hypothesis[i]].pop())
        for i in reversed(range(len(hypothesis)))
        if free.get(hypothesis[i])
    ]
    if not matches:
        return 0.0
    chunks = 1 + sum(later != (i + 1, j + 1) for later, (i, j) in pairwise(matches))
    precision, recall = len(matches) / len(hypothesis), len(matches) / len(reference)
    mean = 10 * precision * recall / (recall + 9 * precision)
    return mean * (1 - 0.5 * (chunks / len(matches)) ** 3)
