"""Merge rows that an exporter repeated for each sample of a fixed batch.

A network exported at a batch of two has its class token expanded to two rows: by an Expand to a fixed shape, or in a
constant with the token twice. Computations on such rows alone (the embedding of a time step) are done twice, and their
results meet the samples two by two. Where these do not fit at another batch size, they are traced to the node that
repeats them, which then makes one row::

    Expand(t[1, 1], [2, 1]) -> MatMul -> Reshape [2, 16, 1, 1] -> Add(x[26, 16, 8, 8], .)      2 rows meet 26 samples
    Expand(t[1, 1], [1, 1]) -> MatMul -> Reshape [1, 16, 1, 1] -> Add(x[26, 16, 8, 8], .)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap
from aznas_onnx.operators import OPERATORS, Family, InputRole
from aznas_onnx.operators.sets import (
    BROADCASTING,
    KEEPS_VALUES,
    LAYER_NORMALIZATIONS,
    LINEAR,
    POINTWISE,
    REPEATS,
    RESHAPES,
)

__all__ = ["Rows", "with_one_row"]

_MOST_COMPARED = 2**22  # elements of a constant whose rows are compared
_MOST_TRACED = 500  # limit on tensors that are traced in one walk
_DEEPEST = 200  # nodes from what repeats a row to where it meets the samples; each takes two calls

_KEEPS_AXES = OPERATORS.where(lambda operator: operator in KEEPS_VALUES or operator in REPEATS)
# The offsets of DeformConv belong to one sample.
_WINDOWED = OPERATORS.where(lambda operator: operator.window and InputRole.INDICES not in operator.inputs)
_SAMPLE_BY_SAMPLE = OPERATORS.family(Family.GLOBAL_POOLING, Family.NORMALIZATION)


class Rows:
    """Traces rows that are equal to what repeats them.

    - `reference`: Infos at the file's own batch size.
    - `constants`: Of the walk in progress; read, never written.
    - `batch`: The file's own batch size, two or more.
    - `found`: Is given the tensors that repeat a row for each sample, and along which axis.
    """

    def __init__(
        self, reference: Mapping[str, TensorInfo], constants: Mapping[str, Constant], batch: int, found: dict[str, int]
    ) -> None:
        self._reference = reference
        self._constants = constants
        self._batch = batch
        self.found = found
        self._producers: dict[str, Node] = {}
        self._traced: dict[tuple[str, int], dict[str, int] | None] = {}
        self._depth = 0

    def add(self, node: Node) -> None:
        """Record a node of the walk."""
        self._producers.update(dict.fromkeys(node.outputs, node))

    def are_copies(self, name: str, axis: int) -> bool:
        """Whether the rows along an axis of a tensor are known to be equal; records the node that repeats them."""
        origins = self._origins(name, axis)
        self.found.update(origins or {})
        return origins is not None

    def _origins(self, name: str, axis: int) -> dict[str, int] | None:
        """Return the tensors that make the rows along an axis equal, and where; None where rows can differ.

        They are what repeats a row for each sample of the file's own batch.
        """
        if (name, axis) not in self._traced:
            self._traced[name, axis] = None  # also for a chain that is too long to follow
            if len(self._traced) <= _MOST_TRACED and self._depth < _DEEPEST:
                self._depth += 1
                self._traced[name, axis] = self._trace(name, axis)
                self._depth -= 1
        return self._traced[name, axis]

    def _trace(self, name: str, axis: int) -> dict[str, int] | None:
        shape = self._reference[name].shape if name in self._reference else None
        if shape is None or shape[axis] == 1:
            return {}
        if shape[axis] != self._batch:
            return None
        constant = self._constants.get(name)
        if constant is not None:
            return {name: axis} if _has_equal_rows(constant, axis) else None
        node = self._producers.get(name)
        if node is None or node.domain:
            return None
        found: dict[str, int] = {}
        if _repeats(node):
            sizes = self._reference.get(node.inputs[-1])
            if sizes is None or sizes.value is None:
                return None
            found[name] = axis
        for operand, place in self._operands_along(node, axis, shape):
            origins = self._origins(operand, place)
            if origins is None:
                return None
            found.update(origins)
        return found or None

    def _operands_along(self, node: Node, axis: int, shape: tuple[int, ...]) -> list[tuple[str, int]]:
        """Return the operands that an axis of a node's output comes from, with the axes that it is there."""
        if node.is_op("ConstantOfShape"):
            return []
        first = node.inputs[0]
        given = self._reference[first].shape or ()
        if node.is_op("Transpose"):
            order: Any = node.attributes.get("perm", tuple(range(len(shape)))[::-1])
            return [(first, order[axis])]
        if node in RESHAPES:
            outer = math.prod(shape[:axis])
            places = [at for at, size in enumerate(given) if size == shape[axis] and math.prod(given[:at]) == outer]
            return [(first, places[0])] if places else []
        if node.is_op("Gather"):
            return [_looked_up(node, axis, len(shape), len(given))]
        if node.is_op("Concat"):
            return [(name, axis) for name in node.inputs]
        if node in LINEAR:
            operands = [(node.inputs[0], 1), (node.inputs[1], 2)] if node.is_op("MatMul") else [(first, 1)]
            operands += [(name, 0) for name in node.inputs[2:] if name]
        elif node in BROADCASTING:
            operands = [(name, 0) for name in node.inputs if name]
        elif (
            node in POINTWISE
            or node in _KEEPS_AXES
            or node.is_op("Slice", "Split")
            or (axis == 0 and (node in _WINDOWED or node in _SAMPLE_BY_SAMPLE))
        ):
            operands = [(first, 0)]
        elif _is_along_the_last(node, len(shape)):
            operands = [(first, 1)]
        else:
            return []
        found = []
        for name, summed in operands:
            rank = len(self._reference[name].shape or ())
            place = axis - len(shape) + rank
            if 0 <= place < rank - summed:
                found.append((name, place))
        return found


def _is_along_the_last(node: Node, rank: int) -> bool:
    """Whether a node leaves rows equal along all axes but the last."""
    along_axis = node in LAYER_NORMALIZATIONS or node.is_op("Softmax")
    return along_axis and node.attributes.get("axis", -1) in (-1, rank - 1)


def _repeats(node: Node) -> bool:
    """Whether the last operand of a node has the number of rows."""
    return node in REPEATS or node.is_op("ConstantOfShape")


def _looked_up(node: Node, axis: int, rank: int, table_rank: int) -> tuple[str, int]:
    """Return the operand of a Gather that an axis of its result comes from, with the axis that it is there."""
    along: Any = node.attributes.get("axis", 0)
    start, chosen = along % table_rank, rank - table_rank + 1
    if start <= axis < start + chosen:
        return node.inputs[1], axis - start
    return node.inputs[0], axis if axis < start else axis - chosen + 1


def _has_equal_rows(constant: Constant, axis: int) -> bool:
    """Whether a constant has equal rows along an axis."""
    if constant.elements > _MOST_COMPARED or not is_cheap(constant):
        return False
    assert constant.read is not None  # or it would not be cheap
    values = constant.read()
    return bool((values == values.take([0], axis)).all())


def with_one_row(graph: Graph, infos: Mapping[str, TensorInfo], copies: Mapping[str, int]) -> Graph:
    """Return a graph in which tensors that repeat a row for each sample of the file's own batch have one.

    - `graph`, `infos`: At the file's own batch size.
    - `copies`: Found by repairs: constants, and results of Expand, Tile or ConstantOfShape, with the axis.
    """
    constants = dict(graph.constants)
    nodes = list(graph.nodes)
    for name, axis in copies.items():
        constant = constants.get(name)
        if constant is not None:
            constants[name] = _first_row(name, constant, axis)
    for place, node in enumerate(nodes):
        axis = copies.get(node.outputs[0], -1) if _repeats(node) else -1
        sizes = infos[node.inputs[-1]].value if axis >= 0 else None
        if sizes is not None:
            target = sizes.reshape(-1).copy()
            target[axis - len(infos[node.outputs[0]].shape or ()) + target.size] = 1
            operand = f"{node.name}/one row"
            constants[operand] = Constant.of(target)
            nodes[place] = replace(node, inputs=(*node.inputs[:-1], operand))
    return replace(graph, nodes=tuple(nodes), constants=MappingProxyType(constants))


def _first_row(name: str, constant: Constant, axis: int) -> Constant:
    assert constant.read is not None  # its rows were compared
    row = constant.read().take([0], axis)
    return replace(Constant.of(row), sources=constant.sources, origin=constant.origin)
