"""Metrics of the other tasks; values are worked out by hand."""

import pytest

from components.eval.metrics import (
    Ablation,
    ablations,
    accuracy,
    confusion,
    iou_accuracy,
    knock_out,
    majority_vote,
    mean_iou,
    mean_relative_accuracy,
    multi_choice_f1,
    normalize_label,
    numeric_accuracy,
    ocr_accuracy,
    overlap,
    recalls,
    unweighted_average_recall,
    weighted_average_recall,
)
from omnistage.records.verdict import Better

GOLDS = ["happy"] * 4 + ["sad"] * 2
PREDICTIONS = ["happy", "happy", "happy", "angry", "sad", None]


def test_war_weighs_classes_by_support_and_uar_does_not():
    assert recalls(GOLDS, PREDICTIONS) == {"happy": 3 / 4, "sad": 1 / 2}
    assert weighted_average_recall(GOLDS, PREDICTIONS) == pytest.approx(100 * 4 / 6)
    assert unweighted_average_recall(GOLDS, PREDICTIONS) == pytest.approx(100 * 5 / 8)
    assert accuracy(GOLDS, PREDICTIONS) == pytest.approx(4 / 6)


def test_a_class_that_is_only_predicted_has_no_recall():
    assert unweighted_average_recall(["sad"], ["angry"]) == 0.0
    assert confusion(["sad", "sad"], ["angry", None]) == {("sad", "angry"): 1, ("sad", None): 1}


@pytest.mark.parametrize("metric", [accuracy, recalls, multi_choice_f1, ocr_accuracy])
def test_lists_that_do_not_pair_up_are_refused(metric):
    with pytest.raises(ValueError, match="0 gold"):
        metric([], [])
    with pytest.raises(ValueError, match=r"1 gold .* against 2"):
        metric(["a"], ["a", "b"])


def test_ravdess_labels_get_their_common_names():
    labels = [" Fearful.", "surprised", "Happy", "", None]

    assert [normalize_label(x) for x in labels] == ["fear", "surprise", "happy", None, None]


def test_the_modality_that_carried_the_decision_comes_first():
    golds, full = ["a", "b", "a", "b"], ["a", "b", "a", "a"]

    found = ablations(
        golds,
        full,
        {"audio": ["a", "b", "a", "b"], "video": ["b", "b", None, "a"]},
    )

    assert found == [
        Ablation("video", changed=2 / 4, accuracy_loss=2 / 4),
        Ablation("audio", changed=1 / 4, accuracy_loss=-1 / 4),
    ]


def test_multi_choice_f1_is_the_mean_over_questions():
    # A,B against B,C,D: 2 * 1 / 5; C against C: 1; A against nothing: 0.
    value = multi_choice_f1(["A,B", "C", "A"], ["b, c, d", "C.", None])

    assert value == pytest.approx((2 / 5 + 1 + 0) / 3)


def test_read_text_and_numbers():
    assert ocr_accuracy(["one way street", "stop"], ["one way", None]) == pytest.approx(1 / 3)
    assert numeric_accuracy(["3.14", "10"], ["3.141", "9"]) == 0.5
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
    assert mean_relative_accuracy(["100"], [predicted]) == pytest.approx(value)


def test_overlap_gives_the_mean_of_each_measure():
    assert overlap(["Red.", "red"], ["red", None]) == {"bleu2": 0.5, "rouge1": 0.5, "meteor": 0.25}


def test_boxes_count_above_the_threshold():
    gold = (0.0, 0.0, 2.0, 2.0)
    half, most = (0.0, 0.0, 1.0, 2.0), (0.0, 0.0, 1.5, 2.0)

    assert iou_accuracy([gold] * 4, [gold, most, half, None]) == 0.5
    assert iou_accuracy([gold] * 4, [gold, most, half, None], threshold=0.4) == 0.75
    assert mean_iou([gold] * 4, [gold, most, half, None]) == pytest.approx(2.25 / 4)
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


def test_majority_vote_takes_the_earliest_among_equals():
    assert majority_vote(["B", "A", "A", "B", None]) == "B"
    assert majority_vote(["B", "A", "A"]) == "A"
    assert majority_vote([None]) is None
