"""Rows as the systems that wrote them mean them: turns, options, thoughts, parts of media."""

from pathlib import Path
from typing import Any

import pytest

from omnistage.records.pairs import candidates
from tests.components.rewrite_paths.row_kit import chat, one, read, refused

LISTED = "q\nA. cat\nB. dog\nC. bird"
OPTIONS = ["cat", "dog", "bird"]
EARLIER = {"history": [["q1", "a1"]]}


@pytest.mark.parametrize(
    ("row", "content"),
    [
        ({"options": OPTIONS, "answer": ["A", "C"]}, LISTED),
        ({"A": "cat", "B": "dog", "C": "bird", "D": None, "answer": "A"}, LISTED),
        ({"A": 0, "B": 1, "C": 2, "answer": "A"}, "q\nA. 0\nB. 1\nC. 2"),
        ({"optionA": "cat", "optionB": "dog", "optionC": "bird", "answer": "A"}, LISTED),
        ({"options": ["$2$", "$3$", "$4$"], "answer": "2"}, "q\n$2$\n$3$\n$4$"),
        ({"options": ["2 cm", "3 cm", "4 cm"], "answer": "3"}, "q\n2 cm\n3 cm\n4 cm"),
        ({"options": [0.5, 1.0, 2.0], "answer": "1"}, "q\n0.5\n1.0\n2.0"),
        ({"options": {"1": "cat", "2": "dog"}, "answer": 1}, "q\n1. cat\n2. dog"),
        (
            {"options": ["$AB$", "$BC$", "$CD$", "$DE$"], "answer": "CD"},
            "q\n$AB$\n$BC$\n$CD$\n$DE$",
        ),
        ({"option_a": "cat", "option_b": "dog", "option_c": "bird", "answer": "A"}, LISTED),
        ({"choices": ["1", "2", "3"], "answer": 2}, "q\n1\n2\n3"),
        ({"options": "['cat', 'dog', 'bird']", "answer": "A"}, LISTED),
        ({"options": '["cat", "dog", "bird"]', "answer": "A"}, LISTED),
        ({"options": "A. cat\nB. dog\nC. bird", "answer": "A"}, LISTED),
    ],
)
def test_options_reach_the_prompt(tmp_path: Path, row: dict[str, Any], content: str) -> None:
    assert one(tmp_path, "rl", {"question": "q"} | row)["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": OPTIONS, "answer": 2}, "answer_not_in_options"),
        ({"choices": OPTIONS, "answer": "0"}, "answer_not_in_options"),
        ({"options": [f"o{n}" for n in range(30)], "answer": "C"}, "bad_field"),
        ({"answer": ["Paris", "Rome"]}, "bad_field"),
        ({"options": "none", "answer": "A"}, "bad_field"),
        ({"options": "[" * 500, "answer": "A"}, "bad_field"),
        ({"response": "<think>never closed"}, "no_answer"),
        ({"answer": "a", "audio": {"path": "p/x.png", "array": [0.5]}}, "missing_file"),
        ({"answer": "a", "video": {"path": "p/x.mp4", "start": 3, "end": 5}}, "segment"),
        ({"answer": "a", "image_path": "p/x.png"}, "media_column"),
        ({"answer": "a", "where": "p/x.png"}, "media_column"),
        ({"answer": "a", "image_1": {"bytes": None, "path": "p/x.png"}}, "media_column"),
        ({"answer": "a", "image_1": {"bytes": "iVBORw", "path": None}}, "media_column"),
        ({"answer": "a", "frames": ["p/0.png", "p/1.png"]}, "media_column"),
        ({"answer": "a", "img": "p/absent.png"}, "media_column"),
    ],
)
def test_row_whose_meaning_cannot_be_known_is_refused(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    assert refused(tmp_path, "rl", {"question": "q"} | row)[0] == reason


def test_path_beside_a_medium_or_of_another_file_is_a_column_like_others(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "answer": "a", "image": "p/x.png", "image_path": "p/x.png"},
        {"question": "q2", "answer": "a", "page": "https://x.org/a.png"},
    ]

    done = read(tmp_path, "rl", *rows)

    assert done.reasons() == []
    assert done.counts["dropped_columns"] == {"image_path": 1, "page": 1}


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("<think>3 + 4</think>\n\n42", "42"),
        ("<think>3 + 4</think><answer>42", "42"),
        ("3 + 4</think>\n42", "42"),
        ("a <think> tag", "a <think> tag"),
        ("what <think>x</think> means", "what <think>x</think> means"),
        (["Paris"], "Paris"),
        ([5], "5"),
        ("The tag </think> ends a thought.", "The tag </think> ends a thought."),
        (["A", "C"], "A, C"),
    ],
)
def test_gold_is_the_answer_without_its_thought(tmp_path: Path, answer: Any, gold: str) -> None:
    assert one(tmp_path, "rl", {"question": "q", "answer": answer})["solution"] == gold


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q2", "response": "a2"},
        {"question": "q2", "answer": "a2"},
        {"query": "q2", "response": "a2"},
    ],
)
def test_earlier_turns_are_part_of_the_dialogue(tmp_path: Path, row: dict[str, Any]) -> None:
    turns = one(tmp_path, "sft", row | EARLIER)["messages"]

    assert [turn["content"] for turn in turns] == ["q1", "a1", "q2", "a2"]


@pytest.mark.parametrize(
    "history",
    [[["q1", "a1"]], [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}]],
)
def test_a_history_is_of_pairs_or_turns(tmp_path: Path, history: list[Any]) -> None:
    row = {"query": "q2", "response": "a2", "history": history}

    turns = one(tmp_path, "sft", row)["messages"]

    assert [turn["content"] for turn in turns] == ["q1", "a1", "q2", "a2"]


@pytest.mark.parametrize("history", ["[]", [], None, ""])
def test_an_empty_history_is_none(tmp_path: Path, history: Any) -> None:
    assert one(tmp_path, "rl", {"question": "q", "answer": "a", "history": history})


def test_earlier_turns_where_none_are_read_reject_the_row(tmp_path: Path) -> None:
    row = chat(("user", "q"), ("assistant", "a"), **EARLIER)

    assert refused(tmp_path, "sft", row)[0] == "history"


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "Translate.", "input": "hello"}, "Translate.\nhello"),
        ({"instruction": "Name one.", "input": ""}, "Name one."),
        ({"question": "q", "system": "Be kind."}, "Be kind.\n\nq"),
        ({"question": "q", "instruction": "Be kind."}, "Be kind.\nq"),
        ({"question": "q", "conversation": "id7"}, "q"),
        ({"question": "q", **EARLIER}, "Human: q1\n\nAssistant: a1\n\nHuman: q"),
        ({"conversations": [{"from": "human", "value": "q"}]}, "q"),
    ],
)
@pytest.mark.parametrize("turns", [False, True])
def test_whole_question_of_a_preference_is_judged(
    tmp_path: Path, row: dict[str, Any], question: str, turns: bool
) -> None:
    sides: dict[str, Any] = {"chosen": "red", "rejected": "blue"}
    if turns:
        sides = {key: {"from": "gpt", "value": text} for key, text in sides.items()}

    record = one(tmp_path, "rl", row | sides)

    shown = record["messages"][1]["content"]
    assert shown.startswith(f"Question: {question}\n\n<response_a>")
    assert sorted(candidates(record["messages"]) or ()) == ["blue", "red"]


def test_preference_without_a_question_is_refused(tmp_path: Path) -> None:
    row = {"question": " ", "chosen": "red", "rejected": "blue"}

    assert refused(tmp_path, "rl", row) == ("no_prompt", "the question is empty")


def test_what_is_said_of_a_medium_is_counted_and_a_part_of_it_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]]
    part: dict[str, Any] = {"type": "image", "image": "p/x.png"}
    rows = [chat(("user", ""), ("assistant", f"{number}")) | {"n": 1} for number in range(3)]
    rows[0]["messages"][0]["content"] = [part | {"resized_height": 280}, "what?"]
    rows[1]["messages"][0]["content"] = [part | {"video_start": 5}, "what?"]
    rows[2]["messages"][0]["content"] = [
        {"type": "image_url", "image_url": {"url": "p/x.png", "detail": "low"}},
        {"type": "text", "text": "what?", "note": 1},
    ]

    done = read(tmp_path, "rl", *rows)

    assert done.reasons() == ["segment"]
    assert done.counts["dropped_columns"] == {
        "messages[].content[].image_url.detail": 1,
        "messages[].content[].note": 1,
        "messages[].content[].resized_height": 1,
        "n": 2,
    }


def test_column_of_the_recipe_that_a_row_lacks_is_counted(tmp_path: Path) -> None:
    done = read(
        tmp_path,
        "rl",
        {"question": "q", "answer": "a"},
        rl=[{"files": ["rl.jsonl"], "columns": {"image": "img_path"}}],
    )

    assert done.counts["dropped_columns"] == {
        "img_path (of the recipe's columns, not in the row)": 1
    }


@pytest.mark.parametrize("split", ["rl", "sft"])
def test_boxes_fill_the_solution_too(tmp_path: Path, split: str) -> None:
    row = chat(("user", "<image>Find it"), ("assistant", "<bbox>")) | {
        "images": ["p/x.png"],
        "objects": {"ref": [], "bbox": [[1, 2, 3, 4]]},
        "solution": "<bbox>",
    }

    assert one(tmp_path, split, row)["solution"] == "[1, 2, 3, 4]"


PLACE = {"type": "image", "text": None}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image"}, {"type": "text", "text": "q"}],
        [PLACE | {"index": 0}, {"type": "text", "text": "q", "index": None}],
    ],
)
def test_a_part_without_a_path_is_the_place_of_the_next_medium(
    tmp_path: Path, content: list[Any]
) -> None:
    row = {"prompt": [{"role": "user", "content": content}], "solution": "a"}

    record = one(tmp_path, "rl", row | {"images": ["p/x.png"]})

    assert record["messages"][0]["content"] == "<image>q"
    assert record["images"] == ["p/x.png"]


@pytest.mark.parametrize(
    ("parts", "images", "reason"),
    [
        ([PLACE], [], "tags_mismatch"),
        ([PLACE | {"index": 1}, PLACE | {"index": 0}], ["p/0.png", "p/1.png"], "bad_field"),
        ([{"type": "image", "image": "p/0.png"}, PLACE], ["p/1.png"], "bad_field"),
    ],
)
def test_places_that_do_not_fit_the_list_are_refused(
    tmp_path: Path, parts: list[Any], images: list[str], reason: str
) -> None:
    row = {"prompt": [{"role": "user", "content": [*parts, "q"]}], "solution": "a"}

    assert refused(tmp_path, "rl", row | {"images": images})[0] == reason


@pytest.mark.parametrize("split", ["rl", "sft"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [("<image>here", "tags_mismatch"), ([PLACE | {"image": "p/x.png"}, "here"], "bad_field")],
)
def test_an_answer_shows_no_medium(tmp_path: Path, split: str, answer: Any, reason: str) -> None:
    row = chat(("user", "draw"), ("assistant", ""))
    row["messages"][1]["content"] = answer
    shown = {"images": ["p/x.png"]} if isinstance(answer, str) else {}

    assert refused(tmp_path, split, row | shown)[0] == reason


def test_an_answer_beside_a_worked_out_solution_is_the_gold_one(tmp_path: Path) -> None:
    row = {"problem": "q", "solution": "two and two make four", "answer": "4"}

    assert one(tmp_path / "rl", "rl", row)["solution"] == "4"
    learned = one(tmp_path / "sft", "sft", row)
    assert (learned["solution"], learned["messages"][-1]["content"]) == ("4", row["solution"])
    assert one(tmp_path / "bare", "rl", {"problem": "q", "answer": "4"})["solution"] == "4"
    assert one(tmp_path / "none", "rl", row | {"solution": None})["solution"] == "4"
    tagged = row | {"solution": "<answer>5</answer>"}
    assert one(tmp_path / "tagged", "rl", tagged)["solution"] == "5"
    answered = one(tmp_path / "response", "sft", row | {"response": "r"})
    assert answered["messages"][-1]["content"] == "r"


def test_samples_beside_a_gold_answer_are_no_pair(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a", "responses": ["a", "b"], "scores": [1, 0]}

    assert one(tmp_path, "rl", row)["solution"] == "a"
