"""Mixing several sequences of records by weight."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

_DRAWS = 4096


def interleave(
    lengths: Sequence[int],
    weights: Sequence[float],
    until: Literal["first", "all"],
    seed: Sequence[int],
) -> list[int]:
    """Return from which sequence each place of a mixture comes; each keeps its own order.

    Args:
        lengths: Of the sequences.
        weights: Of the sequences: the next record is of one with probability weight / sum.
        until: Stop when the ``first`` sequence runs out, or go on until ``all`` have.
        seed: Of the draws: the same gives the same order.
    """
    rng = np.random.default_rng(seed)
    chances = np.asarray(weights, dtype=float)
    taken = [0] * len(lengths)
    mixed: list[int] = []
    alive = np.array([length > 0 for length in lengths])
    while alive.all() or (until == "all" and alive.any()):
        now = np.where(alive, chances, 0)
        for place in rng.choice(len(lengths), _DRAWS, p=now / now.sum()):
            mixed.append(int(place))
            taken[place] += 1
            if taken[place] == lengths[place]:
                alive[place] = False
                break
    return mixed
