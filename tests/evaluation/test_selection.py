from __future__ import annotations

import math

import numpy as np
import pytest

from aznas_onnx.evaluation.selection import ndcg, select_repeatedly, top_k


def test_the_best_scored_by_hand() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0])
    measured = np.array([70.0, 90.0, 60.0, 80.0])
    one, two = top_k(scores, measured, sizes=(1, 2, 5))
    assert (one.k, one.best, one.mean, one.regret) == (1, 70.0, 70.0, 20.0)
    assert (two.k, two.best, two.mean, two.regret) == (2, 90.0, 80.0, 0.0)
    assert one.ndcg == pytest.approx(1 / 3)  # gains are 1/3, 1, 0, 2/3
    assert two.ndcg == pytest.approx((1 / 3 + 1 / math.log2(3)) / (1 + (2 / 3) / math.log2(3)))


def test_equal_scores_stay_in_order_and_what_is_not_measured_is_left_out() -> None:
    (one,) = top_k(np.array([1.0, 1.0, 2.0]), np.array([7.0, 8.0, math.nan]), sizes=(1, 3))
    assert one.best == 7.0


def test_ndcg_of_the_best_and_of_no_order() -> None:
    ranked = np.array([4.0, 3.0, 2.0, 1.0])
    assert all(ndcg(ranked, k) == pytest.approx(1) for k in (1, 2, 3, 4))
    assert ndcg(ranked[::-1].copy(), 1) == 0
    assert ndcg(np.array([5.0, 5.0]), 2) == 1


def test_selection_from_subsets() -> None:
    values = np.arange(100.0)
    assert select_repeatedly(values, values, subset=101) is None
    exact = select_repeatedly(values, values, subset=50, runs=4)
    assert exact is not None
    assert exact.mean == exact.optimum <= 99
    assert (exact.subset, exact.runs) == (50, 4)
    worst = select_repeatedly(-values, values, subset=100, runs=3)
    assert worst is not None
    assert (worst.mean, worst.deviation, worst.optimum) == (0, 0, 99)
