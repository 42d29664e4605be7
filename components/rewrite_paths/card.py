"""The data card: what is in the rewritten data, for people (HTML) and programs (JSON)."""

import html
from pathlib import Path
from typing import Any

from components.rewrite_paths.tally import Tally
from omnistage.files import write_atomic, write_json
from omnistage.records import SPLITS


def write_card(out: Path, tally: Tally) -> None:
    """Write ``card.json`` and ``card.html``.

    Args:
        out: Folder to write to.
        tally: The counts.
    """
    card = card_of(tally)
    write_json(out / "card.json", card)
    rows = "".join(f"<tr><td>{html.escape(str(k))}</td><td>{v}</td></tr>" for k, v in card.items())
    write_atomic(out / "card.html", f"<!doctype html><title>Data card</title><table>{rows}</table>")


def card_of(tally: Tally) -> dict[str, Any]:
    """Return the data card as JSON values."""
    return {"records": {split: tally.kept_in(split) for split in SPLITS}}
