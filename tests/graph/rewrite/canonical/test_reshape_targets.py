from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import reshape_targets
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

TOKENS = {"x": ("N", 4, 6)}
CONSTANTS = {
    "zero": np.array(0), "i0": np.array([0]), "i1": np.array([1]), "i2": np.array([2]), "rest": np.array([4, 2, 3]),
    "open": np.array([-1, 3]), "minus_one": np.array([-1]), "token": weights(1, 1, 6), "one_row": np.array([1, 6]),
}  # fmt: skip
BATCH = "s = Shape (x)  b = Gather (s, i0)"
SQUARE = f"{BATCH}  f = Flatten (x)  g = Transpose (f)  m = MatMul (f, g)"


@pytest.mark.parametrize(
    "target",
    [
        f"{BATCH}  t = Concat <axis = 0> (b, rest)",
        "s = Shape (x)  n = Gather (s, zero)  b = Unsqueeze (n, i0)  t = Concat <axis = 0> (b, rest)",
        "s = Shape (x)  h = Slice (s, i0, i2)  t = Concat <axis = 0> (h, i2, minus_one)",
    ],
)
def test_a_computed_target_becomes_a_constant(target: str) -> None:
    model = network(f"{target}  r = Reshape (x, t)  y = Softmax (r)", TOKENS, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Reshape", "Softmax"]
    constant = result.graph.constants[result.graph.nodes[0].inputs[1]]
    assert constant.read is not None
    assert constant.read().tolist() == [-1, 4, 2, 3]
    assert computes_the_same(result.graph, model)


def test_a_class_token_is_expanded_in_one_way() -> None:
    by_where = (
        f"{BATCH}  w = Concat <axis = 0> (b, minus_one, minus_one)  f = Equal (w, minus_one)  o = Shape (w)"
        "  ones = ConstantOfShape <value = int64[1] {1}> (o)  t = Where (f, ones, w)"
    )
    plain = f"{BATCH}  t = Concat <axis = 0> (b, one_row)"
    found = []
    for target in (by_where, plain):
        model = network(f"{target}  e = Expand (token, t)  y = Concat <axis = 1> (e, x)", TOKENS, CONSTANTS)
        result = canonical(model)
        assert computes_the_same(result.graph, model)
        found.append(operators(result.graph))
    assert found == [["Shape", "Concat", "Expand", "Concat"]] * 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Reshape (x, open)", "its target is a constant"),
        (f"{SQUARE}  t = Concat <axis = 0> (b, b)  y = Reshape (m, t)", "more than one of its sizes"),
    ],
)
def test_reasons_to_decline(body: str, reason: str) -> None:
    declined = outcome(network(body, TOKENS, CONSTANTS), reshape_targets._constant_target, "Reshape")
    assert declined is not None
    assert reason in declined
