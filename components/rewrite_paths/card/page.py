"""The data card: what is in the rewritten data, for people (HTML) and programs (JSON)."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from components.rewrite_paths.card.examples import find_examples, show_examples
from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.convert.tally import CHARACTER_BINS, SECOND_BINS, Tally
from components.rewrite_paths.media.index import MemberIndex
from omnistage.files import counted, one_line, write_atomic, write_json
from omnistage.records.constant import SOLVED_BY_CONSTANT
from omnistage.records.record import SPLITS

_FEW = 20  # records below which a share says nothing
_LABELS = 12  # answers shown one by one


def write_card(
    out: Path, data: Path, index: MemberIndex, tally: Tally, settings: RewriteSettings
) -> list[str]:
    """Write ``card.json`` and ``card.html``, and return what the user should look at.

    Args:
        out: Folder with the split files; the card goes beside them.
        data: Folder of the data set, for the media of the examples.
        index: Members of the data set.
        tally: The counts.
        settings: The recipe.
    """
    examples = find_examples(out, settings.examples)
    card = card_of(tally) | {"examples": [e["record"]["id"] for e in examples]}
    write_json(out / "card.json", card)
    write_atomic(out / "card.html", render(card, show_examples(examples, data, index), settings))
    return card["findings"]


def card_of(tally: Tally) -> dict[str, Any]:
    """Return the data card as JSON values."""
    audits = _audits(tally)
    rejected = _by(tally.rejected, 1)
    return {
        "rows": {
            "read": tally.read.total(),
            "kept": tally.kept.total(),
            "rejected": sum(rejected.values()),
            "left_out": tally.left_out.total(),
        },
        "records": {split: tally.kept_in(split) for split in SPLITS},
        "by_source": _table(tally, 1),
        "by_task": _table(tally, 2),
        "by_modality": _table(tally, 3),
        "labels": audits,
        "rejected": {
            reason: {
                "rows": count,
                "by_split": {s: n for (s, r), n in tally.rejected.items() if r == reason},
                "examples": [
                    {"file": e.file, "line": e.line, "detail": e.detail}
                    for e in tally.examples[reason]
                ],
            }
            for reason, count in rejected.most_common()
        },
        "left_out": dict(_by(tally.left_out, 1).most_common()),
        "dropped_columns": dict(dropped_columns(tally).most_common()),
        "characters": {
            split: _histogram(tally.characters[split], CHARACTER_BINS)
            for split in SPLITS
            if split in tally.characters
        },
        "seconds": {
            name: _histogram(counts, SECOND_BINS) for name, counts in sorted(tally.seconds.items())
        },
        "findings": _findings(tally, audits),
    }


def render(
    card: Mapping[str, Any], examples: list[dict[str, Any]], settings: RewriteSettings
) -> str:
    """Return the card as one self-contained HTML page.

    Args:
        card: From :func:`card_of`.
        examples: From :func:`show_examples`.
        settings: Shown at the end, those that are not the default.
    """
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"workers"})
    return _page().render(card=card, examples=examples, settings=changed, splits=SPLITS)


@cache
def _page() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("card.html.j2")


def dropped_columns(tally: Tally) -> Counter[str]:
    """Return how many records' rows have each column that the records do not have."""
    return _by(tally.dropped, 1)


def dropped_text(tally: Tally) -> str:
    """Return the columns that the records do not have, and how many rows have each."""
    return ", ".join(
        f"{one_line(name)} ({counted(n, 'row')})"
        for name, n in dropped_columns(tally).most_common()
    )


def _by(counts: Counter[tuple[str, str]], place: int) -> Counter[str]:
    totals: Counter[str] = Counter()
    for key, count in counts.items():
        totals[key[place]] += count
    return totals


def _table(tally: Tally, place: int) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for key, count in sorted(tally.kept.items()):
        row = table.setdefault(key[place], dict.fromkeys(SPLITS, 0))
        row[key[0]] += count
    return table


def _audits(tally: Tally) -> list[dict[str, Any]]:
    """Return, for each split, task and modality, how often each answer is the right one."""
    labels: dict[tuple[str, str, str], Counter[str]] = {}
    for (split, _, task, modality, label), count in sorted(tally.kept.items()):
        if label:
            labels.setdefault((split, task, modality), Counter())[label] += count
    audits = []
    for (split, task, modality), counts in labels.items():
        total = counts.total()
        [(answer, most)] = counts.most_common(1)
        audits.append(
            {
                "split": split,
                "task": task,
                "modality": modality,
                "records": total,
                "answers": dict(sorted(counts.most_common(_LABELS))),
                "others": total - sum(n for _, n in counts.most_common(_LABELS)),
                "constant": {"answer": answer, "accuracy": most / total},
                "solved_by_constant": most / total >= SOLVED_BY_CONSTANT and total >= _FEW,
            }
        )
    return audits


def _histogram(counts: np.ndarray, bins: np.ndarray) -> dict[str, Any]:
    """Return the bins that are not empty at either end, and estimates of what they say."""
    filled = np.flatnonzero(counts)
    low, high = int(filled[0]), int(filled[-1])
    total, running = int(counts.sum()), np.cumsum(counts)
    middle = int(np.searchsorted(running, total / 2))
    return {
        "from": [float(edge) for edge in bins[low : high + 1]],
        "to": [float(edge) for edge in bins[low + 1 : high + 2]],
        "count": [int(count) for count in counts[low : high + 1]],
        "total": total,
        "median_between": [float(bins[middle]), float(bins[middle + 1])],
    }


def _findings(tally: Tally, audits: list[dict[str, Any]]) -> list[str]:
    findings = []
    rejected = tally.rejected.total()
    if rejected:
        share = rejected / max(tally.read.total(), 1)
        was = "was" if rejected == 1 else "were"
        findings.append(
            f"{rejected:,} of {counted(tally.read.total(), 'row')} ({share:.1%}) {was} rejected; "
            "rejected.jsonl has each with its reason."
        )
    for audit in audits:
        if audit["solved_by_constant"]:
            constant = audit["constant"]
            findings.append(
                f"{audit['split']}, {audit['task']} on {audit['modality']}: always answering "
                f"{constant['answer']!r} is right in {constant['accuracy']:.1%}; accuracy on these "
                "records says nothing."
            )
    return findings
