"""Values of a row that used to change or vanish on reading: each ends as what it is, or by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.components.rewrite_paths.rewrite_kit import judge_row, rewrite
from tests.components.rewrite_paths.row_kit import MEMBERS, chat, one, read, refused


@pytest.mark.parametrize(
    "number", ["123456789012345678901234", "1.10", "3.141592653589793238", "1e3", "0.0", "7"]
)
def test_a_number_keeps_its_text(tmp_path: Path, number: str) -> None:
    rows = [
        f'{{"problem": "q", "solution": {number}}}',
        f'{{"problem": "q", "solution": [{number}, 2]}}',
        f'{{"problem": "q", "solution": "B", "options": [1, {number}]}}',
    ]

    done = rewrite(tmp_path, {"rl.jsonl": "\n".join(rows).encode()})

    single, listed, options = done.rows("rl")
    assert single["solution"] == number
    assert listed["solution"] == f"[{number}, 2]"
    assert options["options"] == ["1", number]
    assert options["messages"][0]["content"].endswith(f"A. 1\nB. {number}")


def test_kto_row_that_is_marked_bad_is_refused_by_name(tmp_path: Path) -> None:
    row = chat(("user", "Capital of Blueland?"), ("assistant", "Go away."), label=False)

    assert refused(tmp_path / "sft", "sft", row)[0] == "label_false"
    assert refused(tmp_path / "rl", "rl", row)[0] == "label_false"
    good = one(tmp_path / "good", "sft", row | {"label": True})
    assert good["solution"] == "Go away."


BOX = chat(
    ("user", "<image>Find the <ref-object>"),
    ("assistant", "It is at <bbox>"),
    images=["p/x.png"],
    objects={"ref": ["hat"], "bbox": [[10, 20, 30, 40]]},
)


def test_grounding_row_keeps_its_boxes_for_the_trainer(tmp_path: Path) -> None:
    record = one(tmp_path, "sft", BOX)

    assert record["objects"] == BOX["objects"]
    assert record["messages"][0]["content"] == "<image>Find the <ref-object>"
    assert record["messages"][1]["content"] == "It is at <bbox>"
    assert record["solution"] == "It is at [10, 20, 30, 40]"


def test_grounding_row_has_names_and_boxes_written_out_where_nothing_is_learned(
    tmp_path: Path,
) -> None:
    record = one(tmp_path, "rl", BOX)

    assert "objects" not in record
    assert record["messages"] == [{"role": "user", "content": "<image>Find the hat"}]
    assert record["solution"] == "It is at [10, 20, 30, 40]"


@pytest.mark.parametrize(
    "objects",
    [
        {"ref": ["hat"], "bbox": []},
        {"ref": [], "bbox": [[1, 2, 3, 4]]},
        {"ref": ["hat"], "bbox": [[1, 2, 3]]},
        {"ref": ["hat"], "bbox": [["a", 1, 2, 3]]},
        {"ref": ["hat"], "bbox": [[1, 2, 3, 4]], "bbox_type": "x"},
        {"ref": ["hat"], "bbox": [[1, 2, 3, 4]], "image_id": [1]},
        {"ref": ["hat"], "bbox": [[1, 2, 3, 4]], "image_id": [-1]},
        {"ref": ["hat"], "bbox": [[1, 2, 3, 4]], "image_id": 0},
        [1],
    ],
)
def test_grounding_row_whose_places_and_objects_differ_is_refused(
    tmp_path: Path, objects: Any
) -> None:
    assert refused(tmp_path, "sft", BOX | {"objects": objects})[0] == "bad_objects"


def test_gold_that_a_reward_needs_whole_stays_whole(tmp_path: Path) -> None:
    gold = "<context>A woman laughs.</context><think>She is glad.</think><answer>A</answer>"
    row = {
        "problem": "How does the woman feel?",
        "problem_type": "emer_ov_mc",
        "options": ["A. Glad", "B. Sad"],
        "solution": gold,
        "data_type": "image",
        "path": "p/x.png",
    }

    record = one(tmp_path, "rl", row)

    assert record["solution"] == gold
    assert record["task"] == "multi_choice"
    assert record["messages"][0]["content"] == (
        "<image>\nHow does the woman feel?\nA. Glad\nB. Sad"
    )


def test_response_is_what_is_learned_and_solution_the_answer(tmp_path: Path) -> None:
    response = "<think>six sevens</think><answer>42</answer>"
    rows = [
        {"query": "6*7?", "response": response, "solution": "42"},
        {"problem": "6*7?", "response": response, "solution": "42"},
        {"question": "6*7?", "response": response, "answer": 42},
    ]

    for record in read(tmp_path, "sft", *rows).rows("sft"):
        assert record["messages"][-1] == {"role": "assistant", "content": response}
        assert record["solution"] == "42"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (
            {"problem": "Which colour?", "options": ["A. red", "B. blue"], "solution": "B"},
            "Which colour?\nA. red\nB. blue",
        ),
        (
            {
                "problem": "In Fig. 1, are there 2 or 3 hats?",
                "options": ["1", "2", "3"],
                "solution": "<answer>B</answer>",
            },
            "In Fig. 1, are there 2 or 3 hats?\nA. 1\nB. 2\nC. 3",
        ),
        ({"problem": "Red or blue?\nA. red\nB. blue", "options": ["red", "blue"]}, None),
        ({"problem": "Which? (A) red (B) blue", "options": ["red", "blue"]}, None),
        ({"problem": "Which? A. red, B. blue", "options": ["A. red", "B. blue"]}, None),
        ({"problem": "Is it red or blue?", "options": ["red", "blue"], "solution": "red"}, None),
        (
            {"problem": "Is it red or blue?", "options": ["red", "blue"]},
            "Is it red or blue?\nA. red\nB. blue",
        ),
        ({"question": "Who?", "choices": ["me", "you"], "answer": "me"}, "Who?\nme\nyou"),
        ({"question": "Who?", "options": {"A": "me", "B": "you"}}, "Who?\nA. me\nB. you"),
    ],
)
def test_options_reach_the_prompt_unless_it_lists_them(
    tmp_path: Path, row: dict[str, Any], prompt: str | None
) -> None:
    row = row if row.keys() & {"solution", "answer"} else row | {"solution": "B"}

    record = one(tmp_path, "rl", row)

    assert record["messages"][0]["content"] == (prompt or row["problem"])


def test_answer_that_is_no_option_is_refused(tmp_path: Path) -> None:
    row = {"problem": "Which?", "options": ["red", "blue"], "solution": "C"}

    assert refused(tmp_path, "rl", row)[0] == "answer_not_in_options"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>the tag <answer> comes last</think><answer>B</answer>", "B"),
        ("<think>not <answer>A</answer></think><answer>B</answer>", "B"),
        ("<answer>A</answer> no: <answer>B</answer>", "B"),
        ("plain", "plain"),
    ],
)
def test_answer_is_the_last_one_outside_the_thought(tmp_path: Path, text: str, answer: str) -> None:
    assert one(tmp_path, "rl", {"problem": "Which?", "solution": text})["solution"] == answer


def test_file_named_for_a_split_belongs_to_no_other(tmp_path: Path) -> None:
    row = {"message": '[{"role":"user","content":"1+1?"}]', "answer": "$2$"}

    done = rewrite(tmp_path, {"d15_test.jsonl": [row]}, sft=[{"files": ["d15_test.jsonl"]}])

    assert (done.counts["sft"], done.counts["test"]) == (1, 0)
    assert done.reasons() == []


def test_turns_of_one_role_in_a_row_are_one_turn(tmp_path: Path) -> None:
    rows = [
        chat(("user", "part one"), ("user", "part two"), ("assistant", "ok")),
        chat(("user", "q"), ("assistant", "<think>t</think>"), ("assistant", "a")),
    ]

    users, answers = read(tmp_path, "sft", *rows).rows("sft")

    assert users["messages"][0] == {"role": "user", "content": "part one\npart two"}
    assert answers["messages"][1]["content"] == "<think>t</think>\na"


def test_texts_and_answers_are_read_under_their_other_names(tmp_path: Path) -> None:
    part = {"type": "text", "value": "hi"}
    rows = [
        {"query": "q", "answer": "a"},
        {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "x"}]},
    ]

    first, second = read(tmp_path, "sft", *rows).rows("sft")

    assert first["solution"] == "a"
    assert second["messages"][0]["content"] == "hi"


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (
            [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}],
            "missing_file",
            "stands in the row itself",
        ),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
            "missing_file",
            "stands in the row itself",
        ),
        (
            [{"type": "image_url", "image_url": {"url": "https://x.test/p.png"}}],
            "missing_file",
            "an address on the web",
        ),
        (None, "bad_field", "content must be a text"),
        ([{"type": "text"}], "bad_field", "has no text"),
    ],
)
def test_reason_is_the_true_one(tmp_path: Path, content: Any, reason: str, words: str) -> None:
    row = chat(("user", "q"), ("assistant", "x"))
    row["messages"][0]["content"] = content

    found, detail = refused(tmp_path, "sft", row)

    assert found == reason
    assert words in detail


def test_empty_answer_is_said_to_be_empty(tmp_path: Path) -> None:
    row = chat(("user", "q"), ("assistant", " "))

    assert refused(tmp_path, "sft", row) == ("no_answer", "the answer is empty")


@pytest.mark.parametrize(
    ("problem", "solution", "task"),
    [
        ("What does it cost?", "$5", "free_form"),
        ("What do they cost?", "$5 or $6", "free_form"),
        ("Where is it?", "C:\\data\\x", "free_form"),
        ("Sort them", "[3, 1, 2, 4]", "free_form"),
        ("Describe it", "Of 10, 20, 30 and 40 the last", "free_form"),
        ("<image>Give the bounding box of the hat", "[10, 20, 30, 40]", "rec"),
        ("<image>Provide the coordinates of the hat", "[10, 20, 30, 40]", "rec"),
        ("Give the bounding box of these points", "[1, 2, 3, 4]", "free_form"),
        ("<image>Locate the cat and output its box.", "[10, 20, 30, 40]", "rec"),
        ("Which segment?", "$AB$", "math"),
        ("Find x.", "We add them and so the final answer is $\\boxed{5}$.", "math"),
        ("Where?", "\\times square is a place", "free_form"),
        ("Which letter?", "$x$", "math"),
        ("How large?", "\\frac{1}{2} \\text{square meters per hour}", "math"),
        ("How long is AB?", "$\\frac{1}{2}$", "math"),
        ("How long is AB?", "2\\sqrt{3}", "math"),
    ],
)
def test_task_is_not_guessed_from_a_sign_in_prose(
    tmp_path: Path, problem: str, solution: str, task: str
) -> None:
    row = {"problem": problem, "solution": solution}
    shown = {"image": "p/x.png"} if "<image>" in problem else {}

    assert one(tmp_path, "rl", row | shown)["task"] == task


@pytest.mark.parametrize(
    ("box", "kind"), [("[10.50,2,30,20]", "real"), ("[0.1,0.25,0.3,0.40]", "norm1")]
)
def test_box_of_decimal_numbers_is_kept_as_it_is_written(
    tmp_path: Path, box: str, kind: str
) -> None:
    row = json.dumps(BOX).replace("[10, 20, 30, 40]", box)
    row = row.replace('"bbox":', f'"bbox_type": "{kind}", "bbox":')

    done = rewrite(tmp_path, {"sft.jsonl": row.encode()}, MEMBERS)

    assert done.reasons() == []
    assert f'"bbox":[{box}]' in (done.folder / "sft.jsonl").read_text()


def test_decimal_column_of_a_verdict_is_kept(tmp_path: Path) -> None:
    row = judge_row("p/x.png") | {"cmp_gt": 0.5}

    assert one(tmp_path, "rl", row)["cmp_gt"] == 0.5


def test_a_number_too_large_for_a_float_is_kept_and_nan_is_named(tmp_path: Path) -> None:
    rows = [b'{"problem": "q", "solution": 1e400}', b'{"problem": "q", "solution": "x", "n": NaN}']

    done = rewrite(tmp_path, {"rl.jsonl": b"\n".join([*rows, b""])})

    assert [row["solution"] for row in done.rows("rl")] == ["1e400"]
    [refused_row] = done.rows("rejected")
    assert refused_row["detail"] == "NaN is no value of JSON; write null"


def test_objects_of_a_table_without_boxes_are_none(tmp_path: Path) -> None:
    row = chat(("user", "q"), ("assistant", "a"), objects={"ref": None, "bbox": None})

    assert "objects" not in one(tmp_path, "sft", row)


def test_one_column_cannot_stand_for_two(tmp_path: Path) -> None:
    entry = {"files": ["rl.jsonl"], "columns": {"question": "text", "answer": "text"}}

    with pytest.raises(ValidationError, match="'text' is given for two columns"):
        read(tmp_path, "rl", {"text": "q"}, rl=[entry])
