from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.gating.sequential_test import Decision, Estimate, decide, interim_looks, jackknife


@pytest.mark.parametrize(
    ("fewest", "most", "expected"), [(2, 2, (2,)), (2, 8, (2, 4, 8)), (3, 10, (3, 6, 10)), (4, 5, (4, 5))]
)
def test_looks_double_from_the_fewest_to_the_most(fewest: int, most: int, expected: tuple[int, ...]) -> None:
    assert interim_looks(fewest, most) == expected


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    estimate = jackknife(lambda means: means["x"], {"x": values})
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(5))


def test_what_two_columns_share_under_a_seed_cancels() -> None:
    shared = np.array([3.0, -7.0, 11.0, 0.5])
    estimate = jackknife(lambda means: means["a"] - means["b"], {"a": shared + 2, "b": shared})
    assert (estimate.value, estimate.stderr) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-12))


def test_seeds_without_a_value_are_left_out() -> None:
    estimate = jackknife(lambda means: means["x"], {"x": np.array([1.0, math.nan, 3.0, 5.0])})
    assert estimate.value == pytest.approx(3.0)
    assert 0 < estimate.stderr < math.inf


def test_one_value_says_nothing_of_the_noise() -> None:
    estimate = jackknife(lambda means: means["x"], {"x": np.array([1.0, math.nan])})
    assert estimate.stderr == math.inf
    assert decide(estimate, 0.0, confidence=0.99, n_looks=3) is Decision.INCONCLUSIVE


def test_an_exact_number_is_decided_at_once() -> None:
    for value, expected in ((0.0, Decision.PASS), (-0.5, Decision.PASS), (-0.500001, Decision.REJECT)):
        estimate = Estimate(value=value, stderr=0.0, seeds=2)
        assert decide(estimate, -0.5, confidence=0.99, n_looks=3) is expected


@given(value=st.floats(-5, 5), stderr=st.floats(1e-6, 2), seeds=st.integers(2, 32), n_looks=st.integers(1, 6))
def test_more_confidence_never_turns_a_decision_round(value: float, stderr: float, seeds: int, n_looks: int) -> None:
    estimate = Estimate(value=value, stderr=stderr, seeds=seeds)
    easy, hard = (decide(estimate, 0.0, confidence=c, n_looks=n_looks) for c in (0.8, 0.999))
    assert hard in (easy, Decision.INCONCLUSIVE)


@pytest.mark.parametrize("truth", [-0.5, 0.0, -2.0])
def test_sequential_decisions_are_wrong_as_seldom_as_they_say(truth: float) -> None:
    """Noise of deviation 0.4 a seed, looked at after 2, 4 and 8 seeds, stopping at the first decision."""
    rng, numbers, trials = np.random.default_rng(0), interim_looks(2, 8), 4000
    wrong = 0
    for draws in truth + 0.4 * rng.standard_normal((trials, numbers[-1])):
        verdict = Decision.INCONCLUSIVE
        for seeds in numbers:
            estimate = jackknife(lambda means: means["x"], {"x": draws[:seeds]})
            verdict = decide(estimate, -0.5, confidence=0.95, n_looks=len(numbers))
            if verdict is not Decision.INCONCLUSIVE:
                break
        wrong += verdict is (Decision.REJECT if truth >= -0.5 else Decision.PASS)
    assert wrong / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    if truth == -0.5:  # at the limit itself the share of the error is nearly used up: the rule is not idle
        assert wrong / trials > 0.01
