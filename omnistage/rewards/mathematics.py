"""Whether two short answers are the same as mathematics: their text, their units, their value.

math-verify compares values. Before that, what it would misread is put into LaTeX: ``2√{3}`` (it
reads 2), ``9πcm^{2}`` (9πcm², a product of letters), ``1.5e3`` (1.5·e·3), ``30°15'`` (45), an
expression that stands in a sentence, a list of quantities. Units: :mod:`omnistage.rewards.units`.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from omnistage.rewards.units import (
    CURRENCIES,
    NAMES,
    ONE_WORD,
    UNIT,
    Quantity,
    is_sum,
    with_unit,
)

# Per expression; generous, so that a busy machine grades as an idle one does.
_SECONDS = 20
_WARM_UP_SECONDS = 600
_LONGEST = 1000
"""Characters of an answer that are looked at, from its end."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = {
    **{"π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "−": "-"},
    **{"–": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∞": r"\infty "},
    **{"′": "'", "″": '"', "’": "'", "”": '"', "º": "°", "θ": r"\theta ", "α": r"\alpha "},
    **{"β": r"\beta ", "：": ":", "，": ",", "（": "(", "）": ")", "∠": "", "∶": ":"},
    **{"∛": "√[3]", "∜": "√[4]", "△": r"\triangle "},
}
_FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_NUMBER = r"\d+(?:\.\d+)?"
_DECIMAL = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d*)?|[-+]?\.\d+")
_MONEY = re.compile(rf"\s*\\?([{''.join(CURRENCIES)}])\s*(\d[\d.,]*?)[\s.]*")
_EMPHASIS = re.compile(r"(?<![\w)])\*\*(?=\S)(.+?)(?<=\S)\*\*(?![\w(])")
_ABOUT = re.compile(r"^\s*(?:about|approximately|approx\.?|roughly|around|nearly|exactly)\s+", re.I)
_LISTED = re.compile(r"\s*(?:[,;]\s+(?:(?:and|or)\s+)?|\s(?:and|or)\s)\s*")
_VALUE = re.compile(r"(?:\\(?:pi|sqrt|frac|cdot|times)(?![A-Za-z])|[-+*/^{}()\d.\s]|,(?=\d{3}))+")
_DEEPEST = 10
"""Brackets within each other that are read; the time of math-verify doubles with each."""
_TOWER = re.compile(r"(?:\d+|\))(?:\^[-+]?\d+)+")
_MANY_POWERS = re.compile(r"(?:\^[^\^}]{1,9}){6}")
_LARGEST_POWER = 10_000
_BOX = re.compile(r"\\boxed\s*\{")
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LIST_JOINT = re.compile(r"\s*(?:,|;|and|or)\s*(?:and|or)?\s*")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_RUN = re.compile(
    rf"(?:\\[A-Za-z]+|(?<![A-Za-z\\])(?:{NAMES}|square|sq)(?![A-Za-z])|\d+|[-+*/^=(){{}}\[\]<>%°'.,:!|\s]"
    r"|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z]))+"
)
_SAYS_SOMETHING = re.compile(r"\d|\\pi|\\infty|\\sqrt|\\frac")


def same(gold: str, answer: str) -> bool | None:
    """Return whether an answer equals the gold one; None if the gold is no mathematics.

    An answer without the gold's unit is right, and so is one in another unit of the same kind
    with the right value; a unit of another kind is wrong, also one that is not known. A percent
    sign counts as such a unit: a gold of 25 is met by 25%. Decimal numbers are equal in all of
    their digits. Of several expressions in a text the boxed one counts, else the last. ``a ≈ b`` is
    right by either side, ``a = b = c`` by what it comes to: ``c``, or ``b`` where ``c`` is a name.

    Example:
        >>> same("2√{3}", r"$2\\sqrt{3}$"), same("2√{3}", "2")
        (True, False)
        >>> same("9πcm^{2}", "9π"), same("100 cm", "1 m"), same("100 cm", "1 kg")
        (True, True, False)
        >>> same("(see the figure)", "2") is None
        True
    """
    wanted = [quantity for quantity in read(gold) if _parse(quantity.latex)]
    if not wanted:
        return None
    return any(_equal(one, other) for one in wanted for other in read(answer))


def _equal(gold: Quantity, answer: Quantity) -> bool:
    dimensions = {gold.dimension, answer.dimension}
    if not gold.dimension or not answer.dimension:
        return _verify(gold.latex, answer.latex) or (
            _angle(gold, answer) and _by_radians(gold, answer)
        )
    if dimensions == {_DEGREES, _RADIANS}:
        return _by_radians(gold, answer)
    if dimensions in ONE_WORD:
        return _verify(gold.latex, answer.latex)
    if gold.dimension != answer.dimension:
        return False
    if gold.factor == answer.factor:
        return _verify(gold.latex, answer.latex)
    ratio = answer.factor / gold.factor
    scale = rf"\frac{{{ratio.numerator}}}{{{ratio.denominator}}}"
    return _verify(gold.latex, rf"({answer.latex})\times {scale}")


_DEGREES, _RADIANS = (("angle", 1),), (("radian", 1),)


def _angle(gold: Quantity, answer: Quantity) -> bool:
    """Whether one is in degrees and the other a bare multiple of π."""
    one, other = (gold, answer) if gold.dimension == _DEGREES else (answer, gold)
    return one.dimension == _DEGREES and not other.dimension and r"\pi" in other.latex


def _by_radians(gold: Quantity, answer: Quantity) -> bool:
    degrees, radians = (gold, answer) if gold.dimension == _DEGREES else (answer, gold)
    return _verify(rf"({degrees.latex})\times\frac{{\pi}}{{180}}", radians.latex)


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Quantity, ...]:
    """Return the expressions that a text may mean, the likeliest first; none for mere prose."""
    found = _expression(latex(_EMPHASIS.sub(r"\1", text[-_LONGEST:])))
    if found is None:
        return ()
    forms = [_ABOUT.sub("", found)]
    for sign in (r"\approx", "≈"):
        forms += [part for form in forms for part in form.split(sign) if sign in form]
    forms += [_result(form) for form in forms if "=" in form]
    quantities = dict.fromkeys(map(with_unit, filter(str.strip, forms)))
    return tuple(q for q in quantities if q.latex)


def _result(equation: str) -> str:
    """Return what an equation or a chain of them comes to: its last side that says something."""
    sides = equation.split("=")
    return next((side for side in reversed(sides) if _SAYS_SOMETHING.search(side)), sides[-1])


def latex(text: str) -> str:
    """Return a text with the signs of plain writing put into LaTeX."""
    text = re.sub(
        r"(?<![\w)}\]])([²³⁴-⁹])\s*√", lambda m: f"√[{m[1].translate(_SUPERSCRIPTS)}]", text
    )
    text = re.sub("[⁻⁰¹²³⁴-⁹]+", lambda m: f"^{{{m.group().translate(_SUPERSCRIPTS)}}}", text)
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    text = _numbers(text)
    text = re.sub(r"\\(?:dfrac|tfrac|cfrac)", r"\\frac", text)
    text = re.sub(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?", _periodic, text)
    text = re.sub(
        r"(?i)^\s*(zero|one|two|three|four|five|six|seven|eight|nine|ten)\s*$", _word, text
    )
    text = re.sub(rf"({_NUMBER})\s+dozens?\b", r"(\1\\times 12)", text)
    text = re.sub(r"\\(?:left|right|displaystyle|,|;|!|:|quad)(?![A-Za-z])|~", " ", text)
    text = re.sub(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree\b", "°", text)
    text = re.sub(r"√(\[\d+\])?\s*(\{|\()", r"\\sqrt\1\2", text)
    text = re.sub(rf"√(\[\d+\])?\s*({_NUMBER}|[A-Za-z])", r"\\sqrt\1{\2}", text)
    text = re.sub(r"\\sqrt(\[\d+\])?\(([^()]*)\)", r"\\sqrt\1{\2}", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:pi|Pi|PI)(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"(?<![A-Za-z\\])(sin|cos|tan|cot|ln|log)(?![A-Za-z])", r"\\\1 ", text)
    text = re.sub(
        rf"(\\(?:sin|cos|tan|cot))\s*(?:\(\s*({_NUMBER})\s*°\s*\)|\{{?\s*({_NUMBER})\s*°\s*\}}?)",
        lambda m: rf"{m[1]}(\frac{{{m[2] or m[3]}\pi}}{{180}})",
        text,
    )
    text = re.sub(r"(\d)\s*\*\s*", r"\1\\cdot ", text)
    text = re.sub(
        r"(\d+(?:\.\d+)?)\s*°\s*(\d+(?:\.\d+)?)\s*'(?:\s*(\d+(?:\.\d+)?)\s*\")?", _minutes, text
    )
    text = re.sub(r"(?<![\d.}])(\d+)\s*/\s*(\d+)\s*(?=\\(?:pi|sqrt))", r"\\frac{\1}{\2}", text)
    return scientific(text)


def _numbers(text: str) -> str:
    """Return a text with mixed numbers as sums, and without the spaces between thousands."""
    text = re.sub(rf"(\d*)\s*([{_FRACTIONS}])", _fraction, text)
    text = re.sub(
        r"(?<![\d.,])\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\d|\s*/)",
        lambda m: re.sub(r"\s", "", m[0]),
        text,
    )
    text = re.sub(r"(?<![\d.,/^}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", _mixed, text)
    return re.sub(r"(\d)\s*[xX]\s*(?=10\s*\^)", r"\1\\times ", text)


def _fraction(match: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKC", match[2]).split("\u2044")
    written = rf"\frac{{{above}}}{{{below}}}"
    return f"({match[1]}+{written})" if match[1] else written


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    return rf"({whole}+\frac{{{above}}}{{{below}}})" if int(above) < int(below) else match[0]


def scientific(text: str) -> str:
    """Write ``1.5e3`` as a power of ten."""
    return re.sub(r"(?<![A-Za-z\\])(\d+(?:\.\d+)?)[eE]([-+]?\d+)", r"\1\\times 10^{\2}", text)


def _periodic(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    below = (10 ** len(period) - 1) * 10 ** len(fixed)
    above = int(f"{whole}{fixed}{period}") - int(f"{whole}{fixed}" or 0)
    return rf"\frac{{{above}}}{{{below}}}"


_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _word(match: re.Match[str]) -> str:
    return str(_WORDS.index(match[1].lower()))


def _minutes(match: re.Match[str]) -> str:
    degrees, minutes, seconds = match.groups("0")
    return rf"({degrees}+\frac{{{minutes}}}{{60}}+\frac{{{seconds}}}{{3600}})°"


def _expression(text: str) -> str | None:
    """Return what of a text is the answer: boxed, delimited, all of it, or the last in prose."""
    boxes = list(_boxed(text))
    if boxes:
        return boxes[-1]
    if money := _MONEY.fullmatch(text):
        return f"{money[2]} {CURRENCIES[money[1]]}"
    if is_sum(text):
        return text.strip()
    if listed := _list(re.sub(r"\\[()\[\]]|\$", "", text).strip().rstrip(".")):
        return listed
    found = list(_DELIMITED.finditer(text))
    if found:
        first = len(found) - 1
        while first and _LIST_JOINT.fullmatch(text, found[first - 1].end(), found[first].start()):
            first -= 1
        parts = [next(filter(None, match.groups())) for match in found[first:]]
        after = text[found[-1].end() :].strip(" .")
        return ", ".join(parts) + (f" {after}" if UNIT.fullmatch(f" {after}") else "")
    text = text.replace("$", "").strip().rstrip(".").strip()
    if not _PROSE.search(UNIT.sub(lambda m: m["before"], text)):
        return text or None
    runs = [run.strip(" .,:'") for run in _RUN.findall(text)]
    runs = [re.sub(r"^[A-Za-z]\s+(?=[\d\\])", "", run) for run in runs]
    said = [run for run in runs if _SAYS_SOMETHING.search(run)]
    return said[-1] if said else None


def _list(text: str) -> str | None:
    """Return a list of values of one unit with the unit at its end; None for anything else."""
    parts = _LISTED.split(text)
    found = [with_unit(part) for part in parts]
    units = {(q.dimension, q.factor) for q in found if q.dimension}
    values = all(
        _VALUE.fullmatch(q.latex)
        and _SAYS_SOMETHING.search(q.latex)
        and q.latex.count("(") == q.latex.count(")")
        for q in found
    )
    if len(parts) < 2 or not values or len(units) > 1:
        return None
    unit = next(
        (UNIT.search(part) for part, q in zip(parts, found, strict=True) if q.dimension), None
    )
    return ", ".join(q.latex for q in found) + (f" {unit['units']}" if unit else "")


def _boxed(text: str) -> Iterator[str]:
    for match in _BOX.finditer(text):
        depth = 1
        for i in range(match.end(), len(text)):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                yield text[match.end() : i]
                break


@lru_cache(maxsize=4096)
def _parse(expression: str) -> tuple[Any, ...]:
    if _unworkable(expression):
        return ()
    parse, _ = _math_verify()
    return tuple(parse(f"${expression}$", parsing_timeout=_limit(_SECONDS)))


def _unworkable(expression: str) -> bool:
    """Whether math-verify would compute on an expression until its time is up.

    Many brackets or powers within each other, an exponent above 10,000, a factorial above 999.
    """
    if re.search(r"\d{4}\s*[)}]?\s*!", expression):
        return True
    depth = 0
    for sign in expression:
        depth += (sign in "([{") - (sign in ")]}")
        if depth > _DEEPEST:
            return True
    powers = re.sub(r"[\s{(]", "", expression)
    if _MANY_POWERS.search(powers):
        return True
    for tower in _TOWER.findall(powers):
        power = 1
        for exponent in reversed(tower.split("^")[1:]):
            if len(exponent) > 5 or (power > 1 and power * len(exponent) > 20):
                return True
            power = abs(int(exponent)) ** power
            if power > _LARGEST_POWER:
                return True
    return False


def _verify(gold: str, answer: str) -> bool:
    """Whether two expressions are equal; decimal numbers in all of their digits."""
    if _DECIMAL.fullmatch(gold) and _DECIMAL.fullmatch(answer):
        return _exact(gold) == _exact(answer)
    expected, found = _parse(gold), _parse(answer)
    if not expected or not found:
        return False
    _, verify = _math_verify()
    return bool(verify(list(expected), list(found), timeout_seconds=_limit(_SECONDS)))


def finds_gold(text: str, gold: str) -> bool:
    """Whether math-verify, left to find the answer in a whole text by itself, finds the gold one.

    It takes the last thing that looks like an answer; ``lmm_math`` is asked about the answer alone.
    """
    _, verify = _math_verify()
    return verify(_found(text), _found(gold), timeout_seconds=_limit(_SECONDS))


def has_mathematics(text: str) -> bool:
    """Whether math-verify finds anything to compare in a text."""
    return bool(_found(text))


@lru_cache(maxsize=4096)
def _found(text: str) -> list[Any]:
    parse, _ = _math_verify()
    return parse(text, parsing_timeout=_limit(_SECONDS))


def _exact(number: str) -> Fraction:
    return Fraction(number.replace(",", "").rstrip("."))


@cache
def _math_verify() -> tuple[Callable[..., Any], Callable[..., bool]]:
    """Return math-verify's ``parse`` and ``verify``, warmed up.

    The first use loads grammars and parts of sympy, which takes seconds and must not count against
    the time limit of the first answers. Imported here because only the trainer's environment has
    math-verify, while the names of the rewards are known everywhere.
    """
    from math_verify import parse, verify

    limit = _limit(_WARM_UP_SECONDS)
    gold, answer = (parse(text, parsing_timeout=limit) for text in ("$x^2 + x$", "$x(x+1)$"))
    verify(gold, answer, timeout_seconds=limit)
    return parse, verify


def _limit(seconds: int) -> int:
    """Return math-verify's time limit in seconds, 0 for none.

    The limit is kept by a signal, which only the main thread can use.
    """
    return seconds if threading.current_thread() is threading.main_thread() else 0
