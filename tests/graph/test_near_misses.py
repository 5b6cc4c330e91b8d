"""What a model says of the patterns that it nearly has, from the file on."""

from __future__ import annotations

import numpy as np

from aznas_onnx.graph import prepare
from aznas_onnx.inspection import inspect
from tests.graph.builders import network, weights

NORMALISATION = """
    m = ReduceMean <keepdims = 1> ({x}, last)  d = Sub ({x}, m)  q = Mul (d, d)  v = ReduceMean <keepdims = 1> (q, last)
    e = Add (v, epsilon)  s = Sqrt (e)  n = Div (d, s)
"""
CONSTANTS = {"last": np.array([-1]), "epsilon": np.float32(1e-5), "one": np.float32(1.0), "w": weights(6, 6)}


def test_a_normalisation_of_a_tensor_of_unknown_shape() -> None:
    body = f"u = custom.Unknown (x)  {NORMALISATION.format(x='u')}  y = MatMul (n, w)"
    model = network(body, {"x": ("N", 4, 6)}, CONSTANTS)
    model.opset_import.add(domain="custom", version=1)
    for node in model.graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
    (miss,) = inspect(model).near_misses
    assert (miss.pattern, miss.node) == ("LayerNormalization", "Sqrt_s")
    assert miss.reason == "the shape of its input is not known"


def test_what_a_later_rewrite_recognises_is_no_near_miss() -> None:
    """A Clip that is no HardSwish is a HardSigmoid, and one normalisation is tried as four."""
    body = f"""
        {NORMALISATION.format(x="x")}  a = Add (n, three)  c = Clip (a, zero, six)  h = Div (c, six)
        g = MatMul (n, w)  p = Mul (g, h)  y = MatMul (p, w)
    """
    numbers = {"zero": np.float32(0), "three": np.float32(3), "six": np.float32(6)}
    model = prepare(network(body, {"x": ("N", 4, 6)}, CONSTANTS | numbers))
    assert [node.op_type for node in model.graph.nodes][:2] == ["LayerNormalization", "HardSigmoid"]
    assert model.near_misses == ()


def test_a_graph_that_is_kept_says_nothing_of_what_was_folded() -> None:
    model = network(
        "c = Conv (x, k, b)  y = Relu (c)", {"x": ("N", 3, 8, 8)}, {"k": weights(4, 3, 3, 3), "b": weights(4)}
    )
    assert [miss.pattern for miss in prepare(model).near_misses] == ["folded BatchNormalization"]
    assert prepare(model, keep_graph=True).near_misses == ()
