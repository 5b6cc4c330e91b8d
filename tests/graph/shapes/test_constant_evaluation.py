"""The short cuts of constant evaluation against the reference implementation of the onnx package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx.reference import ReferenceEvaluator

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Constant, Limits, Node
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.constant_evaluation import Deferred, evaluate, is_cheap
from tests.graph.builders import network, weights

Array = npt.NDArray[Any]


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


TABLE = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
LARGEST, SMALLEST = 2**63 - 1, -(2**63)

CASES: list[tuple[str, list[Array | None], int]] = [
    ("y = Add (a, b)", [TABLE, ints(1, 2, 3, 4)], 18),
    ("y = Sub (a, b)", [ints(5), TABLE], 18),
    ("y = Mul (a, b)", [weights(3, 1), weights(1, 4)], 18),
    ("y = Div (a, b)", [ints(7, 8, 9), ints(2, 2, 2)], 18),
    ("y = Div (a, b)", [ints(-7, 7, -8, 8), ints(2, -2, 3, -3)], 18),
    ("y = Div (a, b)", [ints(2**60 + 1), ints(1)], 18),
    ("y = Div (a, b)", [ints(-(2**60) - 1), ints(1)], 18),
    ("y = Div (a, b)", [weights(3), weights(3, seed=1)], 18),
    ("y = Equal (a, b)", [ints(1, 2), ints(1, 3)], 18),
    ("y = Less (a, b)", [ints(1, 2), ints(2)], 18),
    ("y = Greater (a, b)", [weights(4), np.array([0], np.float32)], 18),
    ("y = And (a, b)", [np.array([True, False]), np.array([True, True])], 18),
    ("y = Or (a, b)", [np.array([True, False]), np.array([False, False])], 18),
    ("y = Not (a)", [np.array([True, False])], 18),
    ("y = Where (a, b, c)", [np.array([[True], [False]]), ints(1, 2), ints(3)], 18),
    ("y = Sqrt (a)", [np.array([4, 2], np.float32)], 18),
    ("y = Neg (a)", [ints(1, -2)], 18),
    ("y = Floor (a)", [np.array([1.5, -1.5], np.float32)], 18),
    ("y = Ceil (a)", [np.array([1.5, -1.5], np.float32)], 18),
    ("y = Squeeze (a, b)", [TABLE[:, None], ints(-3)], 18),
    ("y = Squeeze (a)", [TABLE[None, :, None]], 18),
    ("y = Squeeze <axes = [1]> (a)", [TABLE[:, None]], 11),
    ("y = Unsqueeze (a, b)", [TABLE, ints(-1, 0)], 18),
    ("y = Unsqueeze <axes = [0, 2]> (a)", [TABLE], 11),
    ("y = Gather (a, b)", [TABLE, ints(1, -1)], 18),
    ("y = Gather <axis = 2> (a, b)", [TABLE, np.array([[0, 3]])], 18),
    ("y = Gather <axis = -1> (a, b)", [TABLE, np.array(2)], 18),
    ("y = Concat <axis = -1> (a, b)", [TABLE, TABLE[..., :1]], 18),
    ("y = Slice (a, b, c, d, e)", [TABLE, ints(0, 1), ints(2, LARGEST), ints(1, 2), ints(1, 2)], 18),
    ("y = Slice (a, b, c, d, e)", [TABLE, ints(-1), ints(SMALLEST), ints(2), ints(-1)], 18),
    ("y = Slice (a, b, c, d, e)", [TABLE, ints(-1), ints(-100), ints(-1), ints(-2)], 18),
    ("y = Slice (a, b, c, d, e)", [TABLE, ints(LARGEST), ints(0), ints(2), ints(-1)], 18),
    ("y = Slice (a, b, c)", [TABLE, ints(-100, 1), ints(1, -1)], 18),
    ("y = Slice <axes = [1], starts = [1], ends = [9]> (a)", [TABLE], 9),
    ("y = Slice <starts = [1], ends = [9]> (a)", [TABLE], 9),
    ("y = Cast <to = 1> (a)", [TABLE], 18),
    ("y = Cast <to = 7> (a)", [np.array([1.7, -1.7], np.float32)], 18),
    ("y = Cast <to = 9> (a)", [ints(0, 3)], 18),
    ("y = Reshape (a, b)", [TABLE, ints(0, -1)], 18),
    ("y = Reshape (a, b)", [TABLE, ints(4, 0, 2)], 18),
    ("y = Reshape <allowzero = 1> (a, b)", [TABLE[:0], ints(0, 5)], 18),
    ("y = ConstantOfShape (a)", [ints(2, 3)], 18),
    ("y = ConstantOfShape <value = int64[1] {7}> (a)", [ints(2, 0)], 18),
    ("y = Transpose (a)", [TABLE], 18),
    ("y = Transpose <perm = [1, 2, 0]> (a)", [TABLE], 18),
    ("y = Expand (a, b)", [ints(1, 2)[:, None], ints(3, 1, 4)], 18),
    ("y = Range (a, b, c)", [np.array(2), np.array(11), np.array(3)], 18),
    ("y = Range (a, b, c)", [np.array(5), np.array(0), np.array(-2)], 18),
    ("y = Range (a, b, c)", [np.float32(0), np.float32(1), np.float32(0.25)], 18),
    ("y = Identity (a)", [TABLE], 18),
    (
        "y = DequantizeLinear <axis = 0> (a, b)",
        [np.array([[1, 2], [3, 4]], np.int8), np.array([0.5, 2], np.float32)],
        13,
    ),
]


@pytest.mark.parametrize(("body", "operands", "opset"), CASES)
def test_short_cuts_agree_with_the_reference(body: str, operands: list[Array | None], opset: int) -> None:
    values = {name: value for name, value in zip("abcde", operands, strict=False) if value is not None}
    model = network(body, {}, values, opset=opset)
    node = deserialize(model, None, "net", Limits()).nodes[0]
    (found,) = evaluate(node, operands)
    if node.op_type == "DequantizeLinear":  # the reference starts at opset 19, with the same meaning
        model.opset_import[0].version = 19
    (expected,) = ReferenceEvaluator(model).run(None, {})
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.asarray(expected).dtype
    assert found.shape == np.asarray(expected).shape


def node(op_type: str, *inputs: str) -> Node:
    return Node(op_type=op_type, version=18, name=op_type.lower(), inputs=inputs, outputs=("y",))


def test_whatever_the_reference_raises_is_one_error() -> None:
    with pytest.raises(ModelError, match=r"node 'imagedecoder' \(ImageDecoder\) cannot be computed from its constants"):
        evaluate(
            Node(op_type="ImageDecoder", version=20, name="imagedecoder", inputs=("a",), outputs=("y",)),
            [np.zeros(9, np.uint8)],
        )
    with pytest.raises(ModelError, match="asks for more memory than there is"):
        evaluate(node("ConstantOfShape", "a"), [ints(2**40, 2**10)])


def test_a_deferred_constant_is_computed_when_read_and_knows_its_work() -> None:
    a, b = Constant.of(weights(100)), Constant.of(weights(100, seed=1))
    first = Deferred.of(node("Add", "a", "b"), (a, b), 0, 100)
    second = Deferred.of(node("Exp", "c"), (Constant(shape=(100,), dtype=np.dtype(np.float32), read=first),), 0, 100)
    assert first.work == 300
    assert second.work == 300 + 1600
    np.testing.assert_allclose(second(), np.exp(weights(100) + weights(100, seed=1)), rtol=1e-6)


def test_a_constant_that_costs_too_much_is_not_cheap_and_not_computed() -> None:
    size = 2**23
    large = Constant(shape=(size,), dtype=np.dtype(np.float32), read=Deferred.of(node("Neg", "a"), (), 0, size))
    assert not is_cheap(large)
    assert is_cheap(Constant.of(weights(3)))
    assert not is_cheap(Constant(shape=(3,), dtype=np.dtype(np.float32)))
    endless = Deferred.of(node("Det", "a"), (Constant.of(weights(3, 3)),), 0, 1)
    with pytest.raises(ModelError, match="too large to compute"):
        endless()


def test_the_work_of_a_vendors_operator_is_unknown() -> None:
    other = Node(op_type="Add", domain="vendor", version=1, name="n", inputs=("a",), outputs=("y",))
    assert not Deferred.of(other, (Constant.of(weights(2)),), 0, 2).is_cheap


@pytest.mark.parametrize(
    ("index", "axis", "expected"),
    [
        (np.array([[1, -1, 0]]), 0, [[3, 1 + 3 * 49, 2]]),  # fewer rows than the table
        (np.array([[2, 0], [1, 1]]), 1, [[2, 0], [4, 4]]),
    ],
)
def test_single_elements_of_a_table_with_many_rows(index: Array, axis: int, expected: list[list[int]]) -> None:
    """The reference implementation goes wrong on such tables."""
    table = np.arange(150).reshape(50, 3)
    gather = replace(node("GatherElements", "a", "b"), attributes={"axis": axis})
    (found,) = evaluate(gather, [table, index])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(-9, -99, [0]), (-3, -99, [0]), (-9, 1, []), (9, -9, [2, 1, 0])]
)
def test_a_backward_slice_starts_at_the_axis(start: int, end: int, expected: list[int]) -> None:
    """Both ends are clamped to the axis (ONNX Runtime does so; the reference implementation does not)."""
    inputs: dict[str, Array] = {"a": ints(0, 1, 2), "b": ints(start), "c": ints(end), "d": ints(0), "e": ints(-1)}
    node = deserialize(network("y = Slice (a, b, c, d, e)", {}, inputs), None, "m", Limits()).nodes[0]
    assert evaluate(node, list(inputs.values()))[0].tolist() == expected
