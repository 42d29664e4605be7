"""Inline SVG for the report: a training curve, and a value with its interval on an axis.

Drawn here and not by matplotlib because the report must follow the reader's light or dark theme,
carry no style attribute (its content security policy allows one style sheet only) and be written in
images without matplotlib. Colours and line widths come from the report's style sheet by class name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from markupsafe import Markup

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 42
_DRAWN_POINTS = 300
_SMOOTH_FROM = 24
_BAR_WIDTH, _BAR_HEIGHT, _BAR_MARGIN = 200, 22, 5

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """One logged figure over the steps of a training run.

    Attributes:
        title: What is drawn, for the heading and for readers who do not see the picture.
        y_title: Axis title with unit.
        points: Step and value; ``None`` and non-finite values leave a gap.
        style: CSS class of the line: the model's name.
        bounds: Fixed ends of the y axis, or ``None`` to fit the values.
        min_span: Least height of a fitted y axis, so that noise does not look like a trend.
        spread: Half height of a band around each point, in the unit of the values.
    """

    title: str
    y_title: str
    points: Sequence[Point]
    style: str
    bounds: tuple[float, float] | None = None
    min_span: float = 0.0
    spread: Sequence[float | None] = ()

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if y is not None and math.isfinite(y)]

    @property
    def band(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Upper and lower edge of the band, where both value and spread are known."""
        known = [
            (x, y, s)
            for (x, y), s in zip(self.points, self.spread, strict=False)
            if y is not None and s is not None and math.isfinite(y) and math.isfinite(s)
        ]
        return [(x, y + s) for x, y, s in known], [(x, y - s) for x, y, s in known]

    @property
    def ends(self) -> tuple[float, float]:
        """Mean of the first and of the last tenth of the drawn values (at least one of each)."""
        values = [y for _, y in self.finite]
        n = max(1, len(values) // 10)
        return math.fsum(values[:n]) / n, math.fsum(values[-n:]) / n


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) inside ``low``..``high``.

    Raises:
        ValueError: If ``low`` is not below ``high``.
    """
    if not low < high:
        raise ValueError(f"an axis needs low < high, not {low} and {high}")
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(
        power * factor
        for factor in (1, 2, 5, 10, 20)
        if math.floor(high / (power * factor)) - math.ceil(low / (power * factor)) + 1 <= most
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def line_chart(curve: Curve) -> Markup:
    """Return a line chart as an SVG element; a long curve has its moving mean on top.

    Raises:
        ValueError: If the curve has no finite point.
    """
    points = curve.finite
    if not points:
        raise ValueError(f"{curve.title}: nothing to draw")
    x_low, x_high = points[0][0], points[-1][0]
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    smooth = len(points) >= _SMOOTH_FROM
    top, bottom = map(_moving_mean, curve.band) if smooth else curve.band
    edges = [*_thinned(top), *_thinned(bottom)[::-1]]
    y_low, y_high = curve.bounds or _fitted([y for _, y in [*points, *edges]], curve.min_span)

    def at(x: float, y: float) -> str:
        across = (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)
        return f"{_LEFT + across:.1f},{HEIGHT - _BOTTOM - up:.1f}"

    parts = [*_y_axis(y_low, y_high, curve.y_title, at, x_low, x_high)]
    parts += _x_axis(x_low, x_high, at, y_low)
    if edges:
        outline = " ".join(at(x, y) for x, y in edges)
        parts.append(Markup('<polygon class="band {}" points="{}"/>').format(curve.style, outline))
    parts += [
        _polyline(run, at, f"line {curve.style}{' faint' if smooth else ''}")
        for run in _runs(curve.points)
    ]
    if smooth:
        parts.append(_polyline(_moving_mean(points), at, f"line {curve.style}"))
    first, last = curve.ends
    described = (
        f"{curve.title}: from {first:.4g} to {last:.4g} over steps "
        f"{points[0][0]:g} to {points[-1][0]:g}"
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, described, Markup("").join(parts))


def interval_bar(
    value: float,
    low: float,
    high: float,
    style: str,
    *,
    axis: tuple[float, float] = (0.0, 1.0),
    reference: float | None = None,
) -> Markup:
    """Return a value as a dot on its interval, on an axis with a dashed reference line.

    It repeats numbers that stand next to it in a table, so it is hidden from screen readers.
    """
    start, end = axis

    def x(v: float) -> str:
        share = (min(max(v, start), end) - start) / (end - start)
        return f"{_BAR_MARGIN + share * (_BAR_WIDTH - 2 * _BAR_MARGIN):.1f}"

    middle = _BAR_HEIGHT / 2
    dashed = (
        Markup('<line class="reference" x1="{0}" x2="{0}" y1="1" y2="{1}"/>').format(
            x(reference), _BAR_HEIGHT - 1
        )
        if reference is not None
        else Markup("")
    )
    return Markup(
        '<svg class="bar" viewBox="0 0 {w} {h}" aria-hidden="true">'
        '<line class="track" x1="{a}" x2="{b}" y1="{m}" y2="{m}"/>{dashed}'
        '<line class="interval {s}" x1="{lo}" x2="{hi}" y1="{m}" y2="{m}"/>'
        '<circle class="dot {s}" cx="{v}" cy="{m}" r="5"/></svg>'
    ).format(
        w=_BAR_WIDTH,
        h=_BAR_HEIGHT,
        a=x(start),
        b=x(end),
        m=middle,
        dashed=dashed,
        s=style,
        lo=x(low),
        hi=x(high),
        v=x(value),
    )


def _fitted(values: Sequence[float], min_span: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    span = max(high - low, min_span, abs(high) * 1e-3, 1e-12)
    middle = (low + high) / 2
    return middle - 0.55 * span, middle + 0.55 * span


def _y_axis(low, high, title, at, x_low, x_high) -> list[Markup]:
    parts = []
    for tick in ticks(low, high):
        x, y = at(x_low, tick).split(",")
        end = at(x_high, tick).split(",")[0]
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(x, end, y=y)
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
                _LEFT - 6, f"{float(y) + 4:.1f}", _short(tick)
            )
        )
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    parts.append(
        Markup(
            '<text class="axis" x="12" y="{m}" text-anchor="middle" transform="rotate(-90 12 {m})">'
            "{t}</text>"
        ).format(m=middle, t=title)
    )
    return parts


def _x_axis(low, high, at, y_low) -> list[Markup]:
    parts = []
    for tick in ticks(low, high):
        x, y = at(tick, y_low).split(",")
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                x, f"{float(y) + 16:.1f}", _short(tick)
            )
        )
    parts.append(
        Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">step</text>').format(
            (WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 6
        )
    )
    return parts


def _short(tick: float) -> str:
    """Return a tick in few characters: ``5e-4`` and ``2e5`` where plain digits would run wide."""
    if tick and not 1e-2 <= abs(tick) < 1e5:
        digits, power = f"{tick:.4e}".split("e")
        return f"{float(digits):g}e{int(power)}".replace("-", "−")
    return f"{tick:g}".replace("-", "−")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = max(1, math.ceil(len(points) / _DRAWN_POINTS))
    kept = list(points[::stride])
    return kept if kept[-1:] == list(points[-1:]) else [*kept, points[-1]]


def _polyline(points: Sequence[tuple[float, float]], at, style: str) -> Markup:
    if len(points) == 1:
        x, y = at(*points[0]).split(",")
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(
            style.removeprefix("line "), x, y
        )
    drawn = " ".join(at(x, y) for x, y in _thinned(points))
    return Markup('<polyline class="{}" points="{}"/>').format(style, drawn)


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Split at the values that cannot be drawn, so that a NaN leaves a gap and not a bridge."""
    grouped = groupby(points, key=lambda p: p[1] is not None and math.isfinite(p[1]))
    return [[(x, y) for x, y in run if y is not None] for drawable, run in grouped if drawable]


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the centred mean over about a tenth of the curve."""
    half = max(1, len(points) // 20)
    sums = [0.0, *accumulate(y for _, y in points)]
    means = []
    for i, (x, _) in enumerate(points):
        start, end = max(0, i - half), min(len(points), i + half + 1)
        means.append((x, (sums[end] - sums[start]) / (end - start)))
    return means
