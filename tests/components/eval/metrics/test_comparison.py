"""Two models on the same records; p values are worked out by hand or known by their law."""

import numpy as np
import pytest

from components.eval.metrics.comparison import compare, holm, mcnemar, permutation_test


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (9, 1, 2 * (1 + 10) / 1024),
        (1, 9, 2 * (1 + 10) / 1024),
        (5, 0, 2 / 32),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int, p_value: float):
    assert mcnemar(gained, lost) == pytest.approx(p_value)


def test_right_or_wrong_on_independent_records_is_compared_by_mcnemar():
    compared = compare([1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 0])

    assert (compared.test, compared.gained, compared.lost) == ("mcnemar", 4, 0)
    assert compared.p_value == pytest.approx(2 / 16)
    assert compared.difference.mean == pytest.approx(4 / 6)


def test_scores_and_clusters_are_compared_by_permutation():
    assert compare([0.5, 1], [0, 1]).test == "permutation"
    assert compare([1, 1], [0, 0], ["a", "a"]).test == "permutation"


def test_the_permutation_test_counts_sign_flips():
    # Of 2^4 sign flips of equal gaps, two have a sum as far from 0.
    assert permutation_test(np.ones(4)) == pytest.approx(2 / 16, abs=0.01)
    assert permutation_test(np.array([1.0, -1.0])) == pytest.approx(1.0)
    assert permutation_test(np.zeros(3)) == 1.0


def test_many_clusters_have_the_normal_tail_of_the_same_test():
    gaps = np.random.default_rng(3).normal(0.06, 1, 500)

    assert permutation_test(np.append(gaps, [1e-12])) == pytest.approx(
        permutation_test(gaps), abs=0.02
    )


def test_under_the_null_a_p_value_below_5_percent_comes_in_about_5_percent():
    rng = np.random.default_rng(0)
    p_values = [permutation_test(rng.normal(size=30), seed) for seed in range(150)]

    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.045)


def test_holm_corrects_for_the_number_of_comparisons():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
