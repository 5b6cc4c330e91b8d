from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import pooling
from aznas_onnx.graph.rewrite.rule import Attempt
from tests.graph.builders import network
from tests.graph.rewrite.running import canonical, computes_the_same, near_miss, operators, outcome

SHAPE = {"x": ("N", 3, 4, 6)}
CONSTANTS = {
    "spatial": np.array([-1, -2]), "last": np.array([3]), "count": np.float32(24.0), "inverse": np.float32(1.0 / 24.0),
    "other": np.float32(23.0), "flat": np.array([-1, 3]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = ReduceMean <keepdims = 1> (x, spatial)", ["GlobalAveragePool"]),
        ("y = ReduceMean <keepdims = 0> (x, spatial)", ["GlobalAveragePool", "Flatten"]),
        ("m = ReduceMean <keepdims = 1> (x, spatial)  y = Reshape (m, flat)", ["GlobalAveragePool", "Flatten"]),
        ("m = ReduceMean <keepdims = 1> (x, spatial)  y = Squeeze (m, spatial)", ["GlobalAveragePool", "Flatten"]),
        ("y = AveragePool <kernel_shape = [4, 6]> (x)", ["GlobalAveragePool"]),
        ("s = ReduceSum <keepdims = 1> (x, spatial)  y = Div (s, count)", ["GlobalAveragePool"]),
        ("s = ReduceSum <keepdims = 0> (x, spatial)  y = Mul (s, inverse)", ["GlobalAveragePool", "Flatten"]),
    ],
)
def test_global_average_pooling(body: str, expected: list[str]) -> None:
    model = network(body, SHAPE, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == expected
    assert computes_the_same(result.graph, model)


def test_axes_as_an_attribute() -> None:
    model = network("y = ReduceMean <axes = [2, 3]> (x)", SHAPE, opset=13)
    assert operators(canonical(model).graph) == ["GlobalAveragePool"]


@pytest.mark.parametrize(
    ("body", "attempt", "operator", "reason"),
    [
        ("y = ReduceMean (x, last)", pooling._mean, "ReduceMean", "does not average a map"),
        ("y = AveragePool <kernel_shape = [2, 2]> (x)", pooling._full_window, "AveragePool", "does not cover"),
        (
            "y = AveragePool <kernel_shape = [4, 6], pads = [1, 1, 1, 1]> (x)",
            pooling._full_window, "AveragePool", "pads",
        ),
        (
            "s = ReduceSum (x, spatial)  y = Div (s, other)", pooling._sum_over_count, "Div",
            "it divides a sum of 24 terms by 23",
        ),
        ("y = Div (x, count)", pooling._sum_over_count, "Div", "does not divide a sum"),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, attempt: Attempt, operator: str, reason: str) -> None:
    declined = outcome(network(body, SHAPE, CONSTANTS), attempt, operator)
    assert declined is not None
    assert reason in declined


@pytest.mark.parametrize(("terms", "is_near"), [("q = Neg (x)", True), ("q = Mul (x, x)", False)])
def test_the_sum_of_squares_of_a_variance_is_no_mean_of_its_own(terms: str, *, is_near: bool) -> None:
    """The normalisation around it gives the reason."""
    model = network(f"{terms}  s = ReduceSum (q, spatial)  y = Div (s, other)", SHAPE, CONSTANTS)
    assert (near_miss(model, pooling._sum_over_count, "Div") is not None) is is_near
