"""The closed form against random matrices, and which matrices a weight has."""

from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.structure.spectral_capacity import capacity_of_matrix, spectral_capacity


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (128, 32), (16, 144), (300, 20)])
def test_it_is_the_mean_of_random_matrices(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(scale=np.sqrt(2 / (rows + columns)), size=(60, rows, columns))
    found = np.linalg.slogdet(np.eye(columns) + np.swapaxes(matrices, 1, 2) @ matrices).logabsdet
    assert capacity_of_matrix(rows, columns) == pytest.approx(found.mean(), rel=0.01)
    assert capacity_of_matrix(rows, columns) == pytest.approx(capacity_of_matrix(columns, rows))


def test_it_grows_with_either_side() -> None:
    assert capacity_of_matrix(0, 5) == 0.0
    values = [capacity_of_matrix(64, width) for width in (1, 2, 8, 64, 256, 4096)]
    assert values == sorted(values)


def node(operator: str, **attributes: int) -> Node:
    return Node(name="n", op_type=operator, inputs=("x", "w"), outputs=("y",), version=13, attributes=attributes)


def test_a_weight_has_a_matrix_a_group() -> None:
    assert spectral_capacity(node("Conv"), (32, 16, 3, 3)) == capacity_of_matrix(32, 144)
    assert spectral_capacity(node("Conv", group=4), (32, 4, 3, 3)) == 4 * capacity_of_matrix(8, 36)
    assert spectral_capacity(node("Conv", group=32), (32, 1, 5, 5)) == 32 * capacity_of_matrix(1, 25)
    assert spectral_capacity(node("MatMul"), (192, 768)) == capacity_of_matrix(192, 768)
    assert spectral_capacity(node("MatMul"), (3, 192, 64)) == 3 * capacity_of_matrix(192, 64)
    assert spectral_capacity(node("MatMul"), (192,)) == 0.0
