"""Emotion recognition: label names, and which modality carried the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.eval.metrics.classification import accuracy

RAVDESS_LABELS: Mapping[str, str] = {"fearful": "fear", "surprised": "surprise"}
"""RAVDESS's names for labels that DFEW and MAFW call otherwise (R1-Omni)."""


def normalize_label(label: str | None, names: Mapping[str, str] = RAVDESS_LABELS) -> str | None:
    """Return a label in lower case, without space or a full stop around, under its common name."""
    if label is None:
        return None
    plain = label.strip().strip(".").strip().lower()
    return names.get(plain, plain) or None


@dataclass(frozen=True, slots=True)
class Ablation:
    """What taking one modality away changed.

    Attributes:
        modality: The modality that was taken away.
        changed: Share of records with another prediction, 0 to 1.
        accuracy_loss: Accuracy with everything minus accuracy without it, -1 to 1.
    """

    modality: str
    changed: float
    accuracy_loss: float


def ablations(
    golds: Sequence[str],
    full: Sequence[str | None],
    without: Mapping[str, Sequence[str | None]],
) -> list[Ablation]:
    """Return for each modality what the predictions lose without it, the heaviest loss first.

    Args:
        golds: Gold labels.
        full: Predictions with every modality present.
        without: For each modality the predictions on the same records with it taken away.

    Raises:
        ValueError: If there is no record or the lengths differ.
    """
    base = accuracy(golds, full)
    found = [
        Ablation(
            modality,
            accuracy_loss=base - accuracy(golds, predictions),
            changed=sum(a != b for a, b in zip(full, predictions, strict=True)) / len(golds),
        )
        for modality, predictions in without.items()
    ]
    return sorted(found, key=lambda ablation: -ablation.accuracy_loss)
