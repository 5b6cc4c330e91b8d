from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from aznas_onnx.evaluation.correlation import Bootstrap, correlate, interval, kendall_matrix, resample


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
    proxies, truth = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    found = [resample(proxies, truth, lambda drawn: drawn, Bootstrap(resamples=5, seed=seed)) for seed in (0, 0, 1)]
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
    widths = [np.std(resample(*sample(), lambda x: x, Bootstrap(resamples=100)).kendall) for _ in range(5)]
    assert np.mean(widths) == pytest.approx(scatter, rel=0.2)


def test_predictors_are_made_anew_from_each_resample() -> None:
    sizes = []

    def predict(drawn: np.ndarray) -> np.ndarray:
        sizes.append(len(np.unique(drawn)))
        return drawn

    proxies = np.arange(50.0)[:, None]
    steps: list[int] = []
    resample(proxies, proxies, predict, Bootstrap(resamples=3), steps.append)
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
