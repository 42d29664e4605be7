"""Whether two short answers are the same as mathematics: their text, their units, their value.

math-verify compares values. Before that, what it would misread is put into LaTeX: ``2√{3}`` (it
reads 2), ``9πcm^{2}`` (9πcm², a product of letters), ``1.5e3`` (1.5·e·3), ``30°15'`` (45), an
expression that stands in a sentence.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

# Per expression; generous, so that a busy machine grades as an idle one does.
_SECONDS = 20
_WARM_UP_SECONDS = 600
_LONGEST = 1000
"""Characters of an answer that are looked at, from its end."""

_UNITS: dict[str, tuple[str, float]] = {
    **{"mm": ("length", 1e-3), "cm": ("length", 1e-2), "dm": ("length", 0.1), "m": ("length", 1.0)},
    **{"km": ("length", 1e3), "in": ("length", 0.0254), "ft": ("length", 0.3048)},
    **{"yd": ("length", 0.9144), "mi": ("length", 1609.344)},
    **{"mg": ("mass", 1e-6), "g": ("mass", 1e-3), "kg": ("mass", 1.0), "lb": ("mass", 0.45359237)},
    **{"s": ("time", 1.0), "sec": ("time", 1.0), "min": ("time", 60.0), "h": ("time", 3600.0)},
    **{"hr": ("time", 3600.0), "mL": ("volume", 1e-3), "ml": ("volume", 1e-3)},
    **{"L": ("volume", 1.0), "l": ("volume", 1.0), "unit": ("unit", 1.0), "dollar": ("money", 1.0)},
    **{"°": ("angle", 1.0), "degree": ("angle", 1.0), "deg": ("angle", 1.0)},
    **{
        "rad": ("radian", 1.0),
        "radian": ("radian", 1.0),
        "N": ("force", 1.0),
        "J": ("energy", 1.0),
    },
}
_LONG = {
    **{"millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km", "inch": "in"},
    **{"foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "gram": "g", "kilogram": "kg"},
    **{"pound": "lb", "second": "s", "minute": "min", "hour": "h", "liter": "L", "litre": "L"},
    **{"millimetre": "mm", "centimetre": "cm", "metre": "m", "kilometre": "km", "lbs": "lb"},
    **{"inches": "in", "degrees": "°", "units": "unit", "hrs": "h", "mins": "min"},
}
_NAMES = "|".join(sorted({*_UNITS, *_LONG}, key=len, reverse=True))
_POWER = r"(?:\s*\^\s*\{?\s*(?P<power>-?\d)\s*\}?)?"
_FACTOR = rf"(?:(?P<name>{_NAMES})(?:e?s)?(?![A-Za-z])\.?{_POWER})"
_UNIT = re.compile(
    rf"(?P<before>^|[\d\s)}}\]]|\\pi|°)(?P<square>(?:square|sq|cubic|cu)\.?\s+)?"
    rf"(?P<units>{re.sub('P<[a-z]+>', ':', _FACTOR)}"
    rf"(?:\s*(?P<per>/|per)\s*{re.sub('P<[a-z]+>', ':', _FACTOR)})?)[\s.]*$"
)
_THINGS = re.compile(r"([\d}\]]|\\pi)\s+[A-Za-z]{3,}$")
"""A counted thing, as in "7 sides"; which one it is does not matter."""
_ONE_FACTOR = re.compile(_FACTOR)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = {
    **{"π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "−": "-"},
    **{"–": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∞": r"\infty "},
    **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
    **{"′": "'", "″": '"', "’": "'", "”": '"', "º": "°", "θ": r"\theta ", "α": r"\alpha "},
    **{"β": r"\beta ", "：": ":", "，": ",", "（": "(", "）": ")", "∠": "", "∶": ":"},
}
_BOX = re.compile(r"\\boxed\s*\{")
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LIST_JOINT = re.compile(r"\s*(?:,|;|and|or)\s*(?:and|or)?\s*")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_RUN = re.compile(
    rf"(?:\\[A-Za-z]+|(?<![A-Za-z\\])(?:{_NAMES}|square|sq)(?![A-Za-z])|\d+|[-+*/^=(){{}}\[\]<>%°'.,:!|\s]"
    r"|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z]))+"
)
_SAYS_SOMETHING = re.compile(r"\d|\\pi|\\infty|\\sqrt|\\frac")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An expression in LaTeX and its unit.

    Attributes:
        latex: The expression without its unit.
        dimension: Each base dimension with its power, such as (("length", 2),); empty for none.
        factor: Of the unit, in the dimension's base units.
    """

    latex: str
    dimension: tuple[tuple[str, int], ...] = ()
    factor: float = 1.0


def same(gold: str, answer: str) -> bool | None:
    """Return whether an answer equals the gold one; None if the gold is no mathematics.

    An answer without the gold's unit is right, and so is one in another unit of the same kind
    with the right value; a unit of another kind is wrong. Of several expressions in a text the
    boxed one counts, else the last. ``a ≈ b`` is right by either side, ``a = b = c`` by what it
    comes to: ``c``, or ``b`` where ``c`` is a name.

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
    expected, found = _parse(gold.latex), _parse(answer.latex)
    if not found:
        return False
    if not gold.dimension or not answer.dimension:
        return _verify(expected, found) or (_angle(gold, answer) and _by_radians(gold, answer))
    if gold.dimension != answer.dimension:
        return {gold.dimension, answer.dimension} == {_DEGREES, _RADIANS} and _by_radians(
            gold, answer
        )
    if gold.factor == answer.factor:
        return _verify(expected, found)
    ratio = f"{answer.factor / gold.factor:.12g}"
    scaled = _parse(rf"({answer.latex})\times {scientific(ratio)}")
    return bool(scaled) and _verify(expected, scaled)


_DEGREES, _RADIANS = (("angle", 1),), (("radian", 1),)


def _angle(gold: Quantity, answer: Quantity) -> bool:
    """Whether one is in degrees and the other a bare multiple of π."""
    one, other = (gold, answer) if gold.dimension == _DEGREES else (answer, gold)
    return one.dimension == _DEGREES and not other.dimension and r"\pi" in other.latex


def _by_radians(gold: Quantity, answer: Quantity) -> bool:
    degrees, radians = (gold, answer) if gold.dimension == _DEGREES else (answer, gold)
    turned = _parse(rf"({degrees.latex})\times\frac{{\pi}}{{180}}")
    found = _parse(radians.latex)
    return bool(turned and found) and _verify(turned, found)


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Quantity, ...]:
    """Return the expressions that a text may mean, the likeliest first; none for mere prose."""
    found = _expression(latex(text[-_LONGEST:]))
    if found is None:
        return ()
    forms = [found]
    for sign in (r"\approx", "≈"):
        forms += [part for form in forms for part in form.split(sign) if sign in form]
    forms += [_result(form) for form in forms if "=" in form]
    quantities = dict.fromkeys(map(_with_unit, filter(str.strip, forms)))
    return tuple(q for q in quantities if q.latex)


def _result(equation: str) -> str:
    """Return what an equation or a chain of them comes to: its last side that says something."""
    sides = equation.split("=")
    return next((side for side in reversed(sides) if _SAYS_SOMETHING.search(side)), sides[-1])


def latex(text: str) -> str:
    """Return a text with the signs of plain writing put into LaTeX."""
    text = re.sub("[⁻⁰¹²³⁴-⁹]+", lambda m: f"^{{{m.group().translate(_SUPERSCRIPTS)}}}", text)
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    text = re.sub(r"\\(?:dfrac|tfrac|cfrac)", r"\\frac", text)
    text = re.sub(r"\\(?:left|right|displaystyle|,|;|!|:|quad)(?![A-Za-z])|~", " ", text)
    text = re.sub(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree\b", "°", text)
    text = re.sub(r"√\s*(\{|\()", r"\\sqrt\1", text)
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\sqrt\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:pi|Pi|PI)(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"(\d)\s*\*\s*", r"\1\\cdot ", text)
    text = re.sub(
        r"(\d+(?:\.\d+)?)\s*°\s*(\d+(?:\.\d+)?)\s*'(?:\s*(\d+(?:\.\d+)?)\s*\")?", _minutes, text
    )
    text = re.sub(r"(?<![\d.}])(\d+)\s*/\s*(\d+)\s*(?=\\(?:pi|sqrt))", r"\\frac{\1}{\2}", text)
    return scientific(text)


def scientific(text: str) -> str:
    """Write ``1.5e3`` as a power of ten."""
    return re.sub(r"(?<![A-Za-z\\])(\d+(?:\.\d+)?)[eE]([-+]?\d+)", r"\1\\times 10^{\2}", text)


def _minutes(match: re.Match[str]) -> str:
    degrees, minutes, seconds = match.groups("0")
    return rf"({degrees}+\frac{{{minutes}}}{{60}}+\frac{{{seconds}}}{{3600}})°"


def _expression(text: str) -> str | None:
    """Return what of a text is the answer: boxed, delimited, all of it, or the last in prose."""
    boxes = list(_boxed(text))
    if boxes:
        return boxes[-1]
    if re.match(r"\s*\\?\$\s*[\d.,]+\s*$", text):  # money
        return text.strip().lstrip("\\$")
    found = list(_DELIMITED.finditer(text))
    if found:
        first = len(found) - 1
        while first and _LIST_JOINT.fullmatch(text, found[first - 1].end(), found[first].start()):
            first -= 1
        parts = [next(filter(None, match.groups())) for match in found[first:]]
        after = text[found[-1].end() :].strip(" .")
        return ", ".join(parts) + (f" {after}" if _UNIT.fullmatch(f" {after}") else "")
    text = text.replace("$", "").strip().rstrip(".").strip()
    if not _PROSE.search(_UNIT.sub(lambda m: m["before"], text)):
        return text or None
    runs = [run.strip(" .,:'") for run in _RUN.findall(text)]
    runs = [re.sub(r"^[A-Za-z]\s+(?=[\d\\])", "", run) for run in runs]
    said = [run for run in runs if _SAYS_SOMETHING.search(run)]
    return said[-1] if said else None


def _boxed(text: str) -> Iterator[str]:
    for match in _BOX.finditer(text):
        depth = 1
        for i in range(match.end(), len(text)):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                yield text[match.end() : i]
                break


def _with_unit(text: str) -> Quantity:
    plain = re.sub(r"\\(?:text|mathrm|textrm|mbox|operatorname|rm)\s*\{([^{}]*)\}", r" \1", text)
    plain = plain.strip().rstrip(".")
    match = _UNIT.search(plain)
    if match is None and _THINGS.search(plain):
        return Quantity(_THINGS.sub(r"\1", plain))
    if match is None or not plain[: match.start("units")].strip():
        return Quantity(text.strip().replace("°", r"^{\circ}"))
    factors = list(_ONE_FACTOR.finditer(match["units"]))
    powers: dict[str, int] = {}
    factor = 1.0
    for i, found in enumerate(factors):
        dimension, size = _UNITS[_LONG.get(found["name"], found["name"])]
        power = int(found["power"] or 1) * (-1 if i else 1)
        if i == 0 and match["square"]:
            power = 3 if match["square"].startswith("cu") else 2
        if dimension == "volume":
            dimension, size, power = "length", (size * 1e-3) ** (1 / 3), 3 * power
        powers[dimension] = powers.get(dimension, 0) + power
        factor *= size**power
    kept = plain[: match.start("units")]
    kept = kept[: match.start("square")] if match["square"] else kept
    return Quantity(kept.strip().rstrip(",~").strip(), tuple(sorted(powers.items())), factor)


@lru_cache(maxsize=4096)
def _parse(expression: str) -> tuple[Any, ...]:
    parse, _ = _math_verify()
    return tuple(parse(f"${expression}$", parsing_timeout=_limit(_SECONDS)))


def _verify(gold: tuple[Any, ...], answer: tuple[Any, ...]) -> bool:
    _, verify = _math_verify()
    return bool(verify(list(gold), list(answer), timeout_seconds=_limit(_SECONDS)))


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
