"""Metrics of the other tasks; values are worked out by hand, or agree with other libraries."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import sentence_bleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, recall_score

from components.eval.metrics.best_of_n import knock_out
from components.eval.metrics.classification import (
    accuracy,
    confusion,
    multi_choice_f1,
    recalls,
    unweighted_average_recall,
)
from components.eval.metrics.emotion import normalize_label
from components.eval.metrics.generation import (
    mean_relative_accuracy,
    numeric_accuracy,
    ocr_accuracy,
    overlap,
)
from components.eval.metrics.grounding import iou_accuracy, mean_iou
from omnistage.records.verdict import Better

GOLDS = ["happy"] * 4 + ["sad"] * 2
PREDICTIONS = ["happy", "happy", "happy", "angry", "sad", None]


def test_war_weighs_classes_by_support_and_uar_does_not():
    assert recalls(GOLDS, PREDICTIONS) == {"happy": 3 / 4, "sad": 1 / 2}
    assert accuracy(GOLDS, PREDICTIONS).value == pytest.approx(4 / 6)
    assert unweighted_average_recall(GOLDS, PREDICTIONS).value == pytest.approx(5 / 8)


def test_a_class_that_is_only_predicted_has_no_recall():
    assert unweighted_average_recall(["sad"], ["angry"]).value == 0.0
    assert confusion(["sad", "sad"], ["angry", None]) == {("sad", "angry"): 1, ("sad", None): 1}


@pytest.mark.parametrize("metric", [accuracy, recalls, multi_choice_f1, ocr_accuracy])
def test_lists_that_do_not_pair_up_are_refused(metric):
    with pytest.raises(ValueError, match="0 gold"):
        metric([], [])
    with pytest.raises(ValueError, match=r"1 gold .* against 2"):
        metric(["a"], ["a", "b"])


def test_labels_get_their_common_names_and_synonyms_count():
    labels = [" Fearful.", "surprised", "Happy", "Joyful", "bored", "", None]

    assert [normalize_label(x) for x in labels] == [
        *("fear", "surprise", "happy", "happy", "bored"),
        *(None, None),
    ]


def test_multi_choice_f1_is_the_mean_over_questions():
    # A,B against B,C,D: 2 * 1 / 5; C against C: 1; A against nothing: 0.
    value = multi_choice_f1(["A,B", "C", "A"], ["b, c, d", "C.", None]).value

    assert value == pytest.approx((2 / 5 + 1 + 0) / 3)


def test_read_text_and_numbers():
    assert ocr_accuracy(["one way street", "stop"], ["one way", None]).value == pytest.approx(1 / 3)
    assert numeric_accuracy(["3.14", "10"], ["3.141", "9"]).value == 0.5
    with pytest.raises(ValueError, match="'many' is not a number"):
        numeric_accuracy(["many"], ["1"])


@pytest.mark.parametrize(
    ("predicted", "value"),
    [
        ("100", 1.0),
        ("96", 1.0),  # error .04, below every 1 - t from .5 to .05
        ("95", 0.9),  # error .05, not below 1 - .95
        ("72", 5 / 10),  # error .28, below .5, .45, .4, .35 and .3
        ("50", 0.0),
        (None, 0.0),
    ],
)
def test_mean_relative_accuracy_counts_the_thresholds_met(predicted: str | None, value: float):
    assert mean_relative_accuracy(["100"], [predicted]).value == pytest.approx(value)


def test_overlap_gives_the_mean_of_each_measure():
    found = overlap(["Red.", "red"], ["red", None])
    assert {name: ratio.value for name, ratio in found.items()} == {
        "bleu2": 0.5,
        "rouge1": 0.5,
        "meteor": 0.25,
    }


def test_boxes_count_above_the_threshold():
    gold = (0.0, 0.0, 2.0, 2.0)
    half, most = (0.0, 0.0, 1.0, 2.0), (0.0, 0.0, 1.5, 2.0)

    assert iou_accuracy([gold] * 4, [gold, most, half, None]).value == 0.5
    assert iou_accuracy([gold] * 4, [gold, most, half, None], threshold=0.4).value == 0.75
    assert mean_iou([gold] * 4, [gold, most, half, None]).value == pytest.approx(2.25 / 4)
    with pytest.raises(ValueError, match="1 gold boxes against 0"):
        mean_iou([gold], [])


def test_a_perfect_judge_finds_the_best_answer():
    asked: list[tuple[str, str]] = []

    def judge(a: str, b: str) -> Better:
        asked.append((a, b))
        return "A" if a > b else "B"

    assert knock_out(["2", "1", "9", "3"], judge) == 2
    assert asked == [("2", "1"), ("2", "9"), ("9", "3")]


def test_ties_invalid_verdicts_and_equal_texts_keep_the_champion():
    verdicts: list[Better | None] = ["equal", None]

    assert knock_out(["x", "y", "x", "z"], lambda a, b: verdicts.pop(0)) == 0
    assert verdicts == []
    with pytest.raises(ValueError, match="at least one"):
        knock_out([], lambda a, b: "A")


labels = st.sampled_from(["happy", "sad", "angry", "fear"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(labels, labels | st.none()), min_size=1, max_size=30))
def test_war_and_uar_are_scikit_learns(rows: list[tuple[str, str | None]]):
    golds, said = [g for g, _ in rows], [s or "invalid" for _, s in rows]

    assert accuracy(golds, said).value == pytest.approx(accuracy_score(golds, said))
    macro = recall_score(golds, said, labels=sorted(set(golds)), average="macro")
    assert unweighted_average_recall(golds, said).value == pytest.approx(macro)


class NoWordNet:
    """Synonyms for NLTK's METEOR: none, so that only exact matches count, as here."""

    def synsets(self, word: str) -> list[str]:
        return []


class NoStemmer:
    """Stems for NLTK's METEOR: the words themselves."""

    def stem(self, word: str) -> str:
        return word


texts = st.lists(
    st.sampled_from(["a", "red", "ball", "rolls", "left", "over", "the", "green", "hill"]),
    min_size=2,
)


@settings(max_examples=80, deadline=None)
@given(texts, texts)
def test_bleu_rouge_and_meteor_are_their_libraries(gold: list[str], said: list[str]):
    found = {n: r.value for n, r in overlap([" ".join(gold)], [" ".join(said)]).items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK warns where a count is 0
        bleu = sentence_bleu([gold], said, weights=(0.5, 0.5))
    assert found["bleu2"] == pytest.approx(bleu, abs=1e-9)
    rouge = RougeScorer(["rouge1"]).score(" ".join(gold), " ".join(said))["rouge1"].fmeasure
    assert found["rouge1"] == pytest.approx(rouge)
    meteor = single_meteor_score(gold, said, stemmer=NoStemmer(), wordnet=NoWordNet())  # pyright: ignore[reportArgumentType]
    assert found["meteor"] == pytest.approx(meteor)
