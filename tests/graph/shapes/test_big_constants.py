"""Large values are computed when a rule asks, within bounds."""

from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph import Constant, Node
from aznas_onnx.graph.ir.graph import Array
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.big_constants import BigConstants

INT = np.dtype(np.int64)


def values(*nodes: Node, **constants: Array) -> BigConstants:
    """Return the values of a graph whose results all have four rows and whose shapes only are known."""
    infos = {name: TensorInfo(array.shape, array.dtype) for name, array in constants.items()}
    infos.update({name: TensorInfo((4, 1), INT) for node in nodes for name in node.outputs})
    found = BigConstants(infos, {name: Constant.of(array) for name, array in constants.items()})
    for node in nodes:
        found.add(node)
    return found


def node(op_type: str, *inputs: str, output: str = "y", **attributes: int) -> Node:
    return Node(op_type=op_type, version=18, name=output, inputs=inputs, outputs=(output,), attributes=attributes)


ROWS = np.arange(4)[:, None]


def test_a_constant_has_a_column_for_each_entry_of_its_last_axis() -> None:
    columns = values(a=np.concatenate([ROWS, ROWS + 1], axis=1)).columns("a")
    assert columns is not None
    assert [column.tolist() for column in columns] == [[0, 1, 2, 3], [1, 2, 3, 4]]


@pytest.mark.parametrize("axis", [1, -1])
def test_a_join_along_the_last_axis_is_read_part_by_part(axis: int) -> None:
    columns = values(node("Add", "a", "b", output="c"), node("Concat", "c", "a", axis=axis), a=ROWS, b=ROWS).columns(
        "y"
    )
    assert columns is not None
    assert [column.tolist() for column in columns] == [[0, 2, 4, 6], [0, 1, 2, 3]]


def test_what_follows_from_no_constant_is_not_known() -> None:
    assert values(node("Add", "a", "x"), a=ROWS).columns("y") is None
    assert values(node("Det", "a"), a=ROWS).columns("y") is None


def test_a_chain_that_doubles_at_each_step_is_given_up() -> None:
    """Sixteen sums of a tensor with itself read the first one 65,536 times; forty would take for ever."""
    chain = [node("Add", f"s{i}", f"s{i}", output=f"s{i + 1}") for i in range(40)]
    assert values(*chain, s0=ROWS).columns("s40") is None


def test_a_value_above_all_bounds_is_not_read() -> None:
    huge = Constant(shape=(2**25, 1), dtype=INT, read=lambda: np.zeros((2**25, 1), dtype=INT))
    assert BigConstants({"a": TensorInfo(huge.shape, INT)}, {"a": huge}).columns("a") is None
