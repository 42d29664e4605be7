"""The evaluation report: one HTML file that needs nothing else, and the same numbers as JSON.

The page makes no request and runs no script; its content security policy forbids both, so that text
written by a model cannot do either. The same data give the same bytes.
"""

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.eval.report import curves, examples, numbers
from components.eval.report.charts import interval_bar
from components.eval.report.data import (
    TITLES,
    Answer,
    EvalRecord,
    Judgement,
    ModelName,
    ModelResult,
    ReportData,
    StageRun,
    winner,
)
from components.eval.report.findings import audit

__all__ = [
    "Answer",
    "EvalRecord",
    "Judgement",
    "ModelResult",
    "Report",
    "ReportData",
    "StageRun",
    "build_report",
]

SCHEMA_VERSION = 1
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """The report in both forms.

    Attributes:
        html: A complete, self-contained page.
        json: Its numbers, findings, curves and provenance; every value is finite or ``None``.
    """

    html: str
    json: dict[str, Any]


def build_report(data: ReportData) -> Report:
    """Return the report on an evaluation.

    Raises:
        InputError: If the judgements are not about the test records; see
            :func:`components.eval.report.numbers.check`.
    """
    figures = numbers.compute(data)
    found = audit(figures, data.curves)
    shown = examples.choose(data.records, data.models, data.reward_weights)
    summary = list(in_words(figures))
    content = {
        "schema_version": SCHEMA_VERSION,
        "recipe": data.recipe,
        "summary": " ".join(summary),
        **figures,
        "findings": [asdict(f) for f in found],
        "notes": list(data.notes),
        "examples": [e.record.id for e in shown],
        "curves": {stage: [dict(row) for row in rows] for stage, rows in data.curves.items()},
        "provenance": {
            "stages": [asdict(s) for s in data.stages],
            "seeds": dict(data.seeds),
            "reward_weights": dict(data.reward_weights),
            "bootstrap": {"samples": data.bootstrap_samples, "seed": data.bootstrap_seed},
        },
    }
    html = _render(
        data=data,
        summary=summary,
        findings=found,
        examples=shown,
        panels=curves.panels(data.curves),
        best=numbers.best_baseline(figures),
        **figures,
    )
    return Report(html, _finite(content))


def in_words(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result in sentences: who is right how often, then what may be concluded."""
    models, pairs = figures["models"], figures["pairs"]["total"]
    name, constant = numbers.best_baseline(figures)
    shares = {_called(m): _percent(models[m]["accuracy"]["value"]) for m in reversed(models)}
    (first, share), *others = shares.items()
    told = "".join(f", {model} {value}" for model, value in others)
    yield (
        f"{_sentence(first)} judges {share} right{told}; the best constant baseline "
        f"(“{name}”) gets {_percent(constant)}. {pairs} pairs, each judged in both orders."
    )
    for gap in reversed(figures["differences"].values()):
        new, old, accuracy = _called(gap["model"]), _called(gap["against"]), gap["accuracy"]
        size = f"{_points(accuracy['value'])} points"
        between = f"95% interval {_points(accuracy['low'])} to {_points(accuracy['high'])}"
        if accuracy["low"] > 0:
            yield f"{_sentence(new)} is better than {old}: {size} ({between})."
        elif accuracy["high"] < 0:
            yield f"{_sentence(new)} is worse than {old}: {size} ({between})."
        else:
            yield (
                f"Whether {new} is better than {old} cannot be told from these pairs: {size} "
                f"({between})."
            )
    last = next(reversed(models))
    if models[last]["accuracy"]["low"] <= constant:
        title = _sentence(_called(last))
        yield f"{title} is not shown to be better than the best constant baseline."


def _called(model: ModelName) -> str:
    return "the base model" if model == "base" else TITLES[model]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _render(**context: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "number": _number}
    environment.filters |= {"shortened": examples.shortened, "duration": _duration}
    environment.filters |= {"settings": _settings, "winner": winner}
    environment.globals |= {"bar": interval_bar, "titles": TITLES}
    style = (_TEMPLATES / "report.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        style=Markup(style), style_digest=digest, **context
    )


def _printable(value: Any) -> Any:
    """Show what HTML does not allow in text (control characters, lone surrogates) as U+FFFD."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in value
    )


def _finite(value: Any) -> Any:
    """Return JSON values with NaN and infinities as ``None``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "–"
    return (f"{value:+.3f}" if sign else f"{value:.3f}").replace("-", "−")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _settings(config: Mapping[str, Any]) -> str:
    return json.dumps(_finite(config), indent=2, ensure_ascii=False)
