from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from aznas_onnx.evaluation import correlation
from aznas_onnx.evaluation.correlation import (
    Bootstrap,
    Cohort,
    close_pairs,
    correlate,
    interval,
    kendall_matrix,
    resample,
)


def tau_by_definition(x: list[float], y: list[float]) -> float:
    """Kendall's tau-b from all pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    scale = math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))
    return float(sum(a * b for a, b in signs)) / scale


def test_both_coefficients_are_those_of_their_definitions_with_ties() -> None:
    rng = np.random.default_rng(0)
    predictions, truth = rng.integers(6, size=(30, 3)).astype(float), rng.integers(8, size=(30, 2)).astype(float)
    found = correlate(predictions, truth)
    for row, column in np.ndindex(3, 2):
        x, y = predictions[:, row].tolist(), truth[:, column].tolist()
        assert found.kendall[row, column] == pytest.approx(tau_by_definition(x, y))
        assert found.spearman[row, column] == pytest.approx(stats.spearmanr(x, y).statistic)


def test_what_is_not_finite_ranks_lowest_and_alike() -> None:
    truth = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    odd = np.array([[-math.inf], [math.nan], [math.inf], [10.0], [-20.0]])
    plain = np.array([[0.0], [0.0], [0.0], [2.0], [1.0]])
    assert correlate(odd, truth).kendall == correlate(plain, truth).kendall
    assert correlate(odd, truth).spearman == correlate(plain, truth).spearman


def test_what_is_not_measured_is_left_out_of_its_column_only() -> None:
    truth = np.array([[1.0, 1.0], [2.0, math.nan], [3.0, 2.0], [4.0, 3.0]])
    predictions = np.array([[1.0], [9.0], [2.0], [3.0]])
    found = correlate(predictions, truth)
    assert found.kendall[0].tolist() == pytest.approx([1 / 3, 1.0])
    assert found.spearman[0, 1] == pytest.approx(1.0)


def test_a_constant_has_no_correlation() -> None:
    found = correlate(np.ones((5, 1)), np.arange(5.0)[:, None])
    assert np.isnan(found.kendall).all()
    assert np.isnan(found.spearman).all()
    assert interval(math.nan, np.array([math.nan]), 0.95).value is None


def test_two_candidates_are_enough() -> None:
    found = correlate(np.array([[1.0, 2.0, 1.0], [2.0, 1.0, 1.0]]), np.array([[5.0], [6.0]]))
    assert found.kendall[:2, 0].tolist() == pytest.approx([1, -1])
    assert np.isnan(found.kendall[2, 0])


def test_intervals_are_percentiles_of_the_resamples_that_have_a_value() -> None:
    drawn = np.array([*np.linspace(0, 1, 101), math.nan])
    found = interval(0.4, drawn, 0.9)
    assert (found.value, found.low, found.high) == (0.4, pytest.approx(0.05), pytest.approx(0.95))
    empty = interval(0.4, np.array([]), 0.9)
    assert (empty.value, empty.low, empty.high) == (0.4, None, None)


def test_resamples_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(1)
    cohort = Cohort(proxies=rng.normal(size=(40, 2)), truth=rng.normal(size=(40, 1)))
    found = [resample(cohort, lambda drawn: drawn, Bootstrap(resamples=5, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0].kendall, found[1].kendall)
    assert (found[0].kendall != found[2].kendall).any()
    assert found[0].kendall.shape == found[0].spearman.shape == (5, 2, 1)


def test_intervals_are_as_wide_as_the_estimate_scatters() -> None:
    """Over many samples of one distribution, tau scatters as much as the bootstrap of one of them says."""
    rng = np.random.default_rng(2)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(200, 1))
        return x, x + rng.normal(size=(200, 1))

    scatter = np.std([correlate(*sample()).kendall[0, 0] for _ in range(200)])
    cohorts = [Cohort(proxies=x, truth=y) for x, y in (sample() for _ in range(5))]
    widths = [np.std(resample(cohort, lambda x: x, Bootstrap(resamples=100)).kendall) for cohort in cohorts]
    assert np.mean(widths) == pytest.approx(scatter, rel=0.2)


def test_predictors_are_made_anew_from_each_resample() -> None:
    sizes = []

    def predict(drawn: np.ndarray) -> np.ndarray:
        sizes.append(len(np.unique(drawn)))
        return drawn

    numbers = np.arange(50.0)[:, None]
    steps: list[int] = []
    resample(Cohort(proxies=numbers, truth=numbers), predict, Bootstrap(resamples=3), on_resample=steps.append)
    assert sizes[0] == 50
    assert all(25 < size < 42 for size in sizes[1:])  # about 63 % of the candidates are in a resample
    assert steps == [1, 2, 3]


def test_the_matrix_of_a_few_columns_by_hand() -> None:
    values = np.array([[1.0, 3.0, 1.0], [2.0, 2.0, -math.inf], [3.0, 1.0, 2.0]])
    third = pytest.approx(1 / 3)
    assert kendall_matrix(values).tolist() == [
        [1, -1, third],
        [-1, 1, pytest.approx(-1 / 3)],
        [third, pytest.approx(-1 / 3), 1],
    ]


def test_pairs_of_the_same_size_are_those_of_the_definition() -> None:
    sizes = np.random.default_rng(3).uniform(1.0, 4.0, size=60)
    sizes[:5] = 2.0  # ties
    for within in (0.0, 0.1, 1.0):
        found = {
            tuple(sorted(pair)) for pair in zip(*(side.tolist() for side in close_pairs(sizes, within)), strict=True)
        }
        assert found == {
            (i, j)
            for i, j in itertools.combinations(range(60), 2)
            if max(sizes[i], sizes[j]) <= min(sizes[i], sizes[j]) * (1 + within)
        }


def test_of_too_many_pairs_a_random_part_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "_MOST_PAIRS", 100)
    first, second = close_pairs(np.ones(50), 0.1)
    assert len(first) == len(set(zip(first.tolist(), second.tolist(), strict=True))) == 100
    assert (first != second).all()


def test_tau_of_the_same_size_is_that_of_the_pairs() -> None:
    rng = np.random.default_rng(4)
    x, y = (rng.integers(5, size=(40, 1)).astype(float) for _ in range(2))
    y[3] = math.nan
    sizes = rng.uniform(1.0, 2.0, size=40)
    pairs = close_pairs(sizes, 0.2)
    signs = [
        (np.sign(x[i, 0] - x[j, 0]), np.sign(y[i, 0] - y[j, 0]))
        for i, j in zip(*(side.tolist() for side in pairs), strict=True)
        if 3 not in (i, j)
    ]
    scale = math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))
    assert correlate(x, y, pairs).matched[0, 0] == pytest.approx(sum(a * b for a, b in signs) / scale)
    assert np.isnan(correlate(x, y).matched).all()


def test_what_only_knows_the_size_knows_nothing_at_the_same_size() -> None:
    rng = np.random.default_rng(5)
    sizes = np.exp(rng.uniform(0.0, 5.0, size=400))
    quality = rng.normal(size=400)
    truth = (np.log(sizes) + quality)[:, None]
    found = correlate(np.column_stack([sizes, quality]), truth, close_pairs(sizes, 0.05))
    assert found.kendall[0, 0] > 0.5
    assert abs(found.matched[0, 0]) < 0.1
    assert found.matched[1, 0] > 0.9


def test_groups_are_ranked_and_compared_within_themselves() -> None:
    """Two groups of opposite order to their offsets: together the order is wrong, within each it is right."""
    measured = np.concatenate([np.arange(10.0), 100 + np.arange(20.0)])[:, None]
    proxies = np.concatenate([50 + np.arange(10.0), np.arange(20.0)])[:, None]
    groups = np.repeat([0, 1], [10, 20])
    sizes: list[int] = []

    def predict(drawn: np.ndarray) -> np.ndarray:
        sizes.append(len(drawn))
        return drawn

    whole = resample(Cohort(proxies=proxies, truth=measured), predict, Bootstrap(resamples=0)).whole
    assert whole.kendall[0, 0] < 0.5
    found = resample(Cohort(proxies=proxies, truth=measured, groups=groups), predict, Bootstrap(resamples=2))
    assert found.whole.kendall[0, 0] == found.whole.spearman[0, 0] == pytest.approx(1)
    assert sizes[:3] == [30, 10, 20]


def test_a_group_counts_by_its_members_and_only_where_it_is_defined() -> None:
    measured = np.array([1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 7.0, 7.0])[:, None]
    proxies = np.array([1.0, 2.0, 4.0, 3.0, 2.0, 1.0, 1.0, 2.0])[:, None]
    groups = np.array([0, 0, 1, 1, 1, 1, 2, 2])  # right, wrong, without a difference
    found = resample(Cohort(proxies=proxies, truth=measured, groups=groups), lambda x: x, Bootstrap(resamples=0))
    assert found.whole.kendall[0, 0] == pytest.approx((2 - 4) / 6)
