from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import data_movement
from aznas_onnx.graph.rewrite.rule import Attempt
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, decomposed, operators, outcome

MAP = {"x": ("N", 3, 4, 6)}
CONSTANTS = {
    "rows": np.array([-1, 72]), "map": np.array([-1, 3, 4, 6]), "split": np.array([-1, 3, 24]),
    "copied": np.array([0, 72]), "merged": np.array([-1, 4, 6]), "turned": np.array([-1, 3, 6, 4]),
    "one": np.float32(1.0), "none": np.zeros(8, np.int64), "last": np.array([4]), "start": np.array([0]),
    "end": np.array([2**31]), "axis": np.array([1]), "third": np.array([2]),
    "vector_of_one": np.ones(1, np.float32), "channels": weights(3, 1, 1), "zero": np.array([0]),
    "short": np.array([2]), "target": np.array([1, 3, 4, 6]), "grow": np.array([1, 3, 4, 6]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("i = Identity (x)  y = Relu (i)", ["Relu"]),
        ("r = Relu (x)  y = Identity (r)", ["Relu"]),
        ("r = Relu (x)  y = Cast <to = 1> (r)", ["Relu"]),
        ("r = Reshape (x, map)  y = Relu (r)", ["Relu"]),
        ("f = Reshape (x, rows)  r = Reshape (f, map)  y = Relu (r)", ["Relu"]),
        ("f = Reshape (x, rows)  y = Reshape (f, split)", ["Reshape"]),
        ("u = Unsqueeze (x, last)  s = Squeeze (u, last)  y = Relu (s)", ["Relu"]),
        ("y = Reshape (x, rows)", ["Flatten"]),
        ("s = Reshape (x, split)  y = Reshape (s, rows)", ["Flatten"]),
        ("y = Flatten <axis = 2> (x)", ["Reshape"]),
        ("t = Transpose <perm = [0, 2, 3, 1]> (x)  u = Transpose <perm = [0, 3, 1, 2]> (t)  y = Relu (u)", ["Relu"]),
        ("t = Transpose <perm = [0, 2, 3, 1]> (x)  y = Transpose <perm = [0, 2, 1, 3]> (t)", ["Transpose"]),
        ("t = Transpose <perm = [0, 1, 2, 3]> (x)  y = Relu (t)", ["Relu"]),
        ("m = Reshape (x, merged)  t = Transpose <perm = [0, 2, 1]> (m)  y = Reshape (t, turned)", ["Transpose"]),
        ('y = Einsum <equation = "b...c->bc..."> (x)', ["Transpose"]),
        ("p = Pad (x, none)  y = Relu (p)", ["Relu"]),
        ("s = Slice (x, start, end, axis)  y = Relu (s)", ["Relu"]),
        ("e = Expand (x, target)  y = Relu (e)", ["Relu"]),
        ("y = Sum (x, x, x)", ["Add", "Add"]),
        ("s = Sum (x)  y = Relu (s)", ["Relu"]),
        ("m = Mul (x, one)  y = Relu (m)", ["Relu"]),
        ("a = Mul (x, channels)  m = Mul (a, vector_of_one)  y = Relu (m)", ["Mul", "Relu"]),
        ("y = Mul (x, x)", ["Pow"]),
        ("y = Add (channels, x)", ["Add"]),
    ],
)  # fmt: skip
def test_tidied(body: str, expected: list[str]) -> None:
    model = network(body, MAP, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == expected
    assert computes_the_same(result.graph, model)


def test_a_constant_operand_is_last() -> None:
    node = canonical(network("y = Add (channels, x)", MAP, CONSTANTS)).graph.nodes[0]
    assert node.inputs == ("x", "channels")


def test_a_strided_view_of_everything_is_nothing() -> None:
    """PyTorch's dynamo exporter writes `as_strided` as a Gather from the flattened tensor, with computed indices."""
    body = """
        minus_one = Constant <value_ints = [-1]> ()
        from = Constant <value_int = 0> ()
        by = Constant <value_int = 1> ()
        shape = Shape (x)
        size = Size (x)
        count = Range (from, size, by)
        index = Reshape (count, shape)
        flat = Reshape (x, minus_one)
        g = Gather <axis = 0> (flat, index)
        y = Relu (g)
    """
    model = network(body, MAP)
    result = canonical(model)
    assert operators(result.graph) == ["Relu"]
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("body", "attempt", "operator", "reason"),
    [
        ("y = Reshape (x, split)", data_movement._reshape_like, "Reshape", "joins something else"),
        ("y = Reshape (x, merged)", data_movement._reshape_like, "Reshape", "joins something else"),
        ("y = Flatten (x)", data_movement._reshape_like, "Flatten", "canonical"),
        ("y = Reshape (x, rows)", data_movement._reshape_of_reshape, "Reshape", "no other reshape"),
        (
            "f = Reshape (x, split)  y = Reshape (f, copied)",
            data_movement._reshape_like,
            "Reshape",
            "joins something else",
        ),
        ("y = Transpose (x)", data_movement._transpose, "Transpose", "no other transpose"),
        ("y = Transpose (x)", data_movement._transpose_of_merged, "Transpose", "two axes of three"),
        ('y = Einsum <equation = "bchw->bcw"> (x)', data_movement._einsum, "Einsum", "more than reorder"),
        ('y = Einsum <equation = "bchw,bchv->bcwv"> (x, x)', data_movement._einsum, "Einsum", "more than one operand"),
        ("y = Slice (x, start, short, third)", data_movement._nothing_added, "Slice", "leaves something out"),
        ("y = Slice (x, start, end, zero)", data_movement._nothing_added, "Slice", "leaves something out"),
        ("m = Mul (x, vector_of_one)  y = Relu (m)", data_movement._factor_of_one, "Mul", "parameter"),
        ("y = Mul (x, channels)", data_movement._square, "Mul", "different"),
        ("y = Add (x, channels)", data_movement._constant_last, "Add", "last already"),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, attempt: Attempt, operator: str, reason: str) -> None:
    declined = outcome(network(body, MAP, CONSTANTS), attempt, operator)
    assert declined is not None
    assert reason in declined


def test_an_output_of_the_graph_keeps_its_name() -> None:
    model = network("y = Identity (x)  z = Relu (y)", MAP, outputs=("y", "z"))
    result = canonical(model)
    assert result.graph.outputs == ("y", "z")
    assert {name for node in result.graph.nodes for name in node.outputs} == {"y", "z"}


def test_shapes_that_agree_at_batch_one_only_are_distinguished() -> None:
    """At batch 1 this reshape looks like nothing, but it moves the batch."""
    model = network("s = Reshape (x, target)  y = Neg (s)", {"x": ("N", 1, 6)}, {"target": np.array([1, -1, 6])})
    assert operators(canonical(model).graph) == ["Reshape", "Neg"]


def test_decomposing_changes_nothing_without_need() -> None:
    graph, changes = decomposed(network("y = Relu (x)"))
    assert operators(graph) == ["Relu"]
    assert changes == ()
