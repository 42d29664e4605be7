"""Single rows through the stage: the record that one becomes, or why it is refused."""

from pathlib import Path
from typing import Any

from tests.components.rewrite_paths.rewrite_kit import Rewritten, rewrite

MEMBERS = ["p/x.png", "p/0.png", "p/1.png"]
ASKED = {"role": "user", "content": "<image>a"}


def chat(*turns: tuple[str, str], **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **columns}


def read(tmp_path: Path, split: str, *rows: Any, **settings: Any) -> Rewritten:
    return rewrite(tmp_path, {f"{split}.jsonl": rows}, MEMBERS, **settings)


def one(tmp_path: Path, split: str, row: Any, **settings: Any) -> dict[str, Any]:
    done = read(tmp_path, split, row, **settings)
    assert done.reasons() == []
    [record] = done.rows(split)
    return record


GOOD = {"problem": "q", "solution": "a"}


def refused(tmp_path: Path, split: str, row: Any) -> tuple[str, str]:
    done = read(tmp_path, split, GOOD, row)
    [rejected] = done.rows("rejected")
    assert done.balanced()
    return rejected["reason"], rejected["detail"]


def quiz(*numbers: int) -> list[dict[str, Any]]:
    """Return a row for each number, which is its answer."""
    return [{"problem": f"What is {n}?", "solution": f"{n}"} for n in numbers]


def answers(rows: list[dict[str, Any]]) -> list[int]:
    """Return the answers of such rows."""
    return [int(row["solution"]) for row in rows]
