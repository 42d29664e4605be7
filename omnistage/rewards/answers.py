"""How one short answer is graded against the gold answer, by the kind of question."""

import math
import re
from fractions import Fraction

from rapidfuzz.distance import Levenshtein

_CHOICE = re.compile(r"\(?([A-Za-z])\)?(?:[.:)]\s*.*)?", re.DOTALL)
_NUMBER = re.compile(
    r"[-+]?(?:(?:\d{1,3}(?:,\d{3}){1,12}(?![\d,]*\d)|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:[eE][-+]?\d{1,3})?"
)
_RATIO = re.compile(r"\s*([-+]?\d{1,40})\s*/\s*(\d{1,40})\s*")
_MINUS = str.maketrans("−–", "--")
_HUNDREDTH = Fraction(1, 100)
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def choice(answer: str) -> str:
    """Return the letter of ``B``, ``(b)``, ``B.`` or ``B: a dog``; else the text in lower case."""
    text = answer.strip()
    match = _CHOICE.fullmatch(text)
    return match.group(1).upper() if match else text.casefold()


def choices(answer: str) -> frozenset[str]:
    """Return the set of choices in ``A, C`` or ``happy; sad``."""
    return frozenset(choice(part) for part in re.split(r"[,;，；、]", answer) if part.strip())


def number(answer: str) -> float | None:
    """Return the one number in an answer such as ``1,250.5 m``; None for none or for several."""
    exact = _exact_number(answer)
    return None if exact is None else float(exact)


def _exact_number(answer: str) -> Fraction | None:
    answer = re.sub(r"^\s*([-+])\s+(?=[\d.])", r"\1", answer.translate(_MINUS))
    ratio = _RATIO.fullmatch(answer)
    if ratio and int(ratio[2]):
        return Fraction(int(ratio[1]), int(ratio[2]))
    found = _NUMBER.findall(answer)
    written = found[0].replace(",", "") if len(found) == 1 else "nan"
    return Fraction(written) if math.isfinite(float(written)) else None


def yes_no(answer: str) -> str | None:
    """Return the first ``yes`` or ``no`` that stands as a word, in lower case, or None."""
    match = _YES_NO.search(answer)
    return match.group(1).lower() if match else None


def set_f1(gold: frozenset[str], predicted: frozenset[str]) -> float:
    """Return the F1 of two sets, ``2 |G and P| / (|G| + |P|)``; 0 when both are empty."""
    size = len(gold) + len(predicted)
    return 2 * len(gold & predicted) / size if size else 0.0


def relative_error(gold: float, predicted: float) -> float:
    """Return ``|predicted - gold| / |gold|``; for a gold of 0 it is 0 if met, else infinite."""
    if gold == 0:
        return 0.0 if predicted == 0 else math.inf
    return abs(predicted - gold) / abs(gold)


def word_error_rate(gold: str, predicted: str) -> float:
    """Return the edit distance in words over the gold's number of words, 0 to infinity.

    Words are split at white space and compared as they are. For a gold of no words the divisor
    is 1. In compiled code; ``python -m benchmarks.rewards`` compares it with plain Python.

    Example:
        >>> word_error_rate("the red dog runs", "the dog runs fast")
        0.5
    """
    reference = gold.split()
    return Levenshtein.distance(reference, predicted.split()) / max(1, len(reference))


def same_number(gold: str, predicted: str) -> float | None:
    """Return 1.0 if both numbers agree to 2 decimals, else 0.0; None if the gold is no number.

    They are rounded as floats, as published; numbers of more digits than a float holds are
    compared exactly as well.
    """
    wanted, found = _exact_number(gold), _exact_number(predicted)
    if wanted is None:
        return None
    if found is None or abs(found - wanted) > _HUNDREDTH:
        return 0.0
    return float(round(float(found), 2) == round(float(wanted), 2))


def closeness(gold: str, predicted: str) -> float | None:
    """Return ``1 - min(1, relative error)``; None if the gold is no number."""
    wanted, found = number(gold), number(predicted)
    if wanted is None:
        return None
    return 0.0 if found is None else 1.0 - min(1.0, relative_error(wanted, found))


def text_accuracy(gold: str, predicted: str) -> float:
    """Return ``max(0, 1 - word error rate)``, the score of read text (OCR)."""
    return max(0.0, 1.0 - word_error_rate(gold, predicted))
