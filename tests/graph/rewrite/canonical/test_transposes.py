from __future__ import annotations

import numpy as np
import pytest

from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators

MAP = {"x": ("N", 3, 6, 8)}
CONSTANTS = {
    "k": weights(4, 3, 1, 1), "k2": weights(4, 4, 1, 1), "channel": weights(4), "two": np.float32(2.0),
    "spatial": np.array([1, 2]), "pads": np.array([0, 1, 0, 0, 0, 0, 1, 0]), "whole": weights(6, 8, 1),
}  # fmt: skip
TO_LAST, TO_FIRST = "Transpose <perm = [0, 2, 3, 1]>", "Transpose <perm = [0, 3, 1, 2]>"
START = f"c = Conv (x, k)  t = {TO_LAST} (c)"
END = f"u = {TO_FIRST} (z)  y = Conv (u, k2)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{START}  z = Relu (t)  {END}", ["Conv", "Relu", "Conv"]),
        (
            f"{START}  m = Mul (t, channel)  s = Sub (m, two)  z = Relu (s)  {END}",
            ["Conv", "Mul", "Sub", "Relu", "Conv"],
        ),
        (f"{START}  z = Mul (t, whole)  {END}", ["Conv", "Mul", "Conv"]),
        (
            f"{START}  d = Neg (c)  v = {TO_LAST} (d)  z = Add (t, v)  {END}",
            ["Conv", "Neg", "Add", "Conv"],
        ),
        (
            f"{START}  m = ReduceMean <keepdims = 1> (t, spatial)  z = Mul (t, m)  {END}",
            ["Conv", "GlobalAveragePool", "Mul", "Conv"],
        ),
        (
            f"{START}  r = Relu (t)  y = ReduceMean <keepdims = 0> (r, spatial)",
            ["Conv", "Relu", "GlobalAveragePool", "Flatten"],
        ),
        (f"{START}  r = Relu (t)  z = Concat <axis = 2> (r, t)  {END}", ["Conv", "Relu", "Concat", "Conv"]),
        (f"{START}  z = Pad (t, pads)  {END}", ["Conv", "Conv"]),
    ],
)  # fmt: skip
def test_a_region_between_transposes_is_turned(body: str, expected: list[str]) -> None:
    model = network(body, MAP, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == expected
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_regions_that_share_a_border_are_turned_one_at_a_time(count: int) -> None:
    body, last = START, "t"
    for index in range(count):
        order = TO_FIRST if index % 2 == 0 else TO_LAST
        body += f"  a{index} = Mul ({last}, two)  r{index} = Tanh (a{index})  t{index} = {order} (r{index})"
        last = f"t{index}"
    model = network(f"{body}  y = Sigmoid ({last})", MAP, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph).count("Tanh") == count
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    "body",
    [
        f"{START}  z = Relu (t)  u = {TO_FIRST} (z)  v = Conv (u, k2)  y = Softmax <axis = 3> (z)",
        f"{START}  y = Relu (t)",
        f"{START}  r = Relu (t)  z = Add (r, r)  y = LayerNormalization (z, channel)",
        f"c = Conv (x, k)  t = {TO_LAST} (c)  s = Softmax <axis = 3> (t)  z = Add (t, s)  {END}",
    ],
)
def test_a_region_with_another_border_stays(body: str) -> None:
    model = network(body, MAP, CONSTANTS)
    result = canonical(model)
    assert "Transpose" in operators(result.graph)
    assert computes_the_same(result.graph, model)


def test_a_protected_tensor_inside_keeps_the_region() -> None:
    model = network(f"{START}  z = Relu (t)  {END}", MAP, CONSTANTS)
    assert operators(canonical(model, protected=("z",)).graph).count("Transpose") == 2
