"""Bootstrap intervals: seeded, clustered, paired."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.eval.metrics.bootstrap import RESAMPLES, Ratio, bootstrap, bootstrap_mean, share_of
from components.eval.metrics.comparison import compare


def coin(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, n).astype(float)


def test_the_interval_is_that_of_the_normal_approximation_for_many_records():
    values = coin(2000)
    interval = bootstrap_mean(values, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))

    assert interval.mean == values.mean()
    assert interval.low == pytest.approx(interval.mean - half, abs=0.003)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.003)
    assert (interval.level, interval.records) == (0.95, 2000)


def test_two_records_draw_each_of_their_four_samples_equally_often():
    # Means 0, .5, .5 and 1: a quarter of the draws lies at either end.
    interval = bootstrap_mean([0.0, 1.0], level=0.6)

    assert (interval.low, interval.high) == (0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], level=0.4).low == 0.5


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=50)

    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_drawing_in_blocks_needs_every_draw(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap_mean(coin(50), resamples=RESAMPLES)
    monkeypatch.setattr("components.eval.metrics.bootstrap._DRAWS_AT_ONCE", 700)

    assert bootstrap_mean(coin(50), resamples=RESAMPLES) == whole


def test_values_of_one_record_are_drawn_together():
    values = coin(100)
    twice = np.repeat(values, 2)
    records = [str(i // 2) for i in range(200)]

    alone = bootstrap_mean(values)
    together = bootstrap_mean(twice, records)
    apart = bootstrap_mean(twice)

    assert (together.low, together.high, together.records) == (alone.low, alone.high, 100)
    assert apart.high - apart.low < 0.8 * (together.high - together.low)


def test_clusters_of_different_size_weigh_by_their_values():
    assert bootstrap_mean([1, 1, 1, 0], ["a", "a", "a", "b"]).mean == 0.75


def test_pairing_takes_the_records_difficulty_out():
    hard = np.random.default_rng(1).normal(0, 10, 200)
    better = hard + np.random.default_rng(2).normal(1, 0.5, 200)

    paired = compare(better, hard).difference

    assert paired.low > 0
    assert paired.mean == pytest.approx(1, abs=0.2)
    assert paired.high - paired.low < 0.2


def test_equal_models_differ_by_zero():
    interval = compare(coin(30), coin(30)).difference

    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0]]])
def test_what_has_no_mean_is_refused(values: list):
    with pytest.raises(ValueError, match="finite values"):
        bootstrap_mean(values)


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        compare([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 values but 1 cluster"):
        bootstrap_mean([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_mean([1.0], level=95)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_interval_lies_within_the_values(values: list[float]):
    interval = bootstrap_mean(values, resamples=50)

    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_a_ratio_is_drawn_as_a_whole_and_nan_where_nothing_counts():
    consistency = share_of([1, 0, 1, 0], [1, 1, 1, 0])

    assert bootstrap(consistency).mean == pytest.approx(2 / 3)
    nothing = bootstrap(share_of([0, 0], [0, 0]))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_a_metric_of_several_columns_is_their_mean():
    recalls = Ratio(np.array([[1, 0], [0, 0], [0, 1.0]]), np.array([[1, 0], [1, 0], [0, 1.0]]))

    assert bootstrap(recalls).mean == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("per_cluster", [1, 4])
def test_the_interval_covers_the_truth_as_often_as_it_says(per_cluster: int):
    """In 1,000 simulated test sets, of which one medium has one or four records, the 95% interval
    holds the true accuracy in 93 to 97%. Given apart, clustered records would cover far less."""
    rng = np.random.default_rng(0)
    truth, clusters = 0.7, 150
    names = [i // per_cluster for i in range(clusters * per_cluster)]
    covered = 0
    for seed in range(1000):
        # Beta-distributed difficulty: records of one medium are right or wrong together.
        chance = np.repeat(rng.beta(2 * truth, 2 * (1 - truth), clusters), per_cluster)
        right = (rng.random(len(names)) < chance).astype(float)
        interval = bootstrap_mean(right, names, resamples=1000, seed=seed)
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 1000 <= 0.97
