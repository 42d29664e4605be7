"""The report's verdict, tables and findings as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.eval.report.cost import cost_in_words
from components.eval.report.data import title_of
from components.eval.variants.ablation import TITLES as ABLATIONS


def markdown(report: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return ``report.md``.

    Args:
        report: The report's JSON.
        names: How metrics are called.
    """
    lines = [f"# {_plain(report['recipe'])}", "", _plain(report["summary"]), ""]
    for task in report["tasks"].values():
        lines += [f"## {task['title']}, {task['records']} records", "", *_table(task, names), ""]
        lines += _differences(task)
        lines += _repetitions(task)
        lines += _contribution(task)
        lines += _sampling(task)
        lines += _positions(task)
        lines += _protocols(task)
    lines += _rows(report["provenance"]["stages"])
    if cost := report["provenance"]["cost"]:
        lines += [f"GPU hours: {_plain(cost_in_words(cost))}.", ""]
    told = [*report["findings"], *({"level": "note", "text": n} for n in report["notes"])]
    if told:
        lines += ["## Findings", ""]
        lines += [f"- **{f['level']}**: {_plain(f['text'])}" for f in told]
    return "\n".join(lines).rstrip() + "\n"


def _rows(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each stage that rejected rows or left some out."""
    for stage in stages:
        rows = stage["rows"] or {}
        gone = {**rows.get("rejected", {}), **rows.get("left_out", {})}
        if gone:
            why = ", ".join(f"{count} {_plain(reason)}" for reason, count in gone.items())
            yield f"{stage['name']} kept {rows['kept']} of {rows['read']} rows: {why}."
            yield ""


def _table(task: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    metrics = list(next(iter(task["models"].values()))["metrics"])
    yield "| | " + " | ".join(names.get(m, m) for m in metrics) + " |"
    yield "|---" * (len(metrics) + 1) + "|"
    for name, model in task["models"].items():
        cells = [_cell(model["metrics"][m]) for m in metrics]
        yield f"| {_plain(title_of(name))} | " + " | ".join(cells) + " |"
    for name, value in task["baselines"].items():
        rest = " |" * (len(metrics) - 1)
        yield f"| {_plain(name.replace('_', ' '))} (constant) | {_cell(value)} |{rest}"


def _differences(task: Mapping[str, Any]) -> Iterator[str]:
    for d in task["differences"].values():
        score = d["score"]
        yield (
            f"{_plain(title_of(d['model']))} − {_plain(title_of(d['against']))}: "
            f"{100 * score['value']:+.1f} points ({100 * score['low']:+.1f} to "
            f"{100 * score['high']:+.1f}), p = {score['p_holm']:.3g} ({score['test']}, Holm)."
        )
        yield ""


def _repetitions(task: Mapping[str, Any]) -> Iterator[str]:
    for name, group in task["repetitions"].items():
        of = group["metrics"].get(task["metric"])
        if of:
            yield (
                f"{_plain(name)}, {len(group['models'])} seeds: {100 * of['mean']:.1f}% ± "
                f"{100 * of['sd']:.1f} ({100 * of['low']:.1f} to {100 * of['high']:.1f})."
            )
            yield ""


def _contribution(task: Mapping[str, Any]) -> Iterator[str]:
    if not task["contribution"]:
        return
    yield "| | records | with | without | fall in points | p (Holm) |"
    yield "|---|---|---|---|---|---|"
    for ablation, block in task["contribution"].items():
        for name, m in block["models"].items():
            fall, values = m["fall"], m["metrics"][task["metric"]]
            yield (
                f"| {_plain(title_of(name))} {ABLATIONS[ablation]} | {block['records']} | "
                f"{100 * values['with']:.1f}% | {100 * values['without']:.1f}% | "
                f"{100 * fall['value']:+.1f} ({100 * fall['low']:+.1f} to "
                f"{100 * fall['high']:+.1f}) | {fall['p_holm']:.3g} |"
            )
    yield ""


def _sampling(task: Mapping[str, Any]) -> Iterator[str]:
    if not task["sampling"]:
        return
    for name, m in task["sampling"]["models"].items():
        judge = _plain(title_of(task["sampling"]["picked_by"]))
        picked = f"picked by {judge} {_cell(m['picked'])}, " if m["picked"] else ""
        passes = ", ".join(f"pass@{k} {_cell(value)}" for k, value in m["pass"].items())
        yield (
            f"{_plain(title_of(name))}, {m['samples']} samples: majority "
            f"{_cell(m['majority'])}, {picked}random pick {_cell(m['mean'])}, {passes}; greedy "
            f"{_cell(m['greedy'])}."
        )
        yield ""


def _positions(task: Mapping[str, Any]) -> Iterator[str]:
    if not task["positions"]:
        return
    for name, m in task["positions"]["models"].items():
        of = m["metrics"]
        yield (
            f"{_plain(title_of(name))}, options in every rotation, {task['positions']['records']} "
            f"records: accuracy {_cell(of['accuracy'])}, right every time {_cell(of['circular'])}, "
            f"the same option {_cell(of['consistency'])}; as given {_cell(m['given'])}."
        )
        yield ""


def _protocols(task: Mapping[str, Any]) -> Iterator[str]:
    if not task["protocols"]:
        return
    models = list(task["models"])
    yield (
        "| protocol | unreadable counts | " + " | ".join(_plain(title_of(m)) for m in models) + " |"
    )
    yield "|---" * (len(models) + 2) + "|"
    for protocol in task["protocols"].values():
        cells = [_cell(protocol["models"][m]) for m in models]
        yield f"| {_plain(protocol['title'])} | {protocol['invalid']} | " + " | ".join(cells) + " |"
    yield ""


def _cell(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "–"
    return f"{100 * value['value']:.1f}% ({100 * value['low']:.1f}–{100 * value['high']:.1f})"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
