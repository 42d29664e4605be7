"""The rewards for answers: numbers, boxes, labels, forms. Values are worked out by hand."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.rewards import METRIC_NAMES, RANGES, REWARDS
from omnistage.rewards.answers import (
    choice,
    choices,
    closeness,
    number,
    same_number,
    text_accuracy,
    word_error_rate,
    yes_no,
)
from omnistage.rewards.columns import gold_answer, prompt_text, tagged
from omnistage.rewards.humanomni import humanomni_accuracy, humanomni_format
from omnistage.rewards.lmm_r1 import lmm_format
from omnistage.rewards.omnirl import omnirl_format
from omnistage.rewards.r1_omni import r1omni_accuracy, r1omni_format
from tests.records.verdict_samples import json_values


def answered(text: object) -> str:
    return f"<think>so</think><answer>{text}</answer>"


# What stands where


def test_the_last_whole_tag_is_the_answer():
    assert tagged("<answer>1</answer> no <answer> 2 </answer>", "answer") == "2"
    assert tagged("<answer>1</answer><answer>2", "answer") == "1"
    assert tagged("</answer><answer>", "answer") is None
    assert tagged("", "answer") is None


def test_gold_is_the_tagged_answer_or_the_whole_solution():
    solutions = ["<answer> happy </answer>", " happy ", 7, "", None, ["x"], "<answer></answer>"]

    assert [gold_answer(s) for s in solutions] == ["happy", "happy", "7", None, None, None, None]


def test_the_prompt_is_what_system_and_user_say():
    messages = [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]},
        {"role": "assistant", "content": "A"},
    ]

    assert prompt_text(messages) == "Judge.\nWhich?"
    assert prompt_text(None) == prompt_text([None]) == ""


# Forms


@pytest.mark.parametrize(
    ("text", "omnirl", "lmm", "r1omni", "humanomni"),
    [
        ("<think>a</think><answer>b</answer>", 1, 1, 1, 0),
        ("\n<think>a\nb</think>\n<answer>b</answer> ", 1, 1, 1, 0),
        ("<think>a</think> so <answer>b</answer>", 1, 0, 0, 0),
        ("<think>a</think><think>a</think><answer>b</answer>", 1, 0, 1, 0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 1, 0, 1, 0),
        ("<answer>b</answer><think>a</think>", 0, 0, 0, 0),
        ("<think>a</think><answer>b</answer> more", 0, 0, 0, 0),
        ("<context>c</context><think>a</think>\n<answer>b</answer>", 0, 0, 0, 1),
        ("<context>c<think>a</think><answer>b</answer>", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_forms(text: str, omnirl: float, lmm: float, r1omni: float, humanomni: float):
    assert omnirl_format([text]) == [omnirl]
    assert lmm_format([text]) == [lmm]
    assert r1omni_format([text]) == [r1omni]
    assert humanomni_format([text]) == [humanomni]


THINK_ANSWER = r"<think>.*?</think>\s*<answer>.*?</answer>"
pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<context>", "</context>", " ", "x"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(pieces, max_size=8))
def test_forms_are_full_matches_of_the_published_patterns(parts: list[str]):
    text = "".join(parts)

    for reward, pattern in [
        (r1omni_format, THINK_ANSWER),
        (omnirl_format, THINK_ANSWER.replace(r"\s*", ".*?")),
        (humanomni_format, r"<context>.*?</context>\s*" + THINK_ANSWER),
    ]:
        whole = re.fullmatch(pattern, text.strip(), re.DOTALL)
        assert reward([text]) == [1.0 if whole else 0.0]


def test_a_completion_that_repeats_its_tags_is_graded_without_trying_every_pairing():
    steps = "<think></think><answer></answer>" * 20_000

    assert omnirl_format([steps + "x"]) == [0.0]
    assert humanomni_format(["<context></context>" * 20_000 + steps + "x"]) == [0.0]


# Labels and short answers


def test_r1omni_accuracy_is_exact():
    golds = ["<answer> happy </answer>", "happy", "Happy", None]

    assert r1omni_accuracy([answered(" happy ")] * 4, solution=golds) == [1.0, 1.0, 0.0, None]
    assert r1omni_accuracy(["happy"], solution=["happy"]) == [0.0]


def test_short_answers_are_read():
    assert [choice(t) for t in ("B", " (b) ", "b.", "B: a dog", "A dog")] == [*"BBBB", "a dog"]
    assert choices("A, c;B,") == {"A", "B", "C"}
    assert [number(t) for t in ("−5", "1/2", "1,2", "12,34", "1,2345", "1/0")] == [
        *(-5.0, 0.5, None, None, None, None)
    ]
    assert [number(t) for t in ("1,250.5 m", "-3", ".5", "1e3", "2 or 3", "two", "")] == [
        *(1250.5, -3.0, 0.5, 1000.0),
        *(None, None, None),
    ]
    assert [yes_no(t) for t in ("Yes.", "no, yes", "nothing", "")] == ["yes", "no", None, None]


def test_word_error_rate_counts_edits_over_the_gold_words():
    assert word_error_rate("the red dog runs", "the dog runs fast") == 2 / 4
    assert word_error_rate("one two", "") == 1.0
    assert word_error_rate("one", "one two three") == 2.0
    assert word_error_rate("", "one") == 1.0
    assert text_accuracy("one", "one two three") == 0.0


def test_numbers_are_compared_to_two_decimals_or_by_relative_error():
    assert same_number("3.14", "3.1415") == 1.0
    assert same_number("3.14", "3.2") == same_number("3", "many") == 0.0
    # More digits than a float holds.
    assert same_number("123456789012345678901234", "123456789012345678901235") == 0.0
    assert same_number("123456789012345678901234", "123456789012345678901234.0") == 1.0
    assert closeness("10", "8") == pytest.approx(0.8)
    assert closeness("10", "40") == closeness("0", "1") == closeness("10", "?") == 0.0
    assert closeness("0", "0.0") == 1.0
    assert same_number("?", "1") is closeness("?", "1") is None


def test_humanomni_grades_each_row_by_its_own_kind_of_problem():
    rows = [
        ("multiple choice", "B", "(b)", 1.0),
        ("numerical", "3.14", "3.141", 1.0),
        ("OCR", "one way street", "one way", 2 / 3),
        ("regression", "10", "8", 0.8),
        ("emer_ov_mc", "A,B", "B,C,D", 2 / 5),
        ("emer_ov", "happy, calm", "calm", 2 / 3),
        ("judge", "Yes", "yes, it is", 1.0),
        ("judge", "Yes", "no", 0.0),
        ("yes_no", "?", "no", None),
        ("riddle", "A", "A", None),
        (None, "A", "A", None),
        ("multiple choice", None, "A", None),
    ]

    rewards = humanomni_accuracy(
        [answered(row[2]) for row in rows],
        solution=[row[1] for row in rows],
        problem_type=[row[0] for row in rows],
    )

    assert rewards == [r if r is None else pytest.approx(r) for *_, r in rows]
    assert humanomni_accuracy(["B"], solution=["B"], problem_type=["multiple choice"]) == [0.0]


# All of them

OFFLINE = sorted(
    REWARDS.keys() - {"remote", "omnicritic", "humanomni_context", "humanomni_logical", "lmm_math"}
)
kinds = st.sampled_from(["multiple choice", "numerical", "OCR", "regression", "emer_ov", "judge"])
texts = st.text(max_size=30) | st.builds(answered, st.text(max_size=12) | json_values)


def test_every_reward_has_a_range_and_a_curve_of_its_own():
    assert RANGES.keys() == METRIC_NAMES.keys() == REWARDS.keys()
    assert all(low < high for low, high in RANGES.values())
    assert len(set(METRIC_NAMES.values())) == len(METRIC_NAMES)
    assert all(name.isidentifier() for name in METRIC_NAMES.values())


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(texts, texts | json_values, kinds | json_values), max_size=4),
    st.sampled_from(OFFLINE),
)
def test_any_input_gives_one_reward_in_range_for_each_completion(
    rows: list[tuple[str, object, object]], name: str
):
    problem_types = ["riddle" if row[2] == "free-form" else row[2] for row in rows]

    rewards = REWARDS[name](
        [row[0] for row in rows],
        solution=[row[1] for row in rows],
        problem_type=problem_types,
    )

    low, high = RANGES[name]
    assert len(rewards) == len(rows)
    assert all(reward is None or low <= reward <= high for reward in rewards)


@pytest.mark.parametrize("name", OFFLINE)
def test_garbage_earns_the_floor(name: str):
    gold = {"solution": ["A"], "problem_type": ["multiple choice"], "better": ["A"]}
    content = {
        "score_A": [8],
        "score_B": [3],
        "messages": [[{"role": "user", "content": "score:"}]],
    }

    assert REWARDS[name](
        ["" if name == "omnirl_length" else "systemsystem"], **gold, **content
    ) in (
        [RANGES[name][0]],
        [None],
    )
