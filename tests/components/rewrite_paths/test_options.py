"""Options of a question: shown with the letters that its answer names, which must be there."""

from pathlib import Path
from typing import Any

import pytest

from tests.components.rewrite_paths.row_kit import one, refused

LISTED = "q\nA. x\nB. y\nC. z"


def asked(answer: Any, options: Any = ("x", "y", "z")) -> dict[str, Any]:
    return {"question": "q", "options": options, "answer": answer}


@pytest.mark.parametrize(
    "answer", ["B", "b", "(b)", "A,C", "A and C", ["A", "B"], "B. y", "(B) y", "Option B"]
)
def test_options_have_letters_where_the_answer_names_some(tmp_path: Path, answer: Any) -> None:
    assert one(tmp_path, "rl", asked(answer))["messages"][0]["content"] == LISTED


@pytest.mark.parametrize(
    ("answer", "gold", "task"),
    [
        ("b", "B", "choice"),
        ("(b)", "B", "choice"),
        ("[B]", "B", "choice"),
        ("Answer: B", "B", "choice"),
        ("B. y", "B", "choice"),
        ("A and C", "A, C", "multi_choice"),
        ("A/C", "A, C", "multi_choice"),
        ("AC", "A, C", "multi_choice"),
        ("<think>t</think><answer>(c)</answer>", "C", "choice"),
    ],
)
def test_gold_is_the_letters_of_the_right_options(
    tmp_path: Path, answer: str, gold: str, task: str
) -> None:
    record = one(tmp_path / "rl", "rl", asked(answer))
    learned = one(tmp_path / "sft", "sft", asked(answer))

    assert (record["solution"], record["task"]) == (gold, task)
    assert learned["solution"] == gold
    assert learned["messages"][-1]["content"] == answer


def test_gold_that_is_a_labelled_option_is_its_letter(tmp_path: Path) -> None:
    record = one(tmp_path, "rl", asked("B. y", ["A. x", "B. y"]))

    assert (record["solution"], record["task"]) == ("B", "choice")


@pytest.mark.parametrize(
    ("answer", "options"),
    [("y", {"A": "x", "B": "y"}), ("E. coli", ["E. coli", "S. aureus"])],
)
def test_gold_that_is_the_text_of_an_option_stays_it(
    tmp_path: Path, answer: str, options: Any
) -> None:
    assert one(tmp_path, "rl", asked(answer, options))["solution"] == answer


def test_number_in_a_name_is_no_value_of_an_option(tmp_path: Path) -> None:
    row = asked("1", ["World War 1", "World War 2"])

    assert refused(tmp_path, "rl", row)[0] == "answer_not_in_options"


def test_options_with_small_letters_have_labels_already(tmp_path: Path) -> None:
    record = one(tmp_path, "rl", asked("b", ["a) x", "b) y"]))

    assert record["messages"][0]["content"] == "q\na) x\nb) y"
    assert record["solution"] == "B"


@pytest.mark.parametrize("answer", ["x", "Y", "neither", "E. coli"])
def test_options_have_none_where_the_answer_is_a_text(tmp_path: Path, answer: str) -> None:
    assert one(tmp_path, "rl", asked(answer))["messages"][0]["content"] == "q\nx\ny\nz"


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ("D", ["A. x", "B. y"]),
        ("C", {"A": "x", "B": "y"}),
        ("C", ["x", "y"]),
        ("Z, A", ["x", "y"]),
        (["A", "D"], ["(A) x", "(B) y"]),
    ],
)
def test_letter_that_no_option_has_is_refused(tmp_path: Path, answer: Any, options: Any) -> None:
    assert refused(tmp_path, "rl", asked(answer, options))[0] == "answer_not_in_options"


@pytest.mark.parametrize(
    ("answer", "options"),
    [("C. y", ["x", "y", "z"]), ("(A) y", ["A. x", "B. y"]), ("D. x", {"A": "x", "B": "y"})],
)
def test_answer_whose_letter_and_text_disagree_is_refused(
    tmp_path: Path, answer: str, options: Any
) -> None:
    assert refused(tmp_path, "rl", asked(answer, options))[0] == "gold_conflict"


def test_options_that_begin_like_labels_get_letters(tmp_path: Path) -> None:
    record = one(tmp_path, "rl", asked("A", ["E. coli", "S. aureus"]))

    assert record["messages"][0]["content"] == "q\nA. E. coli\nB. S. aureus"


@pytest.mark.parametrize(
    "row",
    [
        {"message": '[{"role": "user", "content": "q"}]', "answer": "B"},
        {"question": "q", "response_a": "B", "response_b": "it is A", "better": "A"},
        {"question": "q", "chosen": "B", "rejected": "E"},
    ],
)
def test_options_of_every_format_are_shown(tmp_path: Path, row: dict[str, Any]) -> None:
    record = one(tmp_path, "rl", row | {"options": ["x", "y", "z"]})

    assert LISTED in record["messages"][-1]["content"]


@pytest.mark.parametrize(
    "solution", ["<answer></answer>", "<think><answer>A</answer></think>", "so <answer> </answer>"]
)
def test_gold_without_an_answer_is_refused(tmp_path: Path, solution: str) -> None:
    row = {"problem": "q", "solution": solution}

    assert refused(tmp_path, "rl", row)[0] == "no_answer"
