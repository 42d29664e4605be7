"""Rows made to break the parser, or to pass for plain ones, are rejected or read as they are."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rewrite_paths.sources.json_list import split_items
from tests.components.rewrite_paths.convert.test_templates import FILTERS, SHAPES, outcome, shaped
from tests.components.rewrite_paths.formats.test_formats import ROWS
from tests.components.rewrite_paths.rewrite_kit import judge_row, rewrite, verdict

QUIZ = {"problem": "x", "solution": "y"}
VERDICT = json.dumps(verdict())
ONE, TWO = "/x/a/images/1.png", "/x/a/images/2.png"


def nested(depth: int, left: str = "[", right: str = "]") -> bytes:
    return f'{{"problem": "q", "solution": {left * depth}1{right * depth}}}'.encode()


def said(message: Any) -> bytes:
    return json.dumps({"message": message, "answer": "1"}).encode()


def media(path: str) -> bytes:
    return json.dumps({"problem": "q", "solution": "1", "image": path}).encode()


HOSTILE = {
    "literal with a list as a key": (said("{[]: 1}"), "bad_field"),
    "literal that is a call": (said("open('/etc/passwd')"), "bad_field"),
    "literal with a lone surrogate": (
        said("[{'role': 'user', 'content': '\\ud800'}]"),
        "bad_field",
    ),
    "literal too deep": (said("[" * 5000), "bad_field"),
    "literal with a NUL": (said("[\0]"), "bad_field"),
    "literal of a number too long": (said("1" * 5000), "bad_field"),
    "URL that is no IPv6 address": (media("file://[x/none.png"), "missing_file"),
    "URL with a host that is not normal": (media("file://\u2100/none.png"), "missing_file"),
    "list deeper than orjson writes": (nested(300), "not_json"),
    "object deeper than Python's json reads": (nested(1000, '{"a": ', "}"), "not_json"),
    "depth that only orjson reads": (nested(1020).replace(b"solution", b"x"), "not_json"),
    "unknown value of any depth": (b'{"x": ' + b"[" * 240 + b"]" * 240 + b"}", "unknown_format"),
    "media and no user turn": (
        json.dumps({"messages": [{"role": "system", "content": "x"}], "images": [ONE]}).encode(),
        "no_prompt",
    ),
    "history that is a number": (b'{"query": "x", "history": 5, "response": "y"}', "bad_field"),
    "no pairs": (b'{"conversation": [], "solution": "y"}', "no_prompt"),
    "not a number": (b'{"problem": "x", "solution": NaN}', "not_json"),
    "UTF-16": ('{"problem": "x"}'.encode("utf-16-le"), "not_json"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_row_is_rejected_and_can_be_read_again(name: str) -> None:
    line, reason = HOSTILE[name]

    first, again = (outcome([line], "rl", templates=True) for _ in range(2))

    assert first == again
    assert first[3] == {("rl", reason): 1}
    for read in (orjson.loads, json.loads):
        assert read(first[0]["rejected"])["reason"] == reason


def test_rejected_row_has_no_line_end_within_it() -> None:
    files, *_ = outcome([b'{"x": 1,\r "y": 2}'], "rl", templates=True)

    [line] = files["rejected"].decode().splitlines()
    assert json.loads(line)["row"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("turn", [("from", "value", "human"), ("role", "content", "human")])
def test_judge_rows_with_the_words_of_sharegpt_are_read(turn: tuple[str, str, str]) -> None:
    role, content, user = turn
    message = {role: user, content: f"Image file: {ONE}  \nQ"}
    line = json.dumps({"messages": [message], "images": [ONE], "solution": VERDICT}).encode()

    files, _, kept, *_ = outcome([line, line], "rl", templates=True)

    assert kept.total() == 2
    assert json.loads(files["rl"].splitlines()[0])["better"] == "A"


def with_path_in_a_turn(path: str, shown: str) -> bytes:
    row = shaped("new", path, "plain", "good", shown=shown)
    row["messages"][1]["file"] = shown
    return json.dumps(row).encode()


def with_escaped_second_line(path: str) -> bytes:
    row = shaped("new", path, "plain", "good")
    row["messages"][1]["content"] = f"Image file: {ONE}  \n" + row["messages"][1]["content"]
    return json.dumps(row).replace("Image file", "Image\\u0020file", 1).encode()


def with_escaped_slash(path: str) -> bytes:
    row = json.dumps(shaped("new", path, "plain", "good"))
    return row.replace("/x/a", "\\/x/a", 1).encode()


def with_gpt_turn(thought: str) -> bytes:
    row = shaped("new", ONE, "plain", thought)
    turn = {"role": "gpt", "content": shaped("old", ONE, "plain", "good")["output"]}
    row["messages"].append(turn)
    return json.dumps(row).encode()


def under_a_wrong_key(path: str) -> bytes:
    row = shaped("new", path, "plain", "good")
    row["imagess"] = row.pop("images")
    return json.dumps(row).encode()


@pytest.mark.parametrize(
    "lines",
    [
        [with_path_in_a_turn(ONE, ONE), with_path_in_a_turn(ONE, TWO)],
        [with_escaped_second_line(ONE), with_escaped_second_line(TWO)],
        [with_escaped_slash(ONE), with_escaped_slash("nowhere"), with_escaped_slash(TWO)],
        [with_gpt_turn("good"), with_gpt_turn("other")],
        [under_a_wrong_key(ONE), under_a_wrong_key(TWO)],
    ],
    ids=["path in a turn", "escaped second line", "escaped slash", "gpt turn", "wrong key"],
)
def test_template_is_not_learned_where_the_gaps_are_not_what_is_read(lines: list[bytes]) -> None:
    for split in ("sft", "rl"):
        assert outcome(lines, split, templates=True) == outcome(lines, split, templates=False)


VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, "", " ", "A", [], {}, [[]], [{}], {"a": []}),
    *([ONE], ONE, "file://[", "file://%ff", VERDICT, verdict(), "<image>", "<audio>"),
    *(f"Image file: {TWO}  \nq", "Image file: [/x.png\n", "{[]: 1}", "\0", "\u2028", {"path": ONE}),
    *({"human": 1}, "user", "human", "gpt", "assistant", "system", "[[1]]", "()"),
    *({"score_A": [], "better": {}}, "score_A: 1\nscore_B: 2\nbetter: Z"),
]
KEYS = "role from content value image images audio video solution answer message history system"
KEYS += " conversation options path data_type problem_type better score_A cmp_gt task type text"
GOOD = [row for _, row in ROWS.values()] + [shaped(shape, ONE, "plain", "good") for shape in SHAPES]
GOOD += [
    {"query": "q", "history": [["a", "b"]], "response": "c"},
    {"conversation": [{"human": "q", "assistant": "a"}]},
    {"instruction": "x", "input": "y", "output": "z"},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


@st.composite
def changed_rows(draw: st.DrawFn) -> bytes:
    """A good row of any format in which up to three values are others, gone or renamed."""
    row = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 3))):
        known = list(places(row))
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        inner = row
        for key in way:
            inner = inner[key]
        kind = draw(st.sampled_from(["other", "other", "gone", "renamed", "added"]))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if kind in ("renamed", "added") and isinstance(inner, dict):
            new = inner.pop(last) if kind == "renamed" else value
            inner[draw(st.sampled_from(KEYS.split()))] = new
        elif kind == "gone":
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(row, ensure_ascii=draw(st.booleans())).encode()


@pytest.mark.parametrize("split", ["sft", "rl"])
@given(rows=st.lists(changed_rows(), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_changed_row_of_any_format_becomes_one_record_or_one_rejection(
    split: Any, rows: list[bytes]
) -> None:
    lines = [*rows, *rows]

    fast = outcome(lines, split, templates=True)

    assert fast == outcome(lines, split, templates=False, filters=FILTERS)
    files, _, kept, rejected, *_ = fast
    assert kept.total() + rejected.total() == len(lines)
    for content in files.values():
        for line in content.decode().split("\n")[:-1]:
            assert orjson.loads(line).keys() == json.loads(line).keys()


JSON_VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a[]{},:"\\\n é'), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    items=st.lists(JSON_VALUES, max_size=5),
    size=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    mark=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_items_of_a_list_are_found_wherever_its_blocks_end(
    items: list[Any], size: int, indent: int | None, mark: bool
) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=False).encode()
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    if mark:
        blocks[0] = b"\xef\xbb\xbf" + blocks[0]

    assert [json.loads(item) for item in split_items(iter(blocks))] == items


def test_text_that_never_ends_is_one_last_item() -> None:
    text = b'[{"a": 1}, "' + b"x" * 4_000_000
    blocks = (text[at : at + 1000] for at in range(0, len(text), 1000))

    assert [len(item) for item in split_items(blocks)] == [8, 4_000_001]


def test_reason_does_not_repeat_a_whole_medium_that_stands_in_a_row() -> None:
    line = media("iVBORw0KGgo" * 10_000)

    files, *_ = outcome([line], "rl", templates=True)

    assert len(json.loads(files["rejected"])["detail"]) < 300


def test_giant_row_is_read_in_full(tmp_path: Path) -> None:
    giant = {"problem": "x" * 5_000_000, "solution": "y"}
    broken = b'{"problem": "' + b"\\" * 3_000_001

    done = rewrite(tmp_path, {"rl.jsonl": json.dumps(giant).encode() + b"\n" + broken}, workers=2)

    assert len(done.rows("rl")[0]["messages"][0]["content"]) == 5_000_000
    assert done.reasons() == ["not_json"]
    assert done.balanced()


def test_first_row_counts_for_sampling_after_a_byte_order_mark(tmp_path: Path) -> None:
    rows = [json.dumps({"problem": f"{n}?", "solution": f"{n}"}).encode() for n in range(4)]
    content = b"\xef\xbb\xbf\n" + b"\n".join(rows)

    done = rewrite(
        tmp_path, {"rl.jsonl": content}, rl=[{"files": ["rl.jsonl"], "sampling": "end:1"}]
    )

    assert [r["solution"] for r in done.rows("rl")] == ["3"]
    assert done.counts["rows"] == 4


def test_row_after_a_byte_order_mark_counts_for_the_split(tmp_path: Path) -> None:
    pair = judge_row("p0.png")
    pair["images"] = ["p0.png", "p1.png"]
    pair["messages"][1]["content"] = "<image><image>Q?"
    rows = [pair, *(judge_row(f"p{n % 2}.png") for n in range(20))]
    rows += [judge_row(f"m{n}.png") for n in range(20)]
    content = b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    members = ["p0.png", "p1.png", *(f"m{n}.png" for n in range(20))]

    for seed in range(6):
        done = rewrite(
            tmp_path / str(seed), {"rl.jsonl": content}, members, split={"test": 0.3}, seed=seed
        )
        assert done.reasons() == []
