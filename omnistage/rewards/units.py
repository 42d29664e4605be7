"""The units of short answers: which they are, and what stands before them."""

import re
from dataclasses import dataclass
from fractions import Fraction
from operator import gt

_PREFIXES = {"p": -12, "n": -9, "μ": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9}
_PREFIX_WORDS = {
    **{"nano": "n", "micro": "μ", "milli": "m", "centi": "c", "deci": "d"},
    **{"kilo": "k", "mega": "M", "giga": "G"},
}
_METRIC = {
    **{"m": ("length", "nμmcdk"), "g": ("mass", "μmk"), "s": ("time", "nμm")},
    **{"L": ("volume", "m"), "l": ("volume", "m"), "Hz": ("frequency", "kMG")},
    **{"N": ("force", "mk"), "J": ("energy", "mkM"), "eV": ("energy in eV", "kMG")},
    **{
        "mol": ("amount", "nμm"),
        "cal": ("calorie", "k"),
        "lx": ("light", "k"),
        "dB": ("level", ""),
    },
    **{"W": ("power", "mkMG"), "Pa": ("pressure", "kM"), "V": ("voltage", "mk")},
    **{"A": ("current", "μm"), "Ω": ("resistance", "kM"), "C": ("charge", "nμm")},
    **{"F": ("capacitance", "pnμm"), "T": ("field", "m"), "K": ("temperature", "m")},
}
"""Each with its dimension and the prefixes that it is met with; 1 L is 0.001 m³."""
_METRIC_WORDS = {
    **{"meter": "m", "metre": "m", "gram": "g", "second": "s", "liter": "L", "litre": "L"},
    **{"hertz": "Hz", "newton": "N", "joule": "J", "watt": "W", "pascal": "Pa", "volt": "V"},
    **{"ampere": "A", "amp": "A", "ohm": "Ω", "coulomb": "C", "farad": "F", "tesla": "T"},
    **{"kelvin": "K", "mole": "mol", "calorie": "cal", "lux": "lx", "decibel": "dB"},
}
_OTHER = {
    **{"in": ("length", "0.0254"), "ft": ("length", "0.3048"), "yd": ("length", "0.9144")},
    **{"mi": ("length", "1609.344"), "lb": ("mass", "453.59237"), "sec": ("time", "1")},
    **{"min": ("time", "60"), "h": ("time", "3600"), "hr": ("time", "3600")},
    **{"day": ("time", "86400"), "week": ("time", "604800"), "unit": ("thing", "1")},
    **{"month": ("month", "1"), "year": ("month", "12"), "mil": ("length", "0.0000254")},
    **{"ton": ("mass", "1000000"), "t": ("mass", "1000000"), "oz": ("mass", "28.349523125")},
    **{"gallon": ("volume", "3.785411784"), "gal": ("volume", "3.785411784")},
    **{"fl oz": ("volume", "0.0295735295625")},
    **{"quart": ("volume", "0.946352946"), "pint": ("volume", "0.473176473")},
    **{"acre": ("area", "4046.8564224"), "hectare": ("area", "10000"), "ha": ("area", "10000")},
    **{"Wh": ("energy", "3600"), "kWh": ("energy", "3600000")},
    **{"°": ("angle", "1"), "degree": ("angle", "1"), "deg": ("angle", "1")},
    **{"rad": ("radian", "1"), "radian": ("radian", "1")},
    **{"°C": ("celsius", "1"), "°F": ("fahrenheit", "1")},
    **{
        "dollar": ("money", "1"),
        "cent": ("money", "0.01"),
        "€": ("euro", "1"),
        "£": ("sterling", "1"),
        "¥": ("yen", "1"),
    },
}
_UNITS: dict[str, tuple[str, Fraction]] = {
    **{name: (dimension, Fraction(size)) for name, (dimension, size) in _OTHER.items()},
    **{
        prefix + name: (dimension, Fraction(10) ** _PREFIXES.get(prefix, 0))
        for name, (dimension, prefixes) in _METRIC.items()
        for prefix in ("", *prefixes)
    },
}
_LONG = {
    **{
        word + long: prefix + name
        for long, name in _METRIC_WORDS.items()
        for word, prefix in {"": "", **_PREFIX_WORDS}.items()
        if prefix + name in _UNITS
    },
    **{"inch": "in", "inches": "in", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi"},
    **{"pound": "lb", "lbs": "lb", "minute": "min", "mins": "min", "hour": "h", "hrs": "h"},
    **{"Kg": "kg", "KG": "kg", "CM": "cm", "Cm": "cm", "MM": "mm", "KM": "km", "Km": "km"},
    **{"tonne": "ton", "ounce": "oz", "fluid ounce": "fl oz", "yr": "year", "mo": "month"},
    **{"KHz": "kHz", "KHZ": "kHz", "MHZ": "MHz", "KPa": "kPa", "OZ": "oz"},
    **{"celsius": "°C", "fahrenheit": "°F", "USD": "dollar", "EUR": "€", "GBP": "£"},
    **{"wk": "week", "kilo": "kg", "gm": "g", "gramme": "g", "ltr": "L", "mtr": "m"},
    **{"degrees": "°", "units": "unit", "euro": "€", "yen": "¥", "°Celsius": "°C"},
    **{"degrees Celsius": "°C", "degree Celsius": "°C", "Celsius": "°C", "°Fahrenheit": "°F"},
    **{"degrees Fahrenheit": "°F", "degree Fahrenheit": "°F", "Fahrenheit": "°F"},
}
NAMES = "|".join(sorted({*_UNITS, *_LONG}, key=len, reverse=True))
_POWER = r"(?:(?:\s*\^\s*\{?\s*|(?<=[a-z])(?=[23]))(?P<power>-?\d)\s*\}?)?"
_FACTOR = rf"(?:(?P<name>{NAMES})(?:e?s)?(?![A-Za-z])\.?{_POWER})"
UNIT = re.compile(
    rf"(?P<before>^|[\d\s)}}\]]|\\pi|°)(?P<square>(?:square|sq|cubic|cu)\.?\s+)?"
    rf"(?P<units>{re.sub('P<[a-z]+>', ':', _FACTOR)}"
    rf"(?:\s*(?P<per>/|per)\s*{re.sub('P<[a-z]+>', ':', _FACTOR)})?)[\s.]*$"
)
_ONE_FACTOR = re.compile(_FACTOR)
_THINGS = re.compile(r"([\d}\]]|\\pi)\s+[A-Za-z]{3,}$")
"""A counted thing, as in "7 sides"; which one it is does not matter, but no unit is one."""
_THING = (("thing", 1),)
_MIXED = re.compile(
    rf"(?:\d+(?:\.\d+)?\s*(?:{NAMES})(?:e?s)?(?![A-Za-z])\.?\s*(?:,|and)?\s*){{2,3}}"
)
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({NAMES})(?:e?s)?(?![A-Za-z])")
_SPEEDS = re.compile(
    r"(?<![A-Za-z])(?:(?P<miles>mph)|(?P<metres>mps)|kph|kmph|kmh)\b", re.IGNORECASE
)
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}(?![A-Za-z])")
_KNOWN_WORD = re.compile(rf"(?:{NAMES})(?:e?s)?")
_COUNTED = re.compile(r"(?:[\d)}\]]|\\pi)\s*$")
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|mbox|operatorname|rm)\s*\{([^{}]*)\}")
_OF_LENGTH = {"volume": (Fraction(1, 1000), 3), "area": (Fraction(1), 2)}
"""Dimensions that are powers of length: the size of their unit in metres, and the power."""
CURRENCIES = {"$": "dollar", "€": "€", "£": "£", "¥": "¥", "￥": "¥"}

Dimension = tuple[tuple[str, int], ...]
ONE_WORD = (
    {(("angle", 1),), (("celsius", 1),)},
    {(("angle", 1),), (("fahrenheit", 1),)},
    {(("mass", 1),), (("sterling", 1),)},
)
"""Pairs of dimensions that one word may mean: "25 degrees" of a temperature, "5 pounds"."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An expression in LaTeX and its unit.

    Attributes:
        latex: The expression without its unit.
        dimension: Each base dimension with its power, such as (("length", 2),); empty for none.
        factor: Of the unit, in the dimension's base units; exact.
    """

    latex: str
    dimension: Dimension = ()
    factor: Fraction = Fraction(1)


def _speed(found: re.Match[str]) -> str:
    return "mi/h" if found["miles"] else "m/s" if found["metres"] else "km/h"


def _in_small_letters(word: re.Match[str]) -> str:
    """Return a unit's word in small letters; in symbols such as MPa capitals mean something."""
    small = word[0].lower()
    known = not _KNOWN_WORD.fullmatch(word[0]) and _KNOWN_WORD.fullmatch(small)
    return small if known else word[0]


def is_sum(text: str) -> bool:
    """Whether a text is a quantity in several units, such as "1 hour and 30 minutes".

    Its units get smaller; "3 cm and 4 cm" are two.
    """
    if _MIXED.fullmatch(text.strip()) is None:
        return False
    units = [_unit(name) for _, name in _PART.findall(text)]
    sizes = [size for _, size in units]
    one_kind = len({dimension for dimension, _ in units}) == 1 and units[0][0] not in _OF_LENGTH
    return one_kind and all(map(gt, sizes, sizes[1:]))


def _unit(name: str) -> tuple[str, Fraction]:
    """Return the dimension and the size of a unit, by its symbol or word."""
    return _UNITS[_LONG.get(name, name)]


def _summed(text: str) -> Quantity:
    """Return "1 h 30 min" as one quantity."""
    parts = [(Fraction(n), *_unit(name)) for n, name in _PART.findall(text)]
    total = sum((number * size for number, _, size in parts), Fraction(0)) / parts[-1][2]
    latex = rf"\frac{{{total.numerator}}}{{{total.denominator}}}"
    return Quantity(latex, ((parts[0][1], 1),), parts[-1][2])


def with_unit(text: str) -> Quantity:
    """Split an expression in LaTeX into what is before its unit and the unit.

    Example:
        >>> with_unit("12 cm^2").dimension, with_unit("5 km/h").factor
        ((('length', 2),), Fraction(5, 18))
        >>> with_unit("2x")
        Quantity(latex='2x', dimension=(), factor=Fraction(1, 1))
    """
    plain = _TEXT.sub(r" \1", text).replace("µ", "μ")
    plain = re.sub(r"\\(?:Omega|ohm)\s*$|\u2126", "Ω", plain.strip().rstrip("."))
    plain = re.sub(r"\\mu\s*(?=[A-Za-z]$)", "μ", plain)
    plain = re.sub(r"°\s+(?=[CF]\b)", "°", plain)
    plain = re.sub(r"\bsq(ft|m|cm|km|in|yd)\b", r"square \1", plain)
    plain = _SPEEDS.sub(_speed, plain)
    plain = _WORD.sub(_in_small_letters, plain)
    plain = re.sub(r"\bkW\s*(?:\\cdot)?\s*h(?:ours?)?$", "kWh", plain)
    if is_sum(plain):
        return _summed(plain)
    match = UNIT.search(plain)
    if match is None and _THINGS.search(plain):
        return Quantity(_THINGS.sub(r"\1", plain), _THING)
    before = plain[: match.start("units")].strip() if match else ""
    # A capital alone is a unit behind a number only: "3 A", but "option A".
    if not before or (match and match["units"].isupper() and not _COUNTED.search(before)):
        return Quantity(text.strip().replace("°", r"^{\circ}"))
    assert match is not None
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for i, found in enumerate(_ONE_FACTOR.finditer(match["units"])):
        dimension, size = _unit(found["name"])
        power = int(found["power"] or 1) * (-1 if i else 1)
        if i == 0 and match["square"]:
            power = 3 if match["square"].startswith("cu") else 2
        factor *= size**power
        if dimension in _OF_LENGTH:
            base, exponent = _OF_LENGTH[dimension]
            factor *= base**power
            dimension, power = "length", exponent * power
        powers[dimension] = powers.get(dimension, 0) + power
    kept = plain[: match.start("units")]
    kept = kept[: match.start("square")] if match["square"] else kept
    return Quantity(kept.strip().rstrip(",~").strip(), tuple(sorted(powers.items())), factor)
