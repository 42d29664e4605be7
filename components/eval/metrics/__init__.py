"""What the evaluation computes; every metric is a pure function over lists."""

from components.eval.metrics.best_of_n import knock_out, majority_vote
from components.eval.metrics.bootstrap import (
    Interval,
    bootstrap_mean,
    paired_difference,
    paired_difference_over_seeds,
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
    LabelAudit,
    PairJudgement,
    audit_labels,
    baselines,
    record_accuracy,
    summarize,
    summarize_by_modality,
)

__all__ = [
    "Ablation",
    "GoldPair",
    "Interval",
    "JudgeSummary",
    "LabelAudit",
    "PairJudgement",
    "ablations",
    "accuracy",
    "audit_labels",
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
    "paired_difference_over_seeds",
    "recalls",
    "record_accuracy",
    "summarize",
    "summarize_by_modality",
    "unweighted_average_recall",
    "weighted_average_recall",
]
