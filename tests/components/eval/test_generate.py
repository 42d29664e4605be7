"""Asking: batches, error rows, and going on after a kill without losing or repeating a record."""

import errno
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from components.eval.generate import answer_all, answered
from omnistage.errors import TransientError
from omnistage.files import read_jsonl, write_jsonl

PROMPTS = [{"id": f"p{n}"} for n in range(50)]


def echo(batch: Sequence[dict[str, Any]]) -> list[str | Exception]:
    return [f"answer to {prompt['id']}" for prompt in batch]


def test_an_answer_cut_short_by_a_kill_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    path.write_text('{"id": "r1", "text": "x"}\n{"id": "r2", "te')
    write_jsonl(tmp_path / "1.jsonl", [{"id": "r3", "text": "z"}])
    assert {i: row["text"] for i, row in answered(tmp_path).items()} == {"r1": "x", "r3": "z"}
    assert path.read_text() == '{"id": "r1", "text": "x"}\n'


@pytest.mark.parametrize("seed", range(4))
def test_killed_five_times_at_random_nothing_is_missing_and_nothing_twice(
    tmp_path: Path, seed: int
) -> None:
    """Given a run that is killed while it asks, and whose last line the kill cuts anywhere."""
    chance = random.Random(seed)
    target = tmp_path / "0.jsonl"

    class Killed(BaseException):
        pass

    for _ in range(5):
        left = [p for p in PROMPTS if p["id"] not in answered(tmp_path)]
        until = chance.randrange(1, 5)

        def ask(batch: Sequence[dict[str, Any]], until: int = until) -> list[str | Exception]:
            ask.calls += 1  # pyright: ignore[reportFunctionMemberAccess]
            if ask.calls > until:  # pyright: ignore[reportFunctionMemberAccess]
                raise Killed
            return echo(batch)

        ask.calls = 0  # pyright: ignore[reportFunctionMemberAccess]
        with pytest.raises(Killed):
            answer_all(left, ask, target, 3)
        with target.open("r+b") as f:
            f.truncate(target.stat().st_size - chance.randrange(0, 40))
    answer_all([p for p in PROMPTS if p["id"] not in answered(tmp_path)], echo, target, 3)
    ids = [row["id"] for row in read_jsonl(target)]
    assert sorted(ids) == sorted(p["id"] for p in PROMPTS)


def test_a_prompt_that_cannot_be_answered_gets_a_row_that_says_why(tmp_path: Path) -> None:
    def ask(batch: Sequence[dict[str, Any]]) -> list[str | Exception]:
        fault = OSError("cannot identify image file '/home/me/media/m1.png'")
        return [fault if p["id"] == "p1" else "fine" for p in batch]

    answer_all(PROMPTS[:3], ask, tmp_path / "0.jsonl", 3)
    rows = answered(tmp_path)
    assert [rows[f"p{n}"].get("text") for n in range(3)] == ["fine", None, "fine"]
    assert rows["p1"]["error"] == "OSError: cannot identify image file 'm1.png'"


def test_a_medium_that_the_disk_does_not_give_for_now_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [{"id": "p0"}, {"id": "p1", "images": [str(tmp_path / "m.png")]}]
    (tmp_path / "m.png").write_bytes(b"x")
    real = io.open

    def stale(path: Any, *given: Any, **named: Any) -> Any:
        if Path(path).name == "m.png":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return real(path, *given, **named)

    monkeypatch.setattr(io, "open", stale)
    with pytest.raises(TransientError, match=r"reading .*m\.png"):
        answer_all(prompts, lambda _: ["fine", OSError("cannot identify m.png")], tmp_path / "0", 2)


def test_a_batch_that_fails_as_a_whole_is_asked_one_by_one(tmp_path: Path) -> None:
    def ask(batch: Sequence[dict[str, Any]]) -> list[str | Exception]:
        if any(p["id"] == "p1" for p in batch):
            raise ValueError("too long:\n4096 tokens")
        return echo(batch)

    answer_all(PROMPTS[:3], ask, tmp_path / "0.jsonl", 3)
    rows = answered(tmp_path)
    assert rows["p1"]["error"] == "ValueError: 4096 tokens"
    assert rows["p2"]["text"] == "answer to p2"


def test_out_of_memory_is_the_runs_failure_and_no_records(tmp_path: Path) -> None:
    def ask(batch: Sequence[dict[str, Any]]) -> list[str | Exception]:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(RuntimeError, match="out of memory"):
        answer_all(PROMPTS, ask, tmp_path / "0.jsonl", 3)
    assert answered(tmp_path) == {}
