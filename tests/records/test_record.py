"""The canonical record: what is one, and how it is written."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from omnistage.errors import InputError
from omnistage.records.record import RecordError, check, dump, modality_of, prompt_of, read_records

RECORD: dict[str, Any] = {
    "id": "a.jsonl:1",
    "source": "a",
    "task": "judge",
    "messages": [
        {"role": "user", "content": "<image>Which?"},
        {"role": "assistant", "content": "{}"},
    ],
    "images": ["a/1.png"],
    "solution": "{}",
    "better": "A",
    "score_A": 8,
    "score_B": 0,
}


def test_record_is_written_in_canonical_order_without_empty_fields() -> None:
    shuffled = dict(reversed(RECORD.items())) | {"videos": [], "cmp_gt": None}

    line = dump(shuffled)

    assert list(orjson.loads(line)) == list(RECORD)
    assert line.endswith(b"}\n")
    check(orjson.loads(line))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 1}, "id"),
        ({"solution": {}}, "solution"),
        ({"task": "sing"}, "task"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, r"messages\.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\.0"),
        ({"messages": [{"role": "system", "content": "<image>"}]}, "user turn"),
        ({"images": "a/1.png"}, "images"),
        ({"images": ["/a/1.png"]}, "not relative"),
        ({"images": ["a/../1.png"]}, "not relative"),
        ({"images": ["a\\1.png"]}, "not relative"),
        ({"images": []}, "0 items but 1 <image>"),
        ({"audios": ["1.wav"]}, "1 item but 0 <audio>"),
        ({"better": "C"}, "better"),
        ({"score_A": "8"}, "score_A"),
        ({"extra": 1}, "extra: unknown"),
    ],
)
def test_what_is_no_record_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        check(RECORD | changes)


def test_reading_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rl.jsonl"
    path.write_bytes(dump(RECORD) + b"{}\n")

    with pytest.raises(InputError, match=r"rl\.jsonl:2: not a canonical record: id"):
        list(read_records(path))
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        list(read_records(tmp_path / "none.jsonl"))


def test_prompt_and_answer_are_told_apart() -> None:
    without = RECORD | {"messages": RECORD["messages"][:1], "solution": "gold"}

    assert prompt_of(RECORD) == prompt_of(without) == RECORD["messages"][:1]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"images": ["a"]}, "image"),
        ({"images": ["a"], "audios": ["b"]}, "image+audio"),
        ({}, "text"),
    ],
)
def test_modality(row: dict[str, Any], name: str) -> None:
    assert modality_of(row) == name
