"""Fold constants and drop no-ops and dead nodes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from aznas_onnx.graph.constants.content import read_at
from aznas_onnx.graph.constants.provenance import Provenance
from aznas_onnx.graph.ir.graph import Array, Constant, FoldedFrom, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.ir.toposort import live_nodes
from aznas_onnx.graph.shapes.constant_evaluation import Deferred, is_cheap
from aznas_onnx.limits import spend
from aznas_onnx.operators import OPERATORS, Family, InputRole, Movement, Operator
from aznas_onnx.operators.sets import KEEPS_VALUES

__all__ = ["fold"]

_BLANK_ELEMENTS = 2**20  # larger constants are not read
_MATRIX_ELEMENTS = 2**26
_FEW = 64  # numbers that distinguish an initialised or trained matrix from a blank one
# Dropout is off while a network is scored, so what it makes of a constant is one.
_SAMPLES = OPERATORS.where(lambda operator: operator.random and operator not in KEEPS_VALUES)


def _carries_data(operator: Operator) -> bool:
    """Whether the other operands only select or scale the first: a folded weight is the parameter it was made from.

    Identity of a parameter is another parameter.
    """
    if operator.movement in (Movement.SAME, Movement.JOINS, Movement.WRITES) or operator.elementwise:
        return False
    moves = operator.movement is not Movement.NONE or operator.family is Family.RESAMPLING
    return (moves and InputRole.DATA not in operator.inputs[1:]) or InputRole.STEP in operator.inputs[1:2]


_DATA_OPERAND = OPERATORS.where(_carries_data)


def fold(
    graph: Graph, *walks: TensorInfos, protected: Collection[str] = (), keeps_layers: bool = False
) -> tuple[Graph, TensorInfos]:
    """Fold a graph.

    - `graph`: With control flow resolved.
    - `walks`: Infos of `graph` at one or more batch sizes. A value is folded if it is the same in all of them; with one
      walk, everything that follows from its batch size is folded too.
    - `protected`: Tensors with a fixed name and node (declared blocks); the graph's outputs always have both.
    - `keeps_layers`: Whether computations on copies of trained constants stay: after folding at two batch sizes these
      are learned queries and states for each sample, whose layers are initialised and run like any others.

    - Returns `graph`: Every remaining node reads at least one tensor that depends on the input or on the batch size.
      Its constants are those that a node reads, and their roots.
    - Returns `infos`: The first walk's infos of the remaining tensors.
    """
    wanted = {*protected, *graph.outputs}
    nodes: Sequence[Node] = graph.nodes
    constants = graph.constants
    if not _computes_throughout(graph, walks[0], wanted):
        folding = _Folding(graph, walks, wanted, keeps_layers=keeps_layers)
        for node in graph.nodes:
            folding.visit(node)
        nodes, constants = live_nodes(folding.nodes, wanted), folding.constants
    used = {name for node in nodes for name in node.inputs} | wanted
    if nodes is graph.nodes and used.issuperset(constants):
        return graph, walks[0]
    roots = {source for name in used if name in constants for source in constants[name].sources}
    kept = {name: constant for name, constant in constants.items() if name in used or name in roots}
    folded = replace(graph, nodes=tuple(nodes), constants=MappingProxyType(kept))
    return folded, _restrict(folded, walks[0], keeps_layers=keeps_layers)


def _computes_throughout(graph: Graph, infos: TensorInfos, wanted: Collection[str]) -> bool:
    """Whether every node computes on the input something that is read, and none passes its input on unchanged."""
    read = {name for node in graph.nodes for name in node.inputs}
    read.update(wanted)
    fixed = {"", *graph.constants}
    computed = {name for name, info in infos.items() if info.value is None and name in read}
    return all(
        node not in KEEPS_VALUES and not fixed.issuperset(node.inputs) and computed.issuperset(node.outputs)
        for node in graph.nodes
    )


def _restrict(graph: Graph, infos: TensorInfos, *, keeps_layers: bool) -> TensorInfos:
    names = {value.name for value in graph.inputs} | {name for node in graph.nodes for name in node.outputs if name}
    kept = {name: infos[name] for name in names}
    if keeps_layers:  # with initialised weights, the output of a layer on a constant differs from the file's
        kept = {
            name: TensorInfo(info.shape, info.dtype) if info.dtype.kind == "f" else info for name, info in kept.items()
        }
    for name, constant in graph.constants.items():
        known = infos.get(name)
        if known is not None and known.shape == constant.shape and known.dtype == constant.dtype:
            kept[name] = known
        else:
            kept[name] = TensorInfo(constant.shape, constant.dtype, None if known is None else known.value)
    return TensorInfos(kept, infos.batch_size)


class _Folding:
    def __init__(self, graph: Graph, walks: Sequence[TensorInfos], protected: set[str], *, keeps_layers: bool) -> None:
        self.constants = dict(graph.constants)
        self._keeps_layers = keeps_layers
        self._layered: set[str] = set()  # outputs of nodes that stay although they read constants
        self._roots = {
            name for name, constant in graph.constants.items() if constant.is_float and constant.elements > 1
        }
        self.nodes: list[Node] = []
        self._walks = walks
        self._provenance = Provenance(graph)
        self._protected = protected
        self._alias: dict[str, str] = {}

    def visit(self, node: Node) -> None:
        spend(node, 1 + len(node.inputs) + len(node.outputs))
        node = self._resolved(node)
        if node.is_op("Identity") and node.outputs[0] not in self._protected and self._is_shared(node.inputs[0]):
            self._alias[node.outputs[0]] = node.inputs[0]
            return
        if self._keeps_layers and self._is_layer(node):
            self.nodes.append(node)
            self._layered.update(node.outputs)
            return
        if all(self._fold_value(node, name) for name in node.outputs if name):
            return
        if self._is_constant(node):
            self._fold_symbolically(node)
            return
        if _is_no_op(node, self._walks[0]) and node.outputs[0] not in self._protected:
            self._alias[node.outputs[0]] = node.inputs[0]
            return
        self.nodes.append(node)

    def _is_layer(self, node: Node) -> bool:
        """Whether a node computes on trained floats, or on floats computed from such."""
        if node in _DATA_OPERAND or self._walks[0][node.outputs[0]].dtype.kind != "f":
            return not self._layered.isdisjoint(node.inputs[:1])
        read = [self.constants[name] for name in node.inputs if name in self.constants]
        trained = any(one.is_float and not self._roots.isdisjoint(one.sources) for one in read)
        return trained or not self._layered.isdisjoint(node.inputs)

    def _resolved(self, node: Node) -> Node:
        if self._alias.keys().isdisjoint(node.inputs):
            return node
        inputs = tuple(self._alias.get(name, name) for name in node.inputs)
        return replace(node, inputs=inputs)

    def _sources(self, node: Node) -> frozenset[str]:
        names = node.inputs[:1] if node in _DATA_OPERAND else node.inputs
        if node.op_type in ("ScatterND", "ScatterElements") and self._is_blank(node.inputs[0]):
            names = node.inputs[2:3]
        constants = [self.constants[name] for name in names if name in self.constants]
        found = frozenset[str]().union(*(c.sources for c in constants if c.is_float or node in _DATA_OPERAND))
        # Identity of an initialiser is how the TorchScript exporter stores equal but separate parameters, and
        # ConstantOfShape how the zoo's abridged graphs do. Other tables come from shapes alone and are not trained.
        is_root = node.op_type == "ConstantOfShape" or (node.op_type == "Identity" and found == {node.inputs[0]})
        return frozenset({node.outputs[0]}) if is_root else found

    def _is_shared(self, name: str) -> bool:
        """Whether a constant is a matrix of different numbers: two that are equal are one, which two layers have."""
        constant = self.constants.get(name)
        if constant is None or sum(size > 1 for size in constant.shape) < 2 or constant.elements > _MATRIX_ELEMENTS:
            return False
        if self._provenance.holds_clones:
            return False
        first = read_at(constant, range(min(_FEW, constant.elements)), _MATRIX_ELEMENTS)
        return first is not None and np.unique(first).size > _FEW // 2

    def _is_blank(self, name: str) -> bool:
        """Whether all elements of a constant are equal: memory that was allocated for assignments."""
        constant = self.constants.get(name)
        if constant is None or constant.elements > _BLANK_ELEMENTS or not is_cheap(constant):
            return False
        assert constant.read is not None  # or it would not be cheap
        values = constant.read().reshape(-1)
        return values.size > 0 and bool((values == values[0]).all())

    def _fold_value(self, node: Node, name: str) -> bool:
        first = self._walks[0].value(name)
        if first is None or node in _SAMPLES:
            return False
        others = (walk.value(name) for walk in self._walks[1:])
        if not all(value is not None and _same(first, value) for value in others):
            return False
        self.constants[name] = Constant.of(first, self._sources(node), self._origin(node))
        return True

    def _origin(self, node: Node) -> FoldedFrom:
        return FoldedFrom(node=node, inputs=tuple(self.constants.get(name) for name in node.inputs))

    def _is_constant(self, node: Node) -> bool:
        if node in _SAMPLES or not node.inputs:
            return False
        if not all(name in self.constants for name in node.inputs if name):
            return False
        return all(self._same_shape(name) for name in node.outputs if name)

    def _same_shape(self, name: str) -> bool:
        """Whether a tensor's shape is known and does not follow the batch."""
        shapes = [walk[name].shape for walk in self._walks]
        return shapes[0] is not None and all(shape == shapes[0] for shape in shapes)

    def _fold_symbolically(self, node: Node) -> None:
        """Make constants of known shape whose data is computed on request."""
        origin = self._origin(node)
        inputs = origin.inputs
        readable = all(constant is None or constant.read is not None for constant in inputs)
        sources = self._sources(node)
        for index, name in enumerate(node.outputs):
            if name:
                info = self._walks[0][name]
                assert info.shape is not None  # checked by _same_shape
                read = Deferred.of(node, inputs, index, info.elements) if readable else None
                self.constants[name] = Constant(
                    shape=info.shape, dtype=info.dtype, read=read, sources=sources, origin=origin
                )


def _same(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))


def _is_no_op(node: Node, infos: TensorInfos) -> bool:
    """Whether a node passes its first input on unchanged when the network is scored."""
    if node.domain or not node.inputs:
        return False
    if node.op_type in ("Cast", "CastLike"):
        return infos[node.inputs[0]].dtype == infos[node.outputs[0]].dtype
    if node.op_type == "Dropout":
        return len(node.outputs) < 2 or not node.outputs[1]
    return node.op_type == "Identity"
