"""The rewards for verdicts: values worked out by hand from the published formulas."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.rewards import RANGES, REWARDS
from omnistage.rewards.columns import RewardFunction
from omnistage.rewards.omnicritic import mm_content, mm_format
from omnistage.rewards.rubric import (
    count_dimensions,
    count_strictly,
    mm_rubric,
    mm_rubric_strict,
)
from omnistage.rewards.successor import integrated_router, mm_format_light, read_points, unified_rl
from tests.records.verdict_samples import GOOD, completions, dump, json_values

COMPARED = (
    "Fluency: A and B read well, A is smoother. Relevance: A names the dog, B names a cat. "
    "Accuracy: B gets the count wrong while A has it. Reasoning: A explains why, B only claims. "
    "Safety: neither A nor B does harm."
)


def fenced(text: str) -> str:
    return f"```json\n{text}\n```"


# mm_format


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (json.dumps(GOOD), 1.0),
        (json.dumps(dict(reversed(GOOD.items()))), 1.0),
        (f"\n {json.dumps(GOOD)} \n", 1.0),
        (fenced(json.dumps(GOOD)), 0.80),
        ("{}", 0.20),
        (dump(extra=1), 0.80),
        (dump(score_A=11), 0.85),
        (dump(score_A="8"), 0.85),
        (dump(score_A=True), 0.85),
        (dump(better="tie"), 0.70),
        (dump(better="B"), 0.85),
        (dump(reasoning="no tag"), 0.85),
        (dump(reasoning="<think>open"), 0.85),
        (dump(reasoning=["<think>x</think>"]), 0.85),
        (dump(final_verdict="A"), 0.70),
        (dump(final_verdict="<answer>[[A]]</answer> or B"), 0.70),
        (dump(better="equal", final_verdict="<answer>[[equal]]</answer>"), 1.0),
        ("[1, 2]", 0.0),
        ("[" + json.dumps(GOOD) + "]", 0.0),
        ("7", 0.0),
        ("null", 0.0),
        ('"A"', 0.0),
        ("", 0.0),
        ("Sure! " + json.dumps(GOOD), 0.0),
    ],
)
def test_mm_format(text: str, reward: float):
    assert mm_format([text]) == [reward]


# mm_content


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (json.dumps(GOOD), 1.0),  # .6 + .4 (1 - 0)
        (dump(score_A=6, score_B=4), 0.6 + 0.4 * (1 - 2 * 3 / 20)),
        (dump(score_A=10, score_B=0), 0.6 + 0.4 * (1 - 2 * 5 / 20)),
        (dump(score_A=2, score_B=3, better="B"), -0.6 + 0.4 * (1 - 2 * 6 / 20)),
        (dump(score_A=5, score_B=5, better="equal"), -0.6 + 0.4 * (1 - 2 * 5 / 20)),
        (dump(score_A="8.5"), -1.0),  # not an integer in digits
        (dump(score_A=8.9), 1.0),  # cut to 8
        (dump(score_A=25), 0.6 + 0.4 * (1 - 2 * 2 / 20)),  # clipped to 10
        (dump(better="B"), -1.0),  # contradicts the scores
        (dump(better="equal"), -1.0),
        (dump(score_A=3), -1.0),  # equal scores, yet "A"
        (fenced(json.dumps(GOOD)), 1.0),
        ("[1]", -1.0),
        ("3.5", -1.0),
        ("", -1.0),
    ],
)
def test_mm_content(text: str, reward: float):
    assert mm_content([text], solution=[json.dumps(GOOD)]) == [pytest.approx(reward)]


def test_a_tie_is_right_only_where_gold_is_a_tie():
    tie = dump(score_A=5, score_B=5, better="equal")

    assert mm_content([tie, json.dumps(GOOD)], solution=[tie, tie]) == [
        pytest.approx(1.0),
        pytest.approx(-0.6 + 0.4 * (1 - 2 * 5 / 20)),
    ]


def test_each_sample_is_graded_against_its_own_solution():
    other = dump(score_A=3, score_B=8, better="B")

    assert mm_content([other, other], solution=[json.dumps(GOOD), other]) == [
        pytest.approx(-0.6 + 0.4 * (1 - 2 * 10 / 20)),
        1.0,
    ]


def test_gold_columns_come_before_the_solution_and_it_fills_their_gaps():
    rewards = mm_content(
        [json.dumps(GOOD)] * 3,
        solution=[dump(score_A=1, score_B=2, better="B")] * 3,
        better=["A", None, "A"],
        score_A=[8, None, 8],
        score_B=[3, None, None],
    )

    assert rewards == [
        pytest.approx(1.0),
        pytest.approx(-0.6 + 0.4 * (1 - 2 * 8 / 20)),
        pytest.approx(0.6 + 0.4 * (1 - 2 * 1 / 20)),
    ]


def test_a_solution_may_be_an_object_and_columns_alone_are_enough():
    assert mm_content([json.dumps(GOOD)], solution=[GOOD]) == [1.0]
    assert mm_content([json.dumps(GOOD)], better=["A"], score_A=[8], score_B=["3"]) == [1.0]


@pytest.mark.parametrize("solution", [None, "", "no JSON", "[1]", 7, ["A"], {"better": "A"}])
def test_a_sample_without_gold_is_left_out(solution: object):
    assert mm_content(["garbage", json.dumps(GOOD)], solution=[solution, GOOD]) == [None, 1.0]


def test_a_column_of_another_length_is_refused():
    with pytest.raises(ValueError, match="'solution' has 1 values for 2 completions"):
        mm_content(["", ""], solution=[GOOD])


# mm_rubric, as published


def reasoning(text: str) -> str:
    return dump(reasoning=text)


def test_the_published_rubric_counts_keywords():
    """Its known defects are kept: they are what mm_rubric_strict is for."""
    stuffed = "fluency a b relevance a b accuracy a b reasoning a b safety a b"
    assert mm_rubric([reasoning(stuffed)]) == [pytest.approx(1.0)]
    assert mm_rubric([reasoning("Fluency: a dog and b.")]) == [pytest.approx(0.2)]
    assert mm_rubric([reasoning("Safety: both better.")]) == [pytest.approx(0.2)]
    assert mm_rubric([reasoning("Safety: all are more or less.")]) == [pytest.approx(0.2)]
    assert mm_rubric([reasoning("Safety: both are fine.")]) == [pytest.approx(0.16)]
    assert mm_rubric([reasoning("score_A, unfair, flowing")]) == [0.0]


MENTIONED = [
    # reasoning, mentioned, compared: by the published rule, by the strict one
    ("", (0, 0), (0, 0)),
    ("Nothing to see.", (0, 0), (0, 0)),
    ("Fluency is fine.", (1, 0), (1, 0)),
    ("Fluency: A reads better than B.", (1, 1), (1, 1)),
    ("Fluency: response a reads better than response b.", (1, 1), (1, 1)),
    ("Fluency: both are good, one is more vivid.", (1, 1), (1, 1)),
    ("Fluency: both are good.", (1, 0), (1, 0)),
    ("Fluency: it is better.", (1, 0), (1, 0)),
    ("Fluency: a dog and a bird are shown.", (1, 0), (1, 0)),
    ("Accuracy is fine. A beats B clearly.", (1, 1), (1, 1)),  # a segment runs on to the end
    ("A beats B clearly. Accuracy is fine.", (1, 0), (1, 0)),  # and starts at the mention
    ("Flow and coherence: A reads better than B.", (1, 1), (1, 1)),  # one dimension, twice
    ("Relevance: A fits. Safety: B is harmless enough.", (2, 0), (2, 0)),
    ("Both are alike in fluency, relevance and safety.", (3, 0), (3, 0)),
    ("On accuracy A is better than B. Both are alike in fluency and safety.", (3, 1), (3, 1)),
    ("Analysis and LOGIC: A explains more than B does.", (1, 1), (1, 1)),
    ("fluency a b relevance a b accuracy a b", (3, 3), (0, 0)),
    ("fluency A B relevance A B accuracy A B", (3, 3), (0, 0)),
    ("fluency relevance accuracy reasoning safety " * 5, (5, 0), (0, 0)),
    ("fluency and relevance and accuracy and reasoning and safety", (5, 0), (0, 0)),
    ("fluency 1 relevance 2 accuracy 3", (3, 0), (0, 0)),
    # The same phrase behind every keyword is one comparison.
    (
        " ".join(f"{word}: A is better than B." for word in ("flow", "safety", "logic")),
        (3, 3),
        (3, 1),
    ),
    ("Safety: A is kinder than B. Safety: A is kinder than B.", (1, 1), (1, 1)),
]


@pytest.mark.parametrize(("text", "published", "strict"), MENTIONED)
def test_dimensions_mentioned_and_compared(
    text: str, published: tuple[int, int], strict: tuple[int, int]
):
    assert count_dimensions(text) == published
    assert count_strictly(text) == strict
    for reward, (mentioned, compared) in ((mm_rubric, published), (mm_rubric_strict, strict)):
        value = pytest.approx(0.8 * mentioned / 5 + 0.2 * compared / 5)
        assert reward([reasoning(text)]) == [value]


@pytest.mark.parametrize("reward", [mm_rubric, mm_rubric_strict])
def test_honest_reasoning_earns_the_whole_rubric(reward: RewardFunction):
    texts = [reasoning(f"<think>{COMPARED}</think>"), fenced(reasoning(COMPARED))]
    assert reward(texts) == [pytest.approx(1.0)] * 2


PROMPT = [
    {"role": "system", "content": "Weigh the fluency and the safety of both well."},
    {"role": "user", "content": "Question: which animal?\nResponse A: A dog.\nResponse B: A cat."},
]


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("Fluency: A says dog, B says cat.", 1),
        ("On fluency A is better than B.", 0),  # fits any prompt
        ("A dog. On fluency A is better than B.", 1),
        ("A dog. Weigh the fluency and the safety of both well.", 0),  # the prompt's own sentence
        ("A dog. weigh the Fluency and the safety, of both well!", 0),
    ],
)
def test_the_strict_rubric_looks_at_the_prompt(text: str, mentioned: int):
    columns = {"messages": [PROMPT]}
    value = mm_rubric_strict([reasoning(text)], **columns)[0]
    assert count_strictly(text, PROMPT)[0] == mentioned
    assert (value == 0.0) == (mentioned == 0)


def test_a_prompt_in_another_script_is_not_held_against_the_reasoning():
    prompt = [{"role": "user", "content": "哪个更好？\nA：一只狗。\nB：一只猫。"}]
    assert count_strictly("On fluency A is better than B.", prompt) == (1, 1)


@pytest.mark.parametrize("reward", [mm_rubric, mm_rubric_strict])
def test_cmp_gt_is_read_for_each_sample(reward: RewardFunction):
    given_shares = [None, 0.4, 1, 0, "0.6", 7, -1, math.nan, "x", True]
    gains = [1, 0.6, 0, 1, 0.4, 0, 1, 1, 1, 1]

    assert reward([reasoning(COMPARED)] * len(gains), cmp_gt=given_shares) == [
        pytest.approx(0.8 + 0.2 * gain) for gain in gains
    ]


@pytest.mark.parametrize("reward", [mm_rubric, mm_rubric_strict])
@pytest.mark.parametrize("text", ["", "[1]", "7", "Fluency: A beats B.", dump(reasoning=3)])
def test_an_unreadable_verdict_earns_the_rubric_floor(reward: RewardFunction, text: str):
    assert reward([text]) == [-1.0]


def test_a_verdict_without_reasoning_mentions_nothing():
    assert mm_rubric(['{"better": "A"}']) == mm_rubric_strict(['{"better": "A"}']) == [0.0]


# The successor's


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ('{"score_A": 8, "score_B": 3, "better": "A"}', 1.0),
        (fenced('{"score_A": 8, "score_B": 3, "better": "A"}'), 0.70),
        ('{"score_A": 8, "score_B": 3, "better": "A"}' + " " * 160, 0.90),
        ('{"score_A": 8, "score_B": 3, "better": "A", "reasoning": ""}', 0.65),
        ('{"score_A": 18, "score_B": 3, "better": "A"}', 0.75),
        ("{}", 0.50),
        ("", 0.0),
        ("[1]", 0.0),
    ],
)
def test_mm_format_light(text: str, reward: float):
    assert mm_format_light([text]) == [pytest.approx(reward)]


@pytest.mark.parametrize(
    ("text", "solution", "reward"),
    [
        ('{"better": "A"}', '{"better": "A"}', 1.0),
        ('{"better": "first"}', '{"better": "A"}', 1.0),
        ("The better response: second", "B", 1.0),
        ("So [[A]] it is", "[[B]]", 0.0),
        ("no idea", '{"better": "A"}', 0.0),
        ('{"score": 70}', '{"score": 80}', 0.8),
        ("Final score: 9/10", 80, 0.8),
        ("Rating: 10", 80, 0.0),
        ("I think\n95\n", "80", 0.7),
        ("no idea", "80", 0.0),
        ("95", None, None),
        ("95", "what?", None),
    ],
)
def test_unified_rl(text: str, solution: object, reward: float | None):
    wanted = None if reward is None else pytest.approx(reward)

    assert unified_rl([text], solution=[solution]) == [wanted]


def test_points_are_clipped_to_the_scale():
    assert [read_points(v) for v in (10**400, -5, "Score: 999", math.nan)] == [100, 0, 100, None]


def test_the_router_chooses_by_what_the_prompt_asks_for():
    scores = [{"role": "user", "content": [{"type": "text", "text": "Rate both on a scale of 1"}]}]
    winner = [{"role": "user", "content": "Which one is better?"}]
    text = dump(reasoning=f"<think>{COMPARED}</think>", score_A=6)

    rewards = integrated_router(
        [text] * 5,
        messages=[scores, winner, None, winner, scores],
        solution=[GOOD, GOOD, GOOD, None, None],
    )

    routed = 0.2 * 1 + 0.6 * (0.6 + 0.4 * (1 - 2 * 2 / 20)) + 0.2 * 1
    assert rewards == [pytest.approx(routed), 1.0, pytest.approx(routed), None, None]


# All of them, on anything

VERDICT_REWARDS = [
    "integrated_router",
    "mm_content",
    "mm_format",
    "mm_format_light",
    "mm_rubric",
    "unified_rl",
]
rows = st.lists(
    st.tuples(completions, completions | json_values, json_values, json_values), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(rows, st.sampled_from(VERDICT_REWARDS))
def test_any_input_gives_one_reward_in_range_for_each_completion(
    table: list[tuple[str, object, object, object]], name: str
):
    texts = [row[0] for row in table]
    columns = {
        "solution": [row[1] for row in table],
        "better": [row[2] for row in table],
        "score_A": [row[2] for row in table],
        "score_B": [row[3] for row in table],
        "cmp_gt": [row[3] for row in table],
        "messages": [row[2] for row in table],
    }

    rewards = REWARDS[name](texts, **columns, trainer_state=None)

    low, high = RANGES[name]
    assert len(rewards) == len(texts)
    assert all(reward is None or low <= reward <= high for reward in rewards)
