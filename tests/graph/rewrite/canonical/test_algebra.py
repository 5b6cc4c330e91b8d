from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical.algebra import Sum, climb, close, expand, inner_tensors
from aznas_onnx.graph.rewrite.editor import Editor
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import folded

CONSTANTS = {
    "two": np.float32(2.0), "three": np.float32(3.0), "half": np.float32(0.5), "v": weights(4), "zero": np.float32(0.0)
}  # fmt: skip


def editing(body: str) -> Editor:
    return Editor(*folded(network(body, {"x": ("N", 4)}, CONSTANTS)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Add (x, two)", {("x",): 1.0, (): 2.0}),
        ("y = Sub (two, x)", {("x",): -1.0, (): 2.0}),
        ("y = Neg (x)", {("x",): -1.0}),
        ("y = Div (x, two)", {("x",): 0.5}),
        ("y = Pow (x, three)", {("x", "x", "x"): 1.0}),
        ("a = Add (x, two)  y = Mul (a, a)", {("x", "x"): 1.0, ("x",): 4.0, (): 4.0}),
        ("a = Add (x, v)  y = Mul (a, half)", {("x",): 0.5, ("v",): 0.5}),
        ("s = Sigmoid (x)  y = Mul (x, s)", {("s", "x"): 1.0}),
        ("a = Mul (x, zero)  y = Add (a, x)", {("x",): 1.0}),
        ("s = Sqrt (x)  y = Div (x, s)", {("1/s", "x"): 1.0}),
        ("s = Sqrt (x)  r = Reciprocal (s)  y = Mul (x, r)", {("1/s", "x"): 1.0}),
        ("y = Pow (x, half)", {("y",): 1.0}),
        ("y = Div (two, x)", {("y",): 1.0}),
    ],
)
def test_sums_of_products(body: str, expected: Sum) -> None:
    found = expand(editing(body), "y", {"x"}, {"s": "1/s"} if "s = Sqrt" in body else {})
    assert close(found, expected)


def test_symbols_are_not_looked_into() -> None:
    editor = editing("a = Add (x, two)  y = Mul (a, two)")
    assert expand(editor, "y", {"a"}) == {("a",): 2.0}


def test_what_no_formula_is_as_large_as() -> None:
    squares = "  ".join(f"a{i + 1} = Mul (a{i}, a{i})" for i in range(4))
    editor = editing(f"a0 = Add (x, two)  {squares}  y = Neg (a4)")
    assert expand(editor, "y", {"x"}) is None
    assert not close(None, {})


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ({("x",): 0.70711}, {("x",): 0.5**0.5}, True),
        ({("x",): 0.71}, {("x",): 0.5**0.5}, False),
        ({("x",): 1.0, ("t",): 1e-12}, {("x",): 1.0}, True),
        ({("t", "x"): 1.0}, {("x", "t"): 1.0}, True),
        ({("x",): 1.0}, {("x",): 1.0, ("t",): 1.0}, False),
    ],
)
def test_closeness(found: Sum, wanted: Sum, *, same: bool) -> None:
    assert close(found, wanted) is same


def test_neighbours_by_arithmetic() -> None:
    editor = editing("a = Mul (x, two)  b = Add (a, x)  s = Sigmoid (b)  c = Mul (s, b)  d = Div (c, two)  y = Exp (d)")
    assert list(inner_tensors(editor, "b")) == ["b", "a", "x"]
    assert [node.outputs[0] for node in climb(editor, "s")] == ["c", "d"]
