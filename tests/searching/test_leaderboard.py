from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aznas_onnx.ranking import Aggregation, aggregate
from aznas_onnx.searching.leaderboard import Leaderboard

# Few different values, so that ties are the rule, and everything that is not a number.
VALUES = st.sampled_from([-2.5, -1.0, 0.0, 1e-300, 0.5, 1.0, 7.0, math.nan, math.inf, -math.inf])
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=VALUES)


def one_by_one(table: npt.NDArray[np.float64]) -> Leaderboard:
    board = Leaderboard(table.shape[1])
    for row in table:
        board.add(row)
    return board


@given(TABLES)
def test_scores_are_those_of_the_batch_ranking_after_every_addition(table: npt.NDArray[np.float64]) -> None:
    board = Leaderboard(table.shape[1])
    for count, row in enumerate(table, 1):
        board.add(row)
        np.testing.assert_allclose(board.az_scores(), aggregate(table[:count]), rtol=0, atol=1e-12)


@given(TABLES, st.integers(0, 40))
def test_adding_at_once_is_adding_one_by_one(table: npt.NDArray[np.float64], split: int) -> None:
    board = Leaderboard(table.shape[1])
    board.extend(table[:split])
    board.extend(table[split:])
    assert board.az_scores().tolist() == one_by_one(table).az_scores().tolist()


@given(TABLES, st.integers(1, 45))
def test_the_best_are_those_of_the_batch_ranking(table: npt.NDArray[np.float64], n: int) -> None:
    board = one_by_one(table)
    best = board.best(n).tolist()
    scores = aggregate(table).round(12)  # sums of logarithms that are equal on paper differ in the last place
    expected = sorted(range(len(table)), key=lambda index: (-scores[index], index))[:n]
    assert best == expected
    assert board.top(n).tolist() == sorted(expected)


@given(TABLES, st.integers(0, 4))
def test_a_proxy_that_is_left_out_never_was_there(table: npt.NDArray[np.float64], proxy: int) -> None:
    proxy %= table.shape[1]
    board = one_by_one(table[: len(table) // 2]) if len(table) > 1 else Leaderboard(table.shape[1])
    board.leave_out(proxy)
    rest = np.delete(table, proxy, axis=1)
    for row in rest[len(board) :]:
        board.add(row)
    np.testing.assert_allclose(board.az_scores(), aggregate(rest), rtol=0, atol=1e-12)


def test_it_grows_past_its_first_capacity() -> None:
    table = np.random.default_rng(0).normal(size=(3000, 4)).round(1)
    np.testing.assert_allclose(one_by_one(table).az_scores(), aggregate(table), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_proxies", [0, 3])
def test_of_equals_the_earlier_is_better(n_proxies: int) -> None:
    board = Leaderboard(n_proxies)
    for _ in range(9):
        board.add([1.0] * n_proxies)
    assert board.best(3).tolist() == board.top(3).tolist() == [0, 1, 2]


def test_an_empty_board_has_no_best() -> None:
    board = Leaderboard(4)
    assert len(board) == 0
    assert board.best(5).tolist() == board.az_scores().tolist() == []


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Leaderboard(3).add([1.0, 2.0])


@given(
    TABLES,
    st.sampled_from((Aggregation.LOG_RANK, Aggregation.LINEAR)),
    st.sampled_from([(1, 2, 3, 1, 0.5), (2, 1, 1, 3, 1), (50, 1, 1, 1, 1)]),
)
def test_weights_and_aggregations_are_those_of_the_batch_ranking(
    table: npt.NDArray[np.float64], aggregation: Aggregation, weights: tuple[float, ...]
) -> None:
    used = weights[: table.shape[1]]
    board = Leaderboard(table.shape[1], used, aggregation)
    board.extend(table)
    scores = aggregate(table, aggregation, used)
    np.testing.assert_allclose(board.az_scores(), scores, rtol=0, atol=1e-9)
    rounded = scores.round(9)
    assert board.best(len(table)).tolist() == sorted(range(len(table)), key=lambda index: (-rounded[index], index))


def test_what_is_left_out_takes_its_weight_along() -> None:
    board = Leaderboard(2, [3.0, 1.0])
    board.extend([[1.0, 2.0], [2.0, 1.0]])
    assert board.best(1).tolist() == [1]
    board.leave_out(0)
    assert board.best(1).tolist() == [0]
