"""Each column of a row is used, carried along, refused by name, or counted as dropped."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rewrite_paths.convert.row import parse
from components.rewrite_paths.draft import RowError
from components.rewrite_paths.formats.read_row import read_row
from tests.components.rewrite_paths.formats.test_formats import ROWS
from tests.components.rewrite_paths.row_kit import ASKED, GOOD, chat, one, read, refused


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat(("user", "Weather?"), ("assistant", "sunny"), tools='[{"name": "f"}]'), "tools"),
        (chat(("user", "Hi"), ("tool", "x"), ("assistant", "Hello")), "tools"),
        (chat(("user", "Hi"), ("assistant", "Hello"), rejected_response="Go"), "preference"),
        (
            chat(("user", "Hi"), ("assistant", "Hello"), rejected_messages=[{"role": "user"}]),
            "rejected_messages",
        ),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, "preference"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "d", "loss": False}]}
            | {"images": ["p/0.png"]},
            "loss_false",
        ),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "d", "loss_scale": 0.5}]}
            | {"images": ["p/0.png"]},
            "loss_scale",
        ),
    ],
)
def test_column_that_changes_what_is_learned_is_refused_by_name(
    tmp_path: Path, row: Any, reason: str
) -> None:
    found, detail = refused(tmp_path, "sft", row)

    assert found == reason
    if "rejected_response" in row:
        assert "rejected_response" in detail


@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_system_prompt_beside_the_conversation_is_its_first_turn(tmp_path: Path, key: str) -> None:
    rows = [
        {key: "be brief", "query": "Weather?", "response": "sunny"},
        chat(("user", "Weather?"), ("assistant", "sunny"), **{key: "be brief"}),
    ]

    for record in read(tmp_path / "1", "sft", *rows).rows("sft"):
        assert record["messages"][0] == {"role": "system", "content": "be brief"}
    other = chat(("system", "x"), ("user", "a"), ("assistant", "b"), **{key: "be brief"})
    assert refused(tmp_path / "2", "sft", other)[0] == "bad_field"


def test_answer_not_to_be_learned_stays_one(tmp_path: Path) -> None:
    row = {
        "messages": [
            ASKED,
            {"role": "assistant", "content": "d", "loss": False},
            {"role": "user", "content": "e"},
            {"role": "assistant", "content": "f", "loss": True},
        ],
        "images": ["p/0.png"],
    }

    record = one(tmp_path / "sft", "sft", row)
    prompt = one(tmp_path / "rl", "rl", row)

    assert record["messages"][1] == {"role": "assistant", "content": "d", "loss": False}
    assert record["messages"][3] == {"role": "assistant", "content": "f"}
    assert prompt["messages"][1] == {"role": "assistant", "content": "d"}


def test_column_that_nothing_uses_is_counted(tmp_path: Path) -> None:
    row = chat(("user", "Make 24 of 4 6 1"), target=24, nums=[4, 6, 1], solution="4*6*1")
    row["messages"][0]["name"] = "Bo"

    done = read(tmp_path, "rl", row, row, GOOD)

    expected = {"messages[].name": 2, "nums": 2, "target": 2}
    assert done.counts["dropped_columns"] == expected
    card = json.loads((done.folder / "card.json").read_text())
    assert card["dropped_columns"] == expected
    assert "nums" in (done.folder / "card.html").read_text()


NAMES = (
    "messages prompt completion chosen rejected rejected_response query response solution answer "
    "question problem options choices objects label tools system system_prompt loss better id "
    "source task image images nums target x human_ranking Text path data_type problem_type "
    "conversations message input output instruction history channel"
)
KEYS = st.sampled_from(NAMES.split()) | st.text(max_size=4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "A", "<image>", "false"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=3,
)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.just("hi")},
    optional={"loss": st.booleans(), "name": st.just("Bo")},
)
BASES = [row for _, row in ROWS.values()]


@pytest.mark.parametrize("split", ["sft", "rl", "test"])
@given(
    base=st.sampled_from([{}, *BASES]),
    more=st.dictionaries(KEYS, VALUES, max_size=4),
    turns=st.none() | st.lists(TURN, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_each_column_of_any_row_is_used_carried_or_counted(
    split: Any, base: dict[str, Any], more: dict[str, Any], turns: Any
) -> None:
    row = base | more | ({} if turns is None else {"messages": turns})
    line = json.dumps(row).encode()
    try:
        whole = read_row(parse(line), "auto", split)
        dropped = set(whole.dropped)
    except RowError:
        return  # the row is kept in rejected.jsonl as it is
    for key in row.keys() - dropped:
        # What counts as used makes a difference: without it the draft is another, or none.
        rest = {name: value for name, value in row.items() if name != key}
        if rest == row or row[key] in (None, "", [], {}, False, True, "[]", "{}"):
            continue
        try:
            without = read_row(parse(json.dumps(rest).encode()), "auto", split)
        except RowError:
            continue
        assert without != whole, key
