from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.nonnegative import is_nonnegative
from tests.graph.builders import network
from tests.graph.rewrite.running import folded

CONSTANTS = {"zero": np.float32(0.0), "minus": np.float32(-1.0), "six": np.float32(6.0)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Relu (x)", True),
        ("y = Clip (x, zero, six)", True),
        ("y = Clip (x, minus, six)", False),
        ("y = Clip (x)", False),
        ("a = Relu (x)  b = Sigmoid (x)  y = Add (a, b)", True),
        ("a = Relu (x)  y = Add (a, x)", False),
        ("a = Relu (x)  p = MaxPool <kernel_shape = [2, 2]> (a)  y = Transpose (p)", True),
        ("a = Relu (x)  y = Neg (a)", False),
        ("y = Identity (x)", False),
        ("y = Softplus (x)", True),
        ("y = ReduceSumSquare (x)", True),
        ("y = Tanh (x)", False),
        ("a = Relu (x)  y = Tanh (a)", True),
        ("a = Relu (x)  y = LogSoftmax (a)", False),
        ("a = Relu (x)  y = Concat <axis = 1> (a, x)", False),
    ],
)
def test_what_cannot_be_negative(body: str, *, expected: bool) -> None:
    graph, infos = folded(network(body, {"x": ("N", 3, 4, 4)}, CONSTANTS))
    assert is_nonnegative(Editor(graph, infos), "y") is expected


def test_old_clip() -> None:
    graph, infos = folded(network("y = Clip <min = 0.0> (x)", {"x": ("N", 3)}, opset=6))
    assert is_nonnegative(Editor(graph, infos), "y")
