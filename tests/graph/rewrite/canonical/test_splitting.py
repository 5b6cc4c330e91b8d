from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import splitting
from aznas_onnx.graph.rewrite.rule import Attempt
from tests.graph.builders import network
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

QKV = {"x": ("N", 5, 3, 4)}
CONSTANTS = {
    **{f"i{value}": np.array([value]) for value in range(8)}, "far": np.array([2**31 - 1]), "minus_one": np.array([-1]),
    "ones": np.array([1, 1, 1]), "halves": np.array([2, 2]),
}  # fmt: skip


def window(output: str, start: str, end: str, axis: str, source: str = "x") -> str:
    return f"{output} = Slice ({source}, {start}, {end}, {axis})"


def test_a_slice_of_one_without_its_axis_is_a_gather() -> None:
    model = network(f"{window('s', 'i1', 'i2', 'i2')}  q = Squeeze (s, i2)  y = Relu (q)", QKV, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Gather", "Relu"]
    assert computes_the_same(result.graph, model)


def test_pieces_of_a_split_without_their_axis_are_gathers() -> None:
    model = network(
        """
        a, b, c = Split <axis = 2> (x, ones)
        q = Squeeze (a, i2)  k = Squeeze (b, i2)  v = Squeeze (c, i2)
        s = Add (q, k)  y = Add (s, v)
        """,
        QKV,
        CONSTANTS,
    )
    result = canonical(model)
    assert operators(result.graph) == ["Gather", "Gather", "Gather", "Add", "Add"]
    assert computes_the_same(result.graph, model)


def test_slices_that_divide_an_axis_are_a_split() -> None:
    body = f"{window('a', 'i0', 'i2', 'i3')}  {window('b', 'i2', 'far', 'i3')}  y = Mul (b, a)"
    model = network(body, QKV, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Split", "Mul"]
    assert computes_the_same(result.graph, model)


def test_slices_of_two_axes_are_one() -> None:
    steps = "s = Slice (x, i0, far, i1, i2)  t = Slice (s, i1, far, i2, i2)  y = Relu (t)"
    model = network(steps, QKV, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Slice", "Relu"]
    assert computes_the_same(result.graph, model)


def test_slices_with_attributes() -> None:
    model = network(
        "s = Slice <starts = [1], ends = [2], axes = [2]> (x)  q = Squeeze <axes = [2]> (s)  y = Relu (q)", QKV, opset=9
    )
    assert operators(canonical(model).graph) == ["Gather", "Relu"]


def test_a_concatenation_for_another_one_alone_is_part_of_it() -> None:
    model = network(
        "a = Relu (x)  b = Neg (x)  i = Concat <axis = 1> (a, b)  y = Concat <axis = 1> (i, x)", QKV
    )  # fmt: skip
    result = canonical(model)
    assert operators(result.graph) == ["Relu", "Neg", "Concat"]
    assert computes_the_same(result.graph, model)


def test_a_tensor_joined_with_itself_again_and_again_is_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat, it would be a list of two to the power of 7 tensors."""
    monkeypatch.setattr(splitting, "_MOST_OPERANDS", 8)
    body = "c0 = Relu (x)  " + "  ".join(f"c{i + 1} = Concat <axis = 1> (c{i}, c{i})" for i in range(7))
    result = canonical(network(f"{body}  y = Relu (c7)", {"x": ("N", 1, 1, 1)}))
    assert [len(node.inputs) for node in result.graph.nodes] == [1, 8, 8, 2, 1]


def test_dense_concatenations_are_nested() -> None:
    """torchvision's DenseNet joins all features of a block anew for each layer."""
    model = network(
        """
        f1 = Relu (x)
        c1 = Concat <axis = 1> (x, f1)
        f2 = Neg (c1)
        c2 = Concat <axis = 1> (x, f1, f2)
        f3 = Abs (c2)
        c3 = Concat <axis = 1> (x, f1, f2, f3)
        y = Relu (c3)
        """,
        QKV,
    )
    result = canonical(model)
    joined = [node.inputs for node in result.graph.nodes if node.op_type == "Concat"]
    assert joined == [("x", "f1"), ("c1", "f2"), ("c2", "f3")]
    assert computes_the_same(result.graph, model)


def test_a_concatenation_of_one_is_nothing() -> None:
    assert operators(canonical(network("c = Concat <axis = 1> (x)  y = Relu (c)", QKV)).graph) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "attempt", "operator", "reason"),
    [
        ("y = Squeeze (x, i2)", splitting._select, "Squeeze", "nothing was taken apart"),
        (f"{window('s', 'i0', 'i2', 'i2')}  y = Relu (s)", splitting._partition, "Slice", "do not divide"),
        (
            f"{window('a', 'i0', 'i2', 'i3')}  {window('b', 'i1', 'far', 'i3')}  y = Concat <axis = 3> (a, b)",
            splitting._partition, "Slice", "do not divide",
        ),
        (
            f"{window('a', 'i0', 'i2', 'i3')}  {window('b', 'i0', 'i3', 'i3')}  y = Concat <axis = 3> (a, b)",
            splitting._partition, "Slice", "overlap",
        ),
        (f"{window('y', 'i0', 'i2', 'i2')}", splitting._merge_slices, "Slice", "no other slice"),
        ("y = Concat <axis = 1> (x, x)", splitting._dense, "Concat", "two tensors only"),
        ("a = Relu (x)  y = Concat <axis = 1> (x, a, x)", splitting._dense, "Concat", "no earlier concatenation"),
        ("y = Concat <axis = 1> (x, x)", splitting._flat, "Concat", "nothing that was joined"),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, attempt: Attempt, operator: str, reason: str) -> None:
    shape = {"x": ("N", 5, 1, 4)} if operator == "Squeeze" else QKV
    declined = outcome(network(body, shape, CONSTANTS), attempt, operator)
    assert declined is not None
    assert reason in declined


def test_a_slice_of_the_batch_that_its_size_cuts_off_is_not_read() -> None:
    model = network(f"{window('s', 'i0', 'far', 'i0')}  y = Relu (s)", QKV, CONSTANTS)
    assert outcome(model, splitting._partition, "Slice") == "it does not slice along one axis"
