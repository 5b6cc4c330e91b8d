"""The weights in a file do not decide its scores, whatever they are to the network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import aznas_onnx as az
from tests.graph.builders import network, weights

CONVOLUTIONS = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    n = BatchNormalization (a, scale, shift, mean, variance)
    p = PRelu (n, slope)
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (p, w2)
    f = Mul (c, factor)
    g = Div (f, deviation)
    r = Relu (g)
    d = Conv <pads = [1, 1, 1, 1]> (r, w3)
    t = Mul (d, table)
    e = Add (t, offset)
    y = Add (e, r)
"""
TOKENS = """
    e = MatMul (x, w1)
    p = Add (e, positions)
    n = LayerNormalization (p, scale, shift)
    q = MatMul (n, w2)
    u = Unsqueeze (q, last)
    m = Mul (u, decay)
    k = Exp (m)
    s = ReduceSum <keepdims = 0> (k, last)
    o = MatMul (s, w3)
    y = Add (p, o)
"""


def of_convolutions(seed: int) -> onnx.ModelProto:
    shapes = {
        **dict.fromkeys(("b1", "scale", "shift", "mean", "variance"), (8,)),
        **dict.fromkeys(("factor", "deviation"), (1, 8, 1, 1)),
        **dict.fromkeys(("w2", "w3"), (8, 8, 3, 3)),
        **dict.fromkeys(("table", "offset"), (1, 8, 8, 8)),
        "w1": (8, 3, 3, 3),
        "slope": (8, 1, 1),
    }
    drawn = {name: weights(*shape, seed=seed) for name, shape in shapes.items()}
    drawn.update({name: np.abs(drawn[name]) for name in ("variance", "deviation")})
    return network(CONVOLUTIONS, {"x": ("N", 3, 16, 16)}, drawn)


def of_tokens(seed: int) -> onnx.ModelProto:
    shapes = {"w1": (8, 16), "positions": (1, 10, 16), "scale": (16,), "shift": (16,), "w2": (16, 16), "w3": (16, 16)}
    drawn = {name: weights(*shape, seed=seed) for name, shape in shapes.items()}
    decay = -np.exp(weights(16, 4, seed=seed))
    return network(TOKENS, {"x": ("N", 10, 8)}, {**drawn, "decay": decay, "last": np.array([3])})


@pytest.mark.parametrize("of", [of_convolutions, of_tokens])
def test_two_sets_of_weights_score_alike(of) -> None:
    first, second = (az.score(of(seed), batch_size=4) for seed in (1, 2))
    assert first.proxies["expressivity"].mean > 0
    assert first.proxies == second.proxies
