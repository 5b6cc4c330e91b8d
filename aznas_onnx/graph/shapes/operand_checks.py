"""Check that a node's operands fit each other, where ONNX's shape inference does not.

Shape inference computes the shape of a convolution from the number of its filters and does not check their number of
channels. These checks name the node, before a framework fails.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.operators.catalogue import Rules
from aznas_onnx.operators.mac_rules import GATES
from aznas_onnx.operators.sets import RECURRENT, WINDOWED

__all__ = ["check_operands", "check_text_attributes"]

_Shape: TypeAlias = tuple[int, ...]
_Shapes: TypeAlias = Sequence["_Shape | None"]

_TERM = r"[A-Za-z ]*(?:\.\.\.[A-Za-z ]*)?"
_EQUATION = re.compile(rf"{_TERM}(?:,{_TERM})*(?:->{_TERM})?")
_LONGEST_EQUATION = 4096
_WIDEST_WINDOW = 2**16
_MAY_BE_ENDLESS = frozenset(("start", "end", "starts", "ends"))  # the largest number is the end of an axis

_Rule: TypeAlias = Callable[[Node, _Shapes], str]
_RULES: Rules[_Rule] = Rules()  # each returns why operands do not fit, or an empty string


def check_operands(node: Node, inputs: Sequence[TensorInfo | None]) -> None:
    """Check the operands of a node; raise ModelError if they do not fit each other."""
    if node.attributes:
        _check_integers(node)
        _check_windows(node)
    _check_indices(node, inputs)
    rule = _RULES.get(node.op_type) if not node.domain else None
    if rule is None or any(info is not None and info.shape is None for info in inputs):
        return
    shapes = [None if info is None else info.shape for info in inputs]
    reason = rule(node, shapes)
    if reason:
        listed = ", ".join("none" if shape is None else str(shape) for shape in shapes)
        raise ModelError(f"node {node.name!r} ({node.operator}) does not fit its inputs of shapes {listed}: {reason}")


def check_text_attributes(node: Node) -> None:
    """Check attributes with a syntax: ONNX's rule for Einsum never ends for some equations.

    Raises ModelError if the syntax is wrong.
    """
    if not node.is_op("Einsum"):
        return
    equation = node.attributes.get("equation")
    if not isinstance(equation, str) or len(equation) > _LONGEST_EQUATION or not _EQUATION.fullmatch(equation):
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has the equation {str(equation)[:80]!r}; letters with at most one "
            "'...' an operand, commas and one '->' are accepted, as in '...ij,jk->...ik'"
        )


def _check_integers(node: Node) -> None:
    """Refuse sizes and axes that do not fit into 32 bits: ONNX's rules truncate them."""
    for name, value in node.attributes.items():
        if name in _MAY_BE_ENDLESS:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not -(2**31) <= number < 2**31:
                raise ModelError(
                    f"node {node.name!r} ({node.operator}) has attribute {name} of {number}, which is absurd"
                )


def _check_windows(node: Node) -> None:
    """Refuse windows and pads beyond any image: runtimes pad, and walk over the padding, position by position."""
    if node not in WINDOWED:
        return
    dilations: Any = node.attributes.get("dilations", ())
    kernel: Any = node.attributes.get("kernel_shape", ())
    pads: Any = node.attributes.get("pads", ())
    widths = [size * step for size, step in itertools.zip_longest(kernel, dilations, fillvalue=1)]
    widest = max((*widths, *pads), default=0)
    if widest > _WIDEST_WINDOW:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has a window or padding of {widest:,} positions, "
            f"above the limit of {_WIDEST_WINDOW:,}"
        )


def _check_indices(node: Node, inputs: Sequence[TensorInfo | None]) -> None:
    """Refuse indices that are known and point outside: no runtime would run them."""
    if not node.is_op("Gather") or len(inputs) != 2 or inputs[0] is None or inputs[1] is None:
        return
    shape, indices, axis = inputs[0].shape, inputs[1].value, _integer(node, "axis", 0)
    if indices is None or not shape or not indices.size or not -len(shape) <= axis < len(shape):
        return
    lowest, highest, size = int(indices.min()), int(indices.max()), shape[axis]
    if lowest < -size or highest >= size:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) takes element {highest if highest >= size else lowest} "
            f"of an axis of {size}"
        )


def _integer(node: Node, name: str, default: int) -> int:
    value: Any = node.attributes.get(name, default)
    return int(value)


def _at(shapes: _Shapes, index: int) -> _Shape | None:
    return shapes[index] if index < len(shapes) else None


@_RULES.on("Conv", "ConvTranspose")
def _conv(node: Node, shapes: _Shapes) -> str:
    data, weight = _at(shapes, 0), _at(shapes, 1)
    groups = _integer(node, "group", 1)
    if data is None or weight is None or len(data) < 3 or len(data) != len(weight):
        return "input and weight need the same three or more axes"
    transposed = node.op_type == "ConvTranspose"
    channels = weight[0] if transposed else weight[1] * groups
    if groups < 1 or data[1] != channels or weight[0] % groups:
        return f"the weight takes {channels} channels in {groups} groups, but the input has {data[1]}"
    kernel: Any = node.attributes.get("kernel_shape", weight[2:])
    if tuple(kernel) != weight[2:]:
        return f"kernel_shape is {tuple(kernel)}"
    filters = weight[1] * groups if transposed else weight[0]
    bias = _at(shapes, 2)
    return "" if bias is None or bias == (filters,) else f"the bias needs {filters} elements"


@_RULES.on("InstanceNormalization")
def _per_channel(node: Node, shapes: _Shapes) -> str:
    data = _at(shapes, 0)
    if data is None or len(data) < 2:
        return "the input needs two or more axes"
    wrong = [shape for shape in shapes[1:] if shape != (data[1],)]
    return f"each vector needs {data[1]} elements" if wrong else ""


@_RULES.on("Gemm")
def _gemm(node: Node, shapes: _Shapes) -> str:
    left, right, bias = (_at(shapes, index) for index in range(3))
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return "two matrices are needed"
    rows = left[1 if _integer(node, "transA", 0) else 0]
    columns = right[0 if _integer(node, "transB", 0) else 1]
    return "" if bias is None or _broadcasts(bias, (rows, columns)) else "the bias does not fit the product"


def _broadcasts(shape: _Shape, target: _Shape) -> bool:
    aligned = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in aligned)


@_RULES.on("PRelu")
def _prelu(node: Node, shapes: _Shapes) -> str:
    data, slope = _at(shapes, 0), _at(shapes, 1)
    if node.version < 7 and data is not None and slope is not None and slope == data[1:2]:
        return ""  # one slope a channel, before PRelu broadcast from the right
    fits = data is not None and slope is not None and (_broadcasts(slope, data) or math.prod(slope) == 1)
    return "" if fits else "the slope does not broadcast to the input"


@_RULES.on(*RECURRENT)
def _recurrent(node: Node, shapes: _Shapes) -> str:
    data, weight, recurrence, bias = (_at(shapes, index) for index in range(4))
    if data is None or weight is None or recurrence is None or len(data) != 3:
        return "a sequence of three axes and two weights are needed"
    if len(recurrence) != 3:
        return "the recurrent weight needs three axes"
    hidden = recurrence[2]
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    rows = GATES[node.op_type] * hidden
    if weight != (directions, rows, data[2]) or recurrence != (directions, rows, hidden):
        return f"{directions} x {rows} x {data[2]} and {directions} x {rows} x {hidden} weights are needed"
    declared = _integer(node, "hidden_size", hidden)
    if declared != hidden:
        return f"hidden_size is {declared}"
    fits = bias is None or bias == (directions, 2 * rows)
    return "" if fits else f"the bias needs {directions} x {2 * rows} elements"


@_RULES.on("Transpose")
def _transpose(node: Node, shapes: _Shapes) -> str:
    order: Any = node.attributes.get("perm")
    rank = len(_at(shapes, 0) or ())
    return "" if order is None or len(order) == rank else f"perm has {len(order)} axes"


@_RULES.on("Split")
def _split(node: Node, shapes: _Shapes) -> str:
    parts = _integer(node, "num_outputs", len(node.outputs))
    return "" if parts == len(node.outputs) else f"num_outputs is {parts}, but there are {len(node.outputs)} outputs"


@_RULES.on("DepthToSpace", "SpaceToDepth")
def _blocks(node: Node, shapes: _Shapes) -> str:
    data, size = _at(shapes, 0), _integer(node, "blocksize", 1)
    if data is None or len(data) != 4:
        return "the input needs four axes"
    fits = data[1] % size**2 == 0 if node.op_type == "DepthToSpace" else data[2] % size == 0 and data[3] % size == 0
    return "" if fits else f"it does not divide into blocks of {size}"
