"""Products with tables of relative positions by groups of keys equal those that are written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aznas_onnx.convert.optimise.grouped_look_ups import GroupedLookUp, MixWithPositions, ScoresWithPositions

CPU = torch.device("cpu")
SAMPLES, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 5, 32, 4
INDICES = [np.arange(QUERIES)[:, None] + np.arange(KEYS) // 16, np.arange(QUERIES)[:, None] - np.arange(KEYS) % 4]
TABLE_ROWS = [6, 8]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def tables() -> list[Tensor]:
    return [drawn(rows, WIDTH, seed=10 + at) for at, rows in enumerate(TABLE_ROWS)]


def written_out(found: list[Tensor]) -> Tensor:
    """Return the table for each pair, (queries, keys, width)."""
    return found[0][torch.from_numpy(INDICES[0])] + found[1][torch.from_numpy(INDICES[1])]


def look_up() -> GroupedLookUp:
    found = GroupedLookUp.of(INDICES, TABLE_ROWS, CPU)
    assert found is not None
    return found


@given(st.data())
def test_groups_make_the_same_look_ups(data: st.DataObject) -> None:
    """Whatever the indices, negative ones included."""
    queries, keys, count = (data.draw(st.integers(1, limit)) for limit in (5, 9, 3))
    rows = [data.draw(st.integers(1, 4)) for _ in range(count)]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    indices = [rng.integers(-size, size, (queries, keys)) for size in rows]
    found = GroupedLookUp.of([np.tile(index, 64) for index in indices], rows, CPU)
    assert found is not None
    drawn_tables = [torch.from_numpy(rng.normal(size=(size, 3))) for size in rows]
    expected = sum(table[torch.from_numpy(index)] for table, index in zip(drawn_tables, indices, strict=True))
    looked_up = found.members.double() @ found.by_group(drawn_tables)
    torch.testing.assert_close(looked_up, expected.tile(1, 64, 1) if isinstance(expected, Tensor) else expected)
    assert found.rows.shape[1] % 16 == 0


def test_too_many_groups_are_not_worth_it() -> None:
    """They are counted before anything is made of them."""
    assert GroupedLookUp.of([np.arange(40)[None]], [40], CPU) is None
    assert GroupedLookUp.of([np.arange(100_000)[None]], [100_000], CPU) is None


def test_keys_at_one_distance_are_one_group() -> None:
    assert look_up().rows.shape == (QUERIES, 16)
    assert int((look_up().members.sum(0) > 0).sum()) == 2 + 4


@pytest.mark.parametrize(("scale", "position_scale"), [(1.0, 1.0), (0.25, -3.0)])
def test_scores(scale: float, position_scale: float) -> None:
    queries = drawn(SAMPLES, QUERIES, HEADS, WIDTH, seed=0)
    keys = drawn(SAMPLES, HEADS, WIDTH, KEYS, seed=1)
    found = tables()
    q = queries.transpose(1, 2)  # no copy: memory order of the projection
    expected = scale * (q @ keys + position_scale * torch.einsum("bhld,ltd->bhlt", q, written_out(found)))
    run = ScoresWithPositions(look_up(), scale=scale, position_scale=position_scale)
    scores = run(q, keys, *found)
    torch.testing.assert_close(scores, expected)
    wanted = (queries, keys, *found)
    gradient = torch.randn_like(expected)
    for mine, other in zip(
        torch.autograd.grad(scores, wanted, gradient), torch.autograd.grad(expected, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(mine, other)


def test_mixes() -> None:
    weights = drawn(SAMPLES, HEADS, QUERIES, KEYS, seed=0)
    values = drawn(SAMPLES, HEADS, KEYS, WIDTH, seed=1)
    found = tables()
    expected_shift = torch.einsum("bhlt,ltd->lbhd", weights, written_out(found)).reshape(QUERIES, -1, WIDTH)
    expected = (weights @ values, expected_shift)
    mixed = MixWithPositions(look_up())(weights, values, *found)
    wanted = (weights, values, *found)
    gradients = [torch.randn_like(part) for part in expected]
    mine = torch.autograd.grad(mixed, wanted, gradients)
    for ours, other in zip(
        (*mixed, *mine), (*expected, *torch.autograd.grad(expected, wanted, gradients)), strict=True
    ):
        torch.testing.assert_close(ours, other)


def test_one_of_the_two_sums_may_go_unread() -> None:
    weights, values = drawn(1, 1, QUERIES, KEYS, seed=0), drawn(1, 1, KEYS, WIDTH, seed=1)
    mixed, _ = MixWithPositions(look_up())(weights, values, *tables())
    for mine, other in zip(
        torch.autograd.grad(mixed.sum(), (weights, values)),
        torch.autograd.grad((weights @ values).sum(), (weights, values)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("number", [1, QUERIES])
def test_what_they_return_may_be_overwritten(number: int) -> None:
    found = GroupedLookUp.of([index[:number] for index in INDICES], TABLE_ROWS, CPU)
    assert found is not None
    queries, keys = drawn(1, 1, number, WIDTH, seed=0), drawn(1, 1, WIDTH, KEYS, seed=1)
    scores = ScoresWithPositions(found, scale=1.0, position_scale=1.0)(queries, keys, *tables())
    mixed, shift = MixWithPositions(found)(scores.softmax(-1), drawn(1, 1, KEYS, WIDTH, seed=2), *tables())
    assert all(tensor.mul_(2.0).requires_grad for tensor in (scores, mixed, shift))
