"""The data card of a training: what it trains on, what was set aside and why."""

from collections.abc import Mapping, Sequence
from typing import Any

NAME = "data_card.md"
_NAMED = 50


def data_card(
    step: str,
    counts: Mapping[str, Any],
    tokens: Mapping[str, Any],
    rejected: Sequence[Mapping[str, Any]],
) -> str:
    """Return the card as Markdown.

    Args:
        step: The training step.
        counts: ``read``, ``records`` and ``rejected`` by reason.
        tokens: :func:`omnistage.swift.encoding.token_figures` of the rows that are trained.
        rejected: What was set aside: ``id``, ``reason`` and ``detail``; the first 50 are named.
    """
    lines = [
        f"# Data of {step}",
        "",
        f"{counts['read']:,} records read, {counts['records']:,} trained on, {len(rejected):,} set "
        f"aside. An epoch has {tokens['total']:,} tokens, {tokens['media_share']:.0%} of them "
        f"media; a record has {tokens['median']:,} in the middle and {tokens['longest']:,} at "
        "most.",
        "",
        *_table(("modality", "tokens of an epoch"), tokens["by_modality"]),
        *_table(("tokens of a record, at most", "records"), tokens["histogram"]),
    ]
    if rejected:
        lines += _table(("set aside because", "records"), counts["rejected"])
        # Indented, so that nothing in a name or a message is markup.
        lines += [f"    {_line(row)}" for row in rejected[:_NAMED]]
        if len(rejected) > _NAMED:
            lines += ["", f"and {len(rejected) - _NAMED:,} more, in rejected.jsonl."]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: tuple[str, str], values: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in values.items()]
    return [f"| {head[0]} | {head[1]} |", "| --- | ---: |", *rows, ""]


def _line(row: Mapping[str, Any]) -> str:
    return " ".join(f"{row['id']}: {row['reason']}: {row['detail']}".split())
