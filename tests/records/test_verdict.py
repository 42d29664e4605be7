"""Reading, checking and mirroring a judge's verdict."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.records.verdict import (
    VERDICT_KEYS,
    Verdict,
    VerdictError,
    parse_verdict,
    swap,
    swap_json,
    swap_names,
)
from omnistage.rewards import REWARDS
from tests.records.verdict_samples import GOOD, completions, dump


def test_a_good_verdict_is_read_from_text_and_from_an_object():
    wanted = Verdict(8, 3, "A", GOOD["reasoning"], GOOD["final_verdict"])

    assert parse_verdict(json.dumps(GOOD), strict=True) == wanted
    assert parse_verdict(GOOD, strict=True) == wanted


def test_the_order_of_the_keys_does_not_matter():
    mirrored = dict(reversed(GOOD.items()))

    assert parse_verdict(json.dumps(mirrored), strict=True) == parse_verdict(GOOD)


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```JSON\n{}```", "```\n{}\n```", "\n {} "])
def test_a_fence_is_opened(fence: str):
    assert parse_verdict(fence.replace("{}", json.dumps(GOOD))).better == "A"


def test_scores_are_cast_and_clipped():
    verdict = parse_verdict('{"score_A": "12", "score_B": -3.7, "better": "A"}')

    assert (verdict.score_a, verdict.score_b) == (10, 0)
    assert (verdict.reasoning, verdict.final_verdict) == ("", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("Response A is better.", "not JSON"),
        ('{"score_A": 8', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list"),
        ("7", "a int"),
        ("null", "a NoneType"),
        (dump(score_A=None), "score_A and score_B must be numbers"),
        (dump(score_B=True), "score_A and score_B must be numbers"),
        (dump(score_B="good"), "score_A and score_B must be numbers"),
        (dump(better="C"), "better must be A, B or equal, not 'C'"),
        (dump(better=["A"]), "better must be"),
        ("Here it is: " + json.dumps(GOOD), "not JSON"),
    ],
)
def test_what_is_no_verdict_is_refused_with_the_reason(text: str, why: str):
    with pytest.raises(VerdictError, match=why):
        parse_verdict(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"```json\n{json.dumps(GOOD)}\n```", "code fence"),
        (dump(extra=1), "keys must be exactly"),
        (json.dumps({k: GOOD[k] for k in VERDICT_KEYS[:4]}), "keys must be exactly"),
        (dump(score_A=11), "integers from 0 to 10"),
        (dump(score_A=8.0), "integers from 0 to 10"),
        (dump(reasoning="A is better"), "must start with <think>"),
        (dump(final_verdict="[[A]]"), "final_verdict must be"),
        (dump(final_verdict="<answer>[[B]]</answer>"), "agree with better"),
    ],
)
def test_strict_reading_refuses_each_departure_from_the_format(text: str, why: str):
    with pytest.raises(VerdictError, match=why):
        parse_verdict(text, strict=True)


@pytest.mark.parametrize(
    ("a", "b", "better", "consistent"),
    [
        (8, 3, "A", True),
        (3, 8, "A", False),
        (3, 8, "B", True),
        (5, 5, "equal", True),
        (5, 5, "A", False),
        (5, 6, "equal", False),
    ],
)
def test_better_must_say_what_the_scores_say(a: int, b: int, better: str, consistent: bool):
    assert parse_verdict(dump(score_A=a, score_B=b, better=better)).consistent is consistent


def test_swapping_exchanges_the_candidates_everywhere():
    assert swap(parse_verdict(GOOD)) == Verdict(
        3,
        8,
        "B",
        "<think>Response B names the colour, Response A does not.</think>",
        "<answer>[[B]]</answer>",
    )


def test_swapping_text_keeps_the_order_of_its_keys():
    text = '{"reasoning":"<think>A wins</think>","better":"equal","score_B":2,"score_A":1}'

    assert swap_json(text) == (
        '{"reasoning": "<think>B wins</think>", "better": "equal", "score_B": 1, "score_A": 2}'
    )


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Candidate A beats candidate B.", "Candidate B beats candidate A."),
        ("A names it, B does not.", "B names it, A does not."),
        ("A is right.", "B is right."),
        ("We prefer A, score_A is 8.", "We prefer B, score_B is 8."),
        ("A's sound; [[A]]", "B's sound; [[B]]"),
        ("A dog barks.", "A dog barks."),
        ("Loud. A dog barks.", "Loud. A dog barks."),
        ("they answer a question", "they answer a question"),
        ("Big ABBA, B-movie, CAB", "Big ABBA, B-movie, CAB"),
    ],
)
def test_names_in_prose(text: str, swapped: str):
    assert swap_names(text) == swapped


@given(st.lists(st.sampled_from(["Response A", "Response B", "[[B]]", "is", "a dog", "- "])))
def test_swapping_names_twice_gives_the_text_back(parts: list[str]):
    text = " ".join(parts)

    assert swap_names(swap_names(text)) == text


@settings(max_examples=150, deadline=None)
@given(completions)
def test_any_text_is_either_read_or_refused(text: str):
    try:
        verdict = parse_verdict(text)
    except VerdictError:
        return
    assert 0 <= verdict.score_a <= 10
    assert 0 <= verdict.score_b <= 10
    assert swap(swap(verdict)).better == verdict.better


@settings(max_examples=150, deadline=None)
@given(completions | st.just(json.dumps(GOOD)))
def test_strict_reading_accepts_exactly_what_mm_format_pays_in_full(text: str):
    try:
        parse_verdict(text, strict=True)
        accepted = True
    except VerdictError:
        accepted = False

    assert (REWARDS["mm_format"]([text]) == [1.0]) is accepted


@pytest.mark.parametrize(
    "reasoning",
    ["Hepatitis B is what response B says.", "Vitamin A helps; A names it.", "by plan B A wins"],
)
def test_a_letter_of_another_name_cannot_be_exchanged(reasoning: str):
    with pytest.raises(VerdictError, match="names no candidate"):
        swap(Verdict(8, 2, "A", f"<think>{reasoning}</think>"))


@pytest.mark.parametrize(
    "reasoning", ["A plan a trip needs", "the point A makes is in part a good one"]
)
def test_small_letters_are_no_names(reasoning: str):
    assert swap(Verdict(8, 2, "A", f"<think>{reasoning}</think>")).score_a == 2
