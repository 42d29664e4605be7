"""Metrics of one choice asked with its options in every rotation: does the place decide?"""

from collections.abc import Sequence

from components.eval.metrics.bootstrap import Ratio, mean_of, share_of

Rotations = Sequence[str | None]
"""The option that each rotation's answer names, by its letter in the record; None for no valid
answer. The first is the order of the record; in rotation r every option stands r places further on,
the last ones in front."""


def rotation_metrics(golds: Sequence[str], said: Sequence[Rotations]) -> dict[str, Ratio]:
    """Return the metrics by name, each 0 to 1.

    ``accuracy``
        Share of the answers that are right, over records and rotations.
    ``circular``
        Share of the records that are right in every rotation: CircularEval of MMBench (Liu et al.,
        2023), which no constant place passes.
    ``consistency``
        Share of the records with one and the same option in every rotation, among those valid in
        all.
    ``valid``
        Share of the answers that name an option.
    """
    pairs = list(zip(golds, said, strict=True))
    return {
        "accuracy": mean_of([list(each).count(gold) / len(each) for gold, each in pairs]),
        "circular": mean_of([all(s == gold for s in each) for gold, each in pairs]),
        "consistency": share_of(
            [None not in each and len(set(each)) == 1 for each in said],
            [None not in each for each in said],
        ),
        "valid": mean_of([sum(s is not None for s in each) / len(each) for each in said]),
    }


def by_place(said: Sequence[Rotations]) -> dict[str, float]:
    """Return the share of the valid answers that name the option shown as A, as B and so on.

    With every option once in every place, one that looks at the options alone names each place as
    often as any other.
    """
    counts: dict[str, int] = {}
    for each in said:
        size = len(each)
        for n in range(size):
            counts.setdefault(chr(ord("A") + n), 0)
        for rotation, option in enumerate(each):
            if option is not None:
                place = (ord(option) - ord("A") + rotation) % size
                counts[chr(ord("A") + place)] += 1
    total = sum(counts.values())
    return {place: count / total if total else 0.0 for place, count in sorted(counts.items())}
