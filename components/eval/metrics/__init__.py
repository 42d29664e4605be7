"""What the evaluation computes; every metric is a pure function over lists."""

from components.eval.metrics.best_of_n import knock_out, majority_vote
from components.eval.metrics.bootstrap import (
    Interval,
    bootstrap_mean,
    paired_difference,
)
from components.eval.metrics.classification import (
    accuracy,
    confusion,
    multi_choice_f1,
    recalls,
    unweighted_average_recall,
    weighted_average_recall,
)
from components.eval.metrics.emotion import Ablation, ablations, normalize_label
from components.eval.metrics.generation import (
    mean_relative_accuracy,
    numeric_accuracy,
    ocr_accuracy,
    overlap,
)
from components.eval.metrics.grounding import iou_accuracy, mean_iou
from components.eval.metrics.judging import (
    GoldPair,
    JudgeSummary,
    PairJudgement,
    baselines,
    record_accuracy,
    summarize,
)

__all__ = [
    "Ablation",
    "GoldPair",
    "Interval",
    "JudgeSummary",
    "PairJudgement",
    "ablations",
    "accuracy",
    "baselines",
    "bootstrap_mean",
    "confusion",
    "iou_accuracy",
    "knock_out",
    "majority_vote",
    "mean_iou",
    "mean_relative_accuracy",
    "multi_choice_f1",
    "normalize_label",
    "numeric_accuracy",
    "ocr_accuracy",
    "overlap",
    "paired_difference",
    "recalls",
    "record_accuracy",
    "summarize",
    "unweighted_average_recall",
    "weighted_average_recall",
]
