"""Further examples for the page's browser, packed: the page draws them only when asked for.

They are JSON, compressed (zlib) and in base64, inside an inert element of the page: a page of
thousands of records stays small, and opens without drawing any of them.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.eval.report.data import TITLES, title_of
from components.eval.report.examples import Example, shortened

MOST = 5000
"""Examples that a page has in all."""
LIMIT = 10_000_000
"""Most bytes of the packed examples; further ones are left out."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Examples for the page.

    Attributes:
        count: How many there are.
        left_out: How many records of the test set the page has not.
        text: The packed examples in base64.
    """

    count: int
    left_out: int
    text: str


def pack(examples: Sequence[Example], models: Sequence[str], records: int) -> Packed:
    """Pack examples, as many as fit in :data:`LIMIT`.

    Args:
        examples: Beside those that the page has drawn.
        models: Names of the models, in the order of the opinions.
        records: How many records neither the page nor ``examples`` have.
    """
    styled = [{"title": title_of(m), "style": m if m in TITLES else "neutral"} for m in models]
    kept = list(examples)
    while True:
        content = json.dumps({"models": styled, "examples": [_entry(e) for e in kept]})
        text = base64.b64encode(zlib.compress(content.encode())).decode()
        if len(text) <= LIMIT or not kept:
            return Packed(len(kept), records + len(examples) - len(kept), text)
        kept = kept[: min(len(kept) - 1, int(len(kept) * 0.95 * LIMIT / len(text)))]


def _entry(example: Example) -> dict[str, Any]:
    record, shown = example.record, example.shown
    return {
        "id": record.id,
        "kind": record.modality,
        "headline": example.headline,
        "outcomes": list(example.outcomes),
        "question": shown.question,
        "candidates": [list(candidate) for candidate in shown.candidates],
        "gold": shown.gold,
        "labels": record.task.labels,
        "opinions": [
            {
                "score": o.score,
                "reward": o.reward,
                "answers": [[a.said, a.error, shortened(a.text)] for a in o.answers],
            }
            for o in example.opinions
        ],
    }
