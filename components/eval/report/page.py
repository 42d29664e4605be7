"""The evaluation report: one HTML file that needs nothing else, the same as JSON and Markdown.

The page makes no request, and its content security policy forbids any. Its one script filters the
examples and draws further ones; the policy names that script by its digest, so that no text of a
model can run. The same data give the same bytes.
"""

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.eval.report import curves, examples, more, numbers
from components.eval.report.charts import interval_bar
from components.eval.report.cost import cost_in_words, gpu_cost, gpu_hours, machine_in_words
from components.eval.report.data import TITLES, ReportData, title_of
from components.eval.report.findings import Finding, audit
from components.eval.report.markdown import markdown
from components.eval.variants.ablation import TITLES as ABLATIONS

SCHEMA_VERSION = 3
METRICS = {
    "accuracy": "Accuracy",
    "consistency": "Same verdict when swapped",
    "ties": "Ties",
    "first_shown": "Names the one shown first",
    "valid": "Valid answers",
    "war": "WAR",
    "uar": "UAR",
    "f1": "F1",
    "exact": "Exact",
    "mra": "MRA",
    "word_accuracy": "1 − WER",
    "iou_50": "IoU > .5",
    "mean_iou": "Mean IoU",
    "overlap": "Overlap",
    "bleu2": "BLEU-2",
    "rouge1": "ROUGE-1",
    "meteor": "METEOR",
    "judged": "LLM judge",
}
"""How metrics are called in the report."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """The report in all its forms.

    Attributes:
        html: A complete, self-contained page.
        json: Its numbers, findings, curves and provenance; every value is finite or ``None``.
        markdown: The verdict, the tables and the findings, for a pull request or a chat.
    """

    html: str
    json: dict[str, Any]
    markdown: str


def build_report(data: ReportData) -> Report:
    """Return the report on an evaluation.

    Raises:
        InputError: If the answers are not about the test records; see
            :func:`components.eval.report.numbers.check`.
    """
    figures = numbers.compute(data)
    tasks = figures["tasks"]
    found = audit(tasks, data.curves)
    shown = examples.choose(data.records, data.models, data.reward_weights, data.ablations)
    packed = _packed(data, {e.record.id for e in shown})
    summary = list(in_words(figures, found))
    content = {
        "schema_version": SCHEMA_VERSION,
        "recipe": data.recipe,
        "summary": " ".join(summary),
        **figures,
        "findings": [asdict(f) for f in found],
        "notes": list(data.notes),
        "errors": _errors(data),
        "examples": [e.record.id for e in shown],
        "curves": {stage: [dict(row) for row in rows] for stage, rows in data.curves.items()},
        "provenance": {
            "stages": [asdict(s) for s in data.stages],
            "seeds": dict(data.seeds),
            "reward_weights": dict(data.reward_weights),
            "cost": gpu_cost(data),
            "bootstrap": {"samples": data.bootstrap_samples, "seed": data.bootstrap_seed},
        },
    }
    html = _render(
        data=data,
        summary=summary,
        findings=found,
        errors=content["errors"],
        examples=shown,
        packed=packed,
        panels=curves.panels(data.curves),
        cost=gpu_cost(data),
        best={name: numbers.best_baseline(task)[1] for name, task in tasks.items()},
        **figures,
    )
    finite = _finite(content)
    return Report(html, finite, markdown(finite, METRICS))


def _packed(data: ReportData, shown: Set[str]) -> more.Packed:
    """Return the examples beside those that the page draws."""
    rest = [record for record in data.records if record.id not in shown]
    kept = rest[: max(0, more.MOST - len(shown))]
    others = examples.others(kept, data.models, data.reward_weights, data.ablations)
    return more.pack(others, [m.name for m in data.models], len(rest) - len(kept))


def in_words(figures: Mapping[str, Any], findings: list[Finding]) -> Iterator[str]:
    """Yield the verdict: whether the set can tell, who is right how often, what may be concluded.

    A set that a constant solves is named before any figure.
    """
    for finding in findings:
        if finding.code == "labels_one_sided" and finding.level == "problem":
            yield finding.text
            break
    for task in figures["tasks"].values():
        yield from _verdict(task)


def _verdict(task: Mapping[str, Any]) -> Iterator[str]:
    models, metric = task["models"], task["metric"]
    values = {name: m["metrics"][metric] for name, m in models.items()}
    name, constant = numbers.best_baseline(task)
    shares = {_called(m): _percent(v["value"]) for m, v in reversed(values.items())}
    (first, share), *others = shares.items()
    told = "".join(f", {model} {value}" for model, value in others)
    judging = task["title"] == "Pairwise judging"
    reaches = f"judges {share} right" if judging else f"reaches {share} {METRICS[metric]}"
    counted = f"{task['records']} {'pairs, each judged in both orders' if judging else 'records'}"
    yield (
        f"{_sentence(first)} {reaches}{told}; the best constant baseline (“{name}”) gets "
        f"{_percent(constant)}. {counted}."
    )
    for gap in reversed(task["differences"].values()):
        new, old, score = _called(gap["model"]), _called(gap["against"]), gap["score"]
        size = f"{_points(score['value'])} points"
        between = f"95% interval {_points(score['low'])} to {_points(score['high'])}"
        if score["low"] > 0:
            yield f"{_sentence(new)} is better than {old}: {size} ({between})."
        elif score["high"] < 0:
            yield f"{_sentence(new)} is worse than {old}: {size} ({between})."
        else:
            yield (
                f"Whether {new} is better than {old} cannot be told from these "
                f"{'pairs' if judging else 'records'}: {size} ({between})."
            )
    last = next(reversed(values))
    if values[last]["low"] <= constant:
        title = _sentence(_called(last))
        yield f"{title} is not shown to be better than the best constant baseline."


def _errors(data: ReportData) -> list[dict[str, str]]:
    """Return every record that a model gave no answer to, with the reason."""
    return [
        {"model": m.name, "id": g.id, "error": g.error}
        for m in data.models
        for g in m.graded
        if g.error
    ]


def _called(model: str) -> str:
    return "the base model" if model == "base" else title_of(model)


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
    environment.filters |= {"settings": _settings, "title": title_of, "metric": METRICS.get}
    environment.filters |= {"style": lambda name: name if name in TITLES else "neutral"}
    environment.filters |= {"p_value": _p_value, "ablation": ABLATIONS.get}
    environment.filters |= {"machine": machine_in_words, "gpu_hours": gpu_hours}
    environment.filters |= {"cost_in_words": cost_in_words}
    environment.globals |= {"bar": interval_bar}
    style, script = ((_TEMPLATES / f"report.{kind}").read_text() for kind in ("css", "js"))
    return environment.get_template("report.html.j2").render(
        style=Markup(style),
        script=Markup(script),
        style_digest=_csp_digest(style),
        script_digest=_csp_digest(script),
        **context,
    )


def _csp_digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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


def _p_value(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


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
