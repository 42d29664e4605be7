"""OmniRL's rewards for answers in words; values are worked out by hand."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import sentence_bleu
from rouge import Rouge

from omnistage.rewards.omnirl import omnirl_accuracy, omnirl_length, omnirl_length_strict
from omnistage.rewards.overlap import bleu2, meteor, rouge1, words


def answered(text: str) -> str:
    return f"<think>so</think><answer>{text}</answer>"


def test_words_are_lower_case_without_punctuation_and_ideographs_stand_alone():
    assert words("A red, RED dog's 3.5 m!") == ["a", "red", "red", "dog", "s", "3", "5", "m"]
    assert words("红色 dog狗") == ["红", "色", "dog", "狗"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "bleu", "rouge", "meteor_value"),
    [
        # Equal: all n-grams match; METEOR has one chunk of four, 1 - .5 / 64.
        ("a red dog runs", "a red dog runs", 1.0, 1.0, 1 - 0.5 / 64),
        # BLEU: words 3/4, pairs 1/3. METEOR: matches a, red, runs in 2 chunks.
        (
            "a red dog runs",
            "a red cat runs",
            math.sqrt(3 / 4 * 1 / 3),
            3 / 4,
            3 / 4 * (1 - 0.5 * (2 / 3) ** 3),
        ),
        # Brevity exp(1 - 4/2); ROUGE P 1, R 1/2; METEOR F = 10 * .5 / (.5 + 9).
        (
            "a red dog runs",
            "red dog",
            math.exp(-1),
            2 / 3,
            10 * 0.5 / (0.5 + 9) * (1 - 0.5 / 8),
        ),
        # Clipping: "the" counts once. No pair matches.
        ("the dog", "the the", 0.0, 1 / 2, 1 / 2 * (1 - 0.5)),
        ("red", "red", 1.0, 1.0, 0.5),
        ("red", "blue", 0.0, 0.0, 0.0),
        ("red", "", 0.0, 0.0, 0.0),
        # Order: the two words match in two chunks.
        ("red dog", "dog red", 0.0, 1.0, 0.5),
    ],
)
def test_overlap(reference: str, hypothesis: str, bleu: float, rouge: float, meteor_value: float):
    pair = reference.split(), hypothesis.split()

    assert bleu2(*pair) == pytest.approx(bleu)
    assert rouge1(*pair) == pytest.approx(rouge)
    assert meteor(*pair) == pytest.approx(meteor_value)


tokens = st.lists(st.sampled_from("abcd"), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(tokens, tokens)
def test_bleu_and_rouge_agree_with_the_libraries(reference: list[str], hypothesis: list[str]):
    ours = bleu2(reference, hypothesis)
    if ours:  # NLTK warns, and gives some 1e-155, where no pair of words matches
        assert ours == pytest.approx(sentence_bleu([reference], hypothesis, weights=(0.5, 0.5)))
    if len(set(reference)) == len(reference) and len(set(hypothesis)) == len(hypothesis):
        # The rouge package counts each word once; without repeats that is the same.
        scores: Any = Rouge(metrics=["rouge-1"]).get_scores(
            " ".join(hypothesis), " ".join(reference)
        )
        assert rouge1(reference, hypothesis) == pytest.approx(scores[0]["rouge-1"]["f"], abs=1e-6)


def test_omnirl_accuracy_is_the_mean_of_the_three():
    golds = ["<answer>A red dog runs.</answer>", "red", None, "..."]
    texts = [answered("a red, cat runs"), answered("Red!"), answered("red"), answered("red")]

    assert omnirl_accuracy(texts, solution=golds) == [
        pytest.approx((0.5 + 0.75 + 0.75 * (1 - 0.5 * 8 / 27)) / 3),
        pytest.approx((1 + 1 + 0.5) / 3),
        None,
        None,
    ]
    assert omnirl_accuracy(["red"], solution=["red"]) == [0.0]  # not tagged as the answer


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("", 0.0),
        # n (1 + sin(pi n / 1000)) (.5 + .5 d) / 500
        ("a" * 250, 250 * (1 + math.sin(math.pi / 4)) * 0.5 / 500),
        ("a." * 125, 250 * (1 + math.sin(math.pi / 4)) * 0.75 / 500),
        ("a" * 500, 1000 * 0.9 * 0.5 / 500),
        ("a" * 1200, (1000 + math.log(701)) * 0.9**2 * 0.5 / 500),
    ],
)
def test_omnirl_length(text: str, reward: float):
    assert omnirl_length([text]) == [pytest.approx(reward)]


def test_the_strict_length_pays_a_right_answer_what_the_published_one_does_and_no_other():
    right, wrong = (f"<think>{'x' * 300}</think><answer>{a}</answer>" for a in ("a dog", "a cat"))
    assert omnirl_length_strict([right], solution=["a dog"]) == omnirl_length([right])
    assert omnirl_length_strict([wrong, right], solution=["a dog", None]) == [0.0, None]
