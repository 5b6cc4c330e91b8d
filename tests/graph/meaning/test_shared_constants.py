"""Constants that an exporter stored once, and that are two."""

from __future__ import annotations

import numpy as np
import onnx

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, roles
from tests.graph.builders import network, weights

BODY = """
    a = MatMul (x, w)
    r = Relu (a)
    e = Mul (zeros, r)
    f = Add (e, {})
    y = MatMul (f, v)
"""
ZEROS = np.zeros((1, 1, 8), np.float32)


def test_a_scale_and_a_shift_that_are_stored_once_are_two_constants() -> None:
    """The response normalisation of ConvNeXt V2 before training."""
    constants = {"w": weights(4, 8), "v": weights(8, 4), "zeros": ZEROS}
    once = prepare(network(BODY.format("zeros"), {"x": (1, 5, 4)}, constants))
    twice = prepare(network(BODY.format("shift"), {"x": (1, 5, 4)}, {**constants, "shift": ZEROS}))
    found = roles(once.graph)
    assert (found["zeros"], found["zeros/bias"]) == (ConstantRole.SCALE, ConstantRole.BIAS)
    assert [node.inputs for node in once.graph.nodes if node.op_type == "Add"] == [("e", "zeros/bias")]
    assert once.infos.shape("zeros/bias") == (1, 1, 8)
    assert count(once).params == count(twice).params == 32 + 32 + 8 + 8


def test_a_name_that_the_file_has_already_is_not_given_again() -> None:
    body = f"{BODY.format('zeros')}  z = Mul (y, zeros_bias)"
    constants = {"w": weights(4, 8), "v": weights(8, 4), "zeros": ZEROS, "zeros_bias": np.full(4, 3, np.float32)}
    model = network(body, {"x": (1, 5, 4)}, constants, outputs=("z",))
    text = model.SerializeToString().replace(b"zeros_bias", b"zeros/bias")
    found = prepare(onnx.ModelProto.FromString(text))
    assert {"zeros", "zeros/bias", "zeros/bias.2"} <= set(found.graph.constants)
    assert found.infos.shape("zeros/bias") == (4,)
    assert found.infos.shape("zeros/bias.2") == (1, 1, 8)


def test_a_number_that_is_trained_in_one_place_and_written_in_another() -> None:
    body = "f = Flatten (x)  g = Gemm (f, w, half)  s = Mul (g, half)  y = Gemm (s, v)"
    model = prepare(
        network(body, constants={"w": weights(192, 1), "v": weights(1, 4), "half": np.array([0.5], np.float32)}),
        keep_graph=True,
    )
    assert roles(model.graph)["half"] is ConstantRole.BIAS
    assert [node.inputs[1] for node in model.graph.nodes if node.op_type == "Mul"] == ["half/fixed"]


def test_a_tied_weight_stays_one() -> None:
    body = """
        r = Relu (x)
        i = Cast <to = 7> (r)
        e = Gather (table, i)
        t = Transpose <perm = [1, 0]> (table)
        y = MatMul (e, t)
    """
    model = prepare(network(body, {"x": (1, 6)}, {"table": weights(50, 8)}), keep_graph=True)
    assert not [name for name in model.graph.constants if "/" in name and "transposed" not in name]
    assert count(model).params == 400


def test_a_graph_of_which_each_constant_has_one_role_is_not_touched() -> None:
    body = "a = LayerNormalization (x, ones, zeros)  b = MatMul (a, w)  y = LayerNormalization (b, ones, zeros)"
    constants = {"w": weights(8, 8), "ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32)}
    model = prepare(network(body, {"x": (1, 4, 8)}, constants))
    assert set(model.graph.constants) == {"w", "ones", "zeros"}
