"""Random graphs of what rewrites look for compute after all rewrites what ONNX Runtime computes before."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same

SHAPE = {"x": ("N", 4, 6, 6)}
CONSTANTS: dict[str, Any] = {
    "w1": weights(4, 4, 1, 1), "w3": weights(4, 4, 3, 3), "wd": weights(4, 1, 3, 3), "m": weights(6, 6),
    "b": weights(4), "scale": weights(4, seed=1), "mean": weights(4, seed=2), "var": np.abs(weights(4, seed=3)) + 0.5,
    "column": weights(1, 4, 1, 1, seed=4), "positive": np.abs(weights(1, 4, 1, 1, seed=5)) + 0.5,
    "zero": np.float32(0.0), "one": np.float32(1.0), "six": np.float32(6.0), "three": np.float32(3.0),
    "half": np.float32(0.5), "root": np.float32(2**0.5), "two": np.float32(2.0), "eps": np.float32(1e-3),
    "spatial": np.array([2, 3]), "channels": np.array([1]), "last": np.array([3]), "i0": np.array([0]),
    "i2": np.array([2]), "i4": np.array([4]), "whole": np.array([0, 4, 6, 6]), "rows": np.array([0, 4, 36]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "halves": np.array([2, 2]),
}  # fmt: skip
# {0} is the tensor before, {1} one from before that; {2} is what the step makes, and names of its own begin with it.
STEPS = [
    "{2} = Relu ({0})", "{2} = Clip ({0}, zero, six)", "{2} = Sigmoid ({0})", "{2} = Neg ({0})", "{2} = Abs ({0})",
    "{2}s = Sigmoid ({0})  {2} = Mul ({0}, {2}s)",
    "{2}a = Add ({0}, three)  {2}c = Clip ({2}a, zero, six)  {2}d = Div ({2}c, six)  {2} = Mul ({0}, {2}d)",
    "{2}q = Div ({0}, root)  {2}e = Erf ({2}q)  {2}o = Add ({2}e, one)  {2}m = Mul ({0}, {2}o)  {2} = Mul ({2}m, half)",
    "{2} = Conv ({0}, w1, b)", "{2} = Conv <pads = [1, 1, 1, 1]> ({0}, w3)",
    "{2}p = Pad ({0}, pads)  {2} = Conv ({2}p, w3, b)", "{2} = Conv <pads = [1, 1, 1, 1], group = 4> ({0}, wd)",
    "{2} = BatchNormalization ({0}, scale, b, mean, var)", "{2} = Mul ({0}, column)", "{2} = Add ({0}, column)",
    "{2} = Sub (column, {0})", "{2} = Div ({0}, positive)", "{2} = Add ({0}, {1})", "{2} = Mul ({0}, {1})",
    "{2} = Sub ({1}, {0})", "{2} = Max ({0}, {1})", "{2} = MatMul ({0}, m)", "{2} = Softmax <axis = 1> ({0})",
    "{2}t = Transpose <perm = [0, 2, 3, 1]> ({0})  {2}n = Relu ({2}t)  {2} = Transpose <perm = [0, 3, 1, 2]> ({2}n)",
    "{2} = Transpose <perm = [0, 1, 3, 2]> ({0})",
    "{2}r = Reshape ({0}, rows)  {2}n = Tanh ({2}r)  {2} = Reshape ({2}n, whole)",
    "{2}c = Concat <axis = 1> ({0}, {1})  {2} = Slice ({2}c, i2, six_i, channels)",
    "{2}a, {2}b = Split <axis = 1> ({0}, halves)  {2} = Concat <axis = 1> ({2}b, {2}a)",
    "{2}a = Slice ({0}, i0, i2, channels)  {2}b = Slice ({0}, i2, i4, channels)  {2} = Concat <axis = 1> ({2}b, {2}a)",
    "{2}m = ReduceMean ({0}, spatial)  {2} = Mul ({0}, {2}m)", "{2}m = GlobalAveragePool ({0})  {2} = Add ({0}, {2}m)",
    "{2}m = ReduceMean ({0}, last)  {2}d = Sub ({0}, {2}m)  {2}p = Pow ({2}d, two)  {2}v = ReduceMean ({2}p, last)"
    "  {2}e = Add ({2}v, eps)  {2}s = Sqrt ({2}e)  {2} = Div ({2}d, {2}s)",
    "{2} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({0})",
    "{2}p = Pad ({0}, pads)  {2} = AveragePool <kernel_shape = [3, 3]> ({2}p)",
]  # fmt: skip
CONSTANTS["six_i"] = np.array([6])


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 8)), min_size=1, max_size=8))
def test_rewrites_keep_what_a_graph_computes(steps: list[tuple[str, int]]) -> None:
    names = ["x"]
    body = []
    for step, earlier in steps:
        body.append(step.format(names[-1], names[earlier % len(names)], f"t{len(names)}"))
        names.append(f"t{len(names)}")
    model = network(f"{'  '.join(body)}  y = Identity ({names[-1]})", SHAPE, CONSTANTS)
    assert computes_the_same(canonical(model).graph, model, tolerance=1e-4)
