"""Weights for a comparison: drawn by their roles, constants with a meaning excepted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from aznas_onnx.graph import prepare
from aznas_onnx.verify.reference_run import constant_tensors
from aznas_onnx.verify.scaled_weights import draw_weights, materialise_filled
from tests.graph.builders import network, weights

BODY = """
    c = Conv (x, w, b)
    n = BatchNormalization (c, scale, shift, mean, variance)
    t = Transpose (k)
    f = Flatten (n)
    m = MatMul (f, t)
    y = Add (m, mask)
"""
CONSTANTS = {
    "w": np.zeros((8, 3, 3, 3), np.float32),
    **{name: np.zeros(8, np.float32) for name in ("b", "scale", "shift", "mean", "variance")},
    "k": np.zeros((20, 288), np.float32),
    "mask": np.float32(-3.0),
}


def drawn(seed: int = 7, **more: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    model = network(BODY, {"x": ("N", 3, 8, 8)}, {**CONSTANTS, **more})
    draw_weights(model, prepare(model, keep_graph=True), np.random.default_rng(seed))
    return {name: numpy_helper.to_array(tensor) for name, tensor in constant_tensors(model).items()}


def test_each_role_has_its_size() -> None:
    found = drawn()
    assert abs(found["w"].std() - np.sqrt(2 / 27)) < 0.05
    assert abs(found["k"].std() - np.sqrt(2 / 288)) < 0.01, "the weight is read transposed: 288 products a sum"
    assert np.abs(found["mean"]).max() < 0.5
    assert np.abs(found["shift"]).max() < 0.5
    assert found["scale"].min() > 0.3
    assert found["variance"].min() > 0.3
    assert found["mask"] == -3.0


def test_drawing_is_seeded() -> None:
    first, second = drawn(), drawn()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert (drawn(seed=8)["w"] != first["w"]).any()


def test_what_no_layer_reads_keeps_its_size() -> None:
    """Networks with standardised weights multiply by gains far below one, and overflow without them."""
    body = "g = Mul (w, gains)  q = Mul (g, h)  y = Conv (x, q)"
    constants = {"w": weights(20, 3, 3, 3), "gains": np.full((20, 1, 1, 1), 0.01, np.float32), "h": np.float32(2)}
    model = network(body, {"x": ("N", 3, 8, 8)}, constants)
    draw_weights(model, prepare(model, keep_graph=True), np.random.default_rng(0))
    gains = numpy_helper.to_array(constant_tensors(model)["gains"])
    assert np.all((gains >= 0.004) & (gains <= 0.015))


def test_zeros_that_a_node_makes_are_no_blank_weights() -> None:
    model = network("y = Conv (x, w)", {"x": ("N", 3, 8, 8)}, {"w": weights(20, 3, 3, 3)})
    zeros = numpy_helper.from_array(np.zeros(20, np.float32))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["shift"], value=zeros))
    draw_weights(model, prepare(model, keep_graph=True), np.random.default_rng(0))
    assert not numpy_helper.to_array(model.graph.node[0].attribute[0].t).any()


def test_weights_that_a_node_fills_become_initialisers() -> None:
    body = "w = ConstantOfShape (shape)  y = Conv (x, w)"
    model = network(body, {"x": ("N", 3, 8, 8)}, {"shape": np.array([8, 3, 3, 3])})
    materialise_filled(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    draw_weights(model, prepare(model, keep_graph=True), np.random.default_rng(0))
    assert numpy_helper.to_array(constant_tensors(model)["w"]).any()
