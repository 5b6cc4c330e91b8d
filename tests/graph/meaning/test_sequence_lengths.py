from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.graph import prepare
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights

MASKED = """
    p = Range (zero, fifty, one)
    u = Unsqueeze (lengths, axis)
    {compared}
    f = Cast <to = 1> (k)
    g = Unsqueeze (f, last)
    h = MatMul (x, w)
    y = Mul (h, g)
"""


def masked(compared: str) -> onnx.ModelProto:
    constants = {"zero": np.array(0), "one": np.array(1), "fifty": np.array(50), "axis": np.array([1])}
    body = MASKED.format(compared=compared)
    model = network(body, {"x": ("N", 50, 8)}, {**constants, "last": np.array([2]), "w": weights(8, 4)})
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"]))
    return model


@pytest.mark.parametrize(
    "compared", ["k = Less (p, u)", "k = Greater (u, p)", "q = GreaterOrEqual (p, u)  k = Not (q)"]
)
def test_what_is_compared_with_positions_is_a_length(compared: str) -> None:
    plan = prepare(masked(compared)).inputs
    assert plan.fills["lengths"] == 50
    assert plan.warnings == ("input 'lengths' (int64) is a length and is filled with 50",)
    assert verify(masked(compared)).agrees


def recurrent(lens: int) -> onnx.ModelProto:
    body = "o, h = LSTM <hidden_size = 5> (x, w, r, , lens)  y = Squeeze (h, zero)"
    constants = {"w": weights(1, 20, 6), "r": weights(1, 20, 5), "zero": np.array([0])}
    model = network(body, {"x": (7, "N", 6)}, constants)
    model.graph.input.append(helper.make_tensor_value_info("lens", lens, ["N"]))
    return model


def test_the_operand_of_a_recurrent_layer_is_a_length() -> None:
    assert prepare(recurrent(TensorProto.INT32)).inputs.fills["lens"] == 7


def test_what_the_user_says_holds() -> None:
    plan = prepare(recurrent(TensorProto.INT32), values={"lens": 3}).inputs
    assert plan.fills["lens"] == 1  # not used
    assert plan.values["lens"] == 3


def test_what_is_compared_with_other_numbers_is_none() -> None:
    assert prepare(masked("m = Mul (p, p)  k = Less (m, u)")).inputs.fills["lengths"] == 1
