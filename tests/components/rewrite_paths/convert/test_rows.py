"""No row is lost or changed by chance: not by broken bytes, kills or several processes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.convert import processes as engine
from components.rewrite_paths.stage import STAGE
from omnistage.errors import StageFailedError
from omnistage.events import Events
from omnistage.records.record import read_records
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.stage.execute import execute
from tests.components.rewrite_paths.convert.test_templates import outcome
from tests.components.rewrite_paths.formats.test_formats import ROWS
from tests.components.rewrite_paths.rewrite_kit import dataset, judge_row, rewrite


def mutations(line: bytes) -> st.SearchStrategy[bytes]:
    """Broken neighbours of a good line: bytes cut out, put in or changed."""

    def change(at: int, length: int, new: bytes) -> bytes:
        at %= len(line) + 1
        return line[:at] + new + line[at + length :]

    return st.builds(
        change,
        st.integers(0, 10_000),
        st.integers(0, 30),
        st.sampled_from([b"", b'"', b"\\", b"\x00", b"\xff", b"{", b"]", b"1e999", b"\\ud800"]),
    )


KEYS = [
    "messages",
    "role",
    "content",
    "image",
    "images",
    "solution",
    "problem",
    "path",
    "conversations",
    "from",
    "value",
    "input",
    "output",
    "message",
    "answer",
    "video",
    "data_type",
    "options",
    "better",
    "type",
    "image_url",
]
GOOD = [json.dumps(row).encode() for _, row in ROWS.values()]
LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(GOOD).flatmap(mutations),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYS),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(lines=st.lists(LINES, max_size=12))
@settings(max_examples=150, deadline=None)
def test_no_line_crashes_the_parser_or_is_lost(lines: list[bytes]) -> None:
    lines = [part for line in lines for part in line.split(b"\n")]
    rows = sum(1 for line in lines if line and not line.isspace())

    files, _, kept, rejected, *_ = outcome(lines, "sft", templates=True)

    assert kept.total() + rejected.total() == rows
    assert sum(content.count(b"\n") for content in files.values()) == rows
    for content in files.values():
        for line in content.splitlines():
            json.loads(line)


def many(count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n in range(count):
        row = judge_row(f"/x/images/{n % 50}.png")
        row["messages"][1]["content"] += f", number {n}"
        rows.append(row if n % 7 else {"problem": f"{n}?", "solution": "yes"})
        if n % 31 == 0:
            rows.append({"broken": n})
    return rows


@pytest.mark.parametrize("extra", [{}, {"deduplicate": "prompt", "balance": True}])
def test_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
) -> None:
    monkeypatch.setattr(engine, "CHUNK", 4000)
    files = {"sft.jsonl": many(150), "b/sft2.jsonl": many(40), "rl.jsonl": many(60)}
    members = [f"a/images/{n}.png" for n in range(50)]
    sampled = {"sft": [{"files": ["**/*sft*.jsonl"], "sampling": "random:60%"}]}

    runs = [
        rewrite(tmp_path / str(n), files, members, workers=n, seed=3, **sampled, **extra)
        for n in (1, 2, 5)
    ]

    assert runs[0].balanced()
    assert runs[0].counts["rejected"]["unknown_format"] > 3
    for run in runs[1:]:
        assert (run.digest, run.counts) == (runs[0].digest, runs[0].counts)


def test_process_that_ends_early_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any) -> None:
        os._exit(9)

    monkeypatch.setattr(engine, "CHUNK", 300)
    monkeypatch.setattr(engine, "_convert_chunk", end)

    with pytest.raises(StageFailedError, match="exit code 9"):
        rewrite(tmp_path, {"rl.jsonl": many(60)}, workers=2)


def test_rejected_rows_name_the_line_they_stand_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHUNK", 300)
    good = json.dumps({"problem": "x", "solution": "y"}).encode()
    lines = [b"" if n % 5 == 1 else b"{" if n % 9 == 0 else good for n in range(100)]

    done = rewrite(tmp_path, {"rl.jsonl": b"\n".join(lines)}, workers=2)

    assert [r["line"] for r in done.rows("rejected")] == [
        n + 1 for n, line in enumerate(lines) if line == b"{"
    ]
    assert [int(r["id"].rpartition(":")[2]) for r in done.rows("rl")] == [
        n + 1 for n, line in enumerate(lines) if line == good
    ]


def test_byte_order_mark_windows_line_ends_and_a_missing_last_one_are_read(tmp_path: Path) -> None:
    good = json.dumps({"problem": "x", "solution": "y"}).encode()

    done = rewrite(tmp_path, {"rl.jsonl": b"\xef\xbb\xbf" + good + b"\r\n" + good})

    assert done.counts["rl"] == 2


def test_input_is_not_written_to(tmp_path: Path) -> None:
    store, manifest = dataset(tmp_path, {"rl.jsonl": [judge_row("1.png")]}, ["1.png"])
    folder = store.local(manifest)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

    execute(STAGE, RewriteSettings(workers=1), {"data": manifest}, store)

    assert before == {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_run_after_a_killed_one_starts_clean(tmp_path: Path) -> None:
    store, manifest = dataset(tmp_path, {"rl.jsonl": [judge_row("1.png")]}, ["1.png"])
    for place in ("work/rewrite", "out"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "rl.jsonl").write_text("left over " * 1000)
    context = Context(
        "rewrite_paths",
        RewriteSettings(workers=1),
        {"data": manifest},
        store,
        tmp_path / "work",
        tmp_path / "out",
        "0" * 32,
        TaskRuntime(),
        Events("rewrite_paths", echo=False),
    )

    STAGE.run(context)

    assert len(list(read_records(tmp_path / "out" / "rl.jsonl"))) == 1
    assert list((tmp_path / "work").iterdir()) == []
