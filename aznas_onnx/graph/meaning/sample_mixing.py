"""Test whether an operator mixes values along an axis: such an axis is not the batch.

A network processes the samples of a batch separately. An axis is therefore not the batch if an operator sums,
normalises, runs or selects along it. Two walks with two sizes of that axis show its place in each tensor; the effect of
an operator along an axis follows from its definition::

    x (20, 2, 32)       20 -> 260: LSTM runs along axis 0       not the batch
                         2 ->  26: every node separates it      the batch

Some evidence is certain. Other evidence is only a reason to prefer another axis: a loss and a contrastive head compare
samples, and unfused batch normalisation in training mode averages over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.operators import OPERATORS, Family, InputRole, Rules
from aznas_onnx.operators.sets import (
    CONVOLUTIONS,
    GLOBAL_POOLS,
    LAYER_NORMALIZATIONS,
    LAYERS,
    RECURRENT,
    REDUCTIONS,
    SHAPE_QUERIES,
)

__all__ = ["Mixing", "find_mixing", "named_rows"]

# Operators whose second operand names places in the first.
_INDEXED = OPERATORS.where(
    lambda operator: operator.family is Family.INDEXING and operator.inputs[1:2] == (InputRole.INDICES,)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """A node that mixes the slices of an axis.

    - `text`: The node and its effect on the axis.
    - `is_certain`: Whether no network does this with samples.
    """

    text: str
    is_certain: bool


def find_mixing(
    graph: Graph, before: Mapping[str, TensorInfo], after: Mapping[str, TensorInfo], sizes: tuple[int, int]
) -> Mixing | None:
    """Return the strongest evidence that an axis is not the batch.

    - `graph`: With control flow resolved.
    - `before`, `after`: Infos of two walks that differ in the size of this axis alone. The second can be incomplete.
    - `sizes`: Of the axis in the first and in the second walk.

    Returns: None where every reached node separates the slices of the axis.
    """
    found = None
    search = _MixingSearch(graph, before, after, sizes)
    for node in graph.nodes:
        evidence = search.evidence(node)
        if evidence is not None and evidence.is_certain:
            return evidence
        found = found or evidence
    return found


def named_rows(graph: Graph, infos: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Return the inputs of integers that name rows of computed tensors, and how many rows the fewest of these have."""
    roots = {value.name: value.name for value in graph.inputs if value.dtype.kind in "iu"}
    computed = {value.name for value in graph.inputs if value.dtype.kind == "f"}
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node in _INDEXED and not computed.isdisjoint(node.inputs):
            root, rows = roots.get(node.inputs[1]), _rows(node, infos)
            if root is not None and rows:
                found[root] = min(rows, found.get(root, rows))
        if node in SHAPE_QUERIES:
            continue
        if not computed.isdisjoint(node.inputs):
            computed.update(node.outputs)
        else:
            read = [roots[name] for name in node.inputs if name in roots]
            roots.update(dict.fromkeys(node.outputs, read[0]) if read else {})
    return found


def _rows(node: Node, infos: Mapping[str, TensorInfo]) -> int:
    """Return how many rows a node chooses among or writes to, along the axis of the fewest; 0 where that is unknown."""
    data, index = (infos[name].shape if name in infos else None for name in node.inputs[:2])
    if not data or index is None:
        return 0
    if node.is_op("GatherND", "ScatterND"):
        return min(data[: index[-1]], default=0) if index else 0
    axis: Any = node.attributes.get("axis", 0)
    return int(data[axis])


class _MixingSearch:
    def __init__(
        self, graph: Graph, before: Mapping[str, TensorInfo], after: Mapping[str, TensorInfo], sizes: tuple[int, int]
    ) -> None:
        self._graph = graph
        self._before = before
        self._after = after
        self._sizes = sizes
        self._chosen = {value.name for value in graph.inputs if value.dtype.kind in "iu"}
        self._computed = {value.name for value in graph.inputs if value.dtype.kind == "f"}
        self._loses = not any(map(self.follows, graph.outputs))

    def evidence(self, node: Node) -> Mixing | None:
        """Return the effect of a node on the axis; nodes must be in topological order."""
        self._trace(node)
        if node in SHAPE_QUERIES or not any(map(self.follows, node.inputs)):
            return None
        rule = _RULES.get(node.op_type) if node.is_standard else None
        effect = None if rule is None else rule(self, node)
        if effect is not None:
            what, is_certain = effect
            return Mixing(text=f"node {node.name!r} ({node.operator}) {what}", is_certain=is_certain)
        return self._by_growth(node)

    def _trace(self, node: Node) -> None:
        """Record the tensors computed from the samples, and those from integer inputs only."""
        if node in SHAPE_QUERIES:
            return
        if not self._computed.isdisjoint(node.inputs):
            self._computed.update(node.outputs)
        elif not self._chosen.isdisjoint(node.inputs):
            self._chosen.update(node.outputs)

    def follows(self, name: str) -> bool:
        """Whether a tensor's size follows the axis."""
        before, after = self._before.get(name), self._after.get(name)
        return before is not None and after is not None and before.shape != after.shape

    def rank(self, name: str) -> int:
        """Return the number of a tensor's axes."""
        return len(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor in the first walk; empty where it is not known."""
        info = self._before.get(name)
        return () if info is None or info.shape is None else info.shape

    def has(self, name: str, axis: int) -> bool:
        """Whether an axis of a tensor, counted from either end, is this one, alone."""
        return any(axis in (place, place - self.rank(name)) for place in self.axes(name))

    def axes(self, name: str) -> tuple[int, ...]:
        """Return the axes of a tensor that are this one, alone."""
        before, after = self._before.get(name), self._after.get(name)
        if before is None or after is None or before.shape is None or after.shape is None:
            return ()
        pairs = enumerate(zip(before.shape, after.shape, strict=False))
        return tuple(axis for axis, pair in pairs if pair == self._sizes)

    def integers(self, node: Node, attribute: str, index: int) -> list[int] | None:
        """Return a list of integers that is an attribute in old versions and an operand in newer ones."""
        given: Any = node.attributes.get(attribute)
        if given is not None:
            return list(given) if isinstance(given, tuple) else [given]
        info = self._before.get(node.input(index)) if node.input(index) else None
        return None if info is None or info.value is None else [int(value) for value in info.value.reshape(-1)]

    def leads_to_weights(self, node: Node) -> bool:
        """Whether a node with weights reads the output of a node, directly or not."""
        reached = set(node.outputs)
        for other in self._graph.nodes:
            if reached.isdisjoint(other.inputs):
                continue
            if (other in LAYERS or other.is_op("Attention")) and any(self._is_weight(name) for name in other.inputs):
                return True
            reached.update(other.outputs)
        return False

    def _is_weight(self, name: str) -> bool:
        constant = self._graph.constants.get(name)
        return constant is not None and constant.is_float and sum(size > 1 for size in constant.shape) > 1

    @property
    def loses(self) -> bool:
        """Whether no output follows the axis."""
        return self._loses

    def is_chosen(self, name: str) -> bool:
        """Whether a tensor of indices comes from inputs of integers alone."""
        return name in self._chosen and name not in self._computed

    def constant_elements(self, name: str) -> int:
        """Return how many elements an index has that does not follow the axis and is known; 0 where it is not."""
        info = self._after.get(name)
        return 0 if info is None or info.value is None or self.follows(name) else info.elements

    def _by_growth(self, node: Node) -> Mixing | None:
        before, after = self._sizes
        label = f"node {node.name!r} ({node.operator})"
        outputs = [name for name in node.outputs if name in self._after]
        for name in outputs:
            first, second = self._before[name].shape or (), self._after[name].shape or ()
            if any(b * after != a * before for b, a in zip(first, second, strict=False) if b != a):
                return Mixing(text=f"{label} makes a size that is no multiple of it", is_certain=False)
            if len(self.axes(name)) > 1 and all(len(self.axes(operand)) < 2 for operand in node.inputs):
                return Mixing(text=f"{label} makes pairs of it", is_certain=False)
        if outputs and not any(map(self.follows, outputs)):
            return Mixing(text=f"{label} gives the same result size for every size of it", is_certain=False)
        return None


_Told: TypeAlias = "tuple[str, bool] | None"
_Rule: TypeAlias = Callable[[_MixingSearch, Node], _Told]
_RULES: Rules[_Rule] = Rules()  # every operator that can mix what stands along one axis of an operand


@_RULES.on(*RECURRENT)
def _recurrent(search: _MixingSearch, node: Node) -> _Told:
    time = 1 if node.attributes.get("layout", 0) else 0
    return (f"runs along axis {time}", True) if time in search.axes(node.inputs[0]) else None


@_RULES.on("Softmax", "LogSoftmax")
def _softmax(search: _MixingSearch, node: Node) -> _Told:
    """Before version 13, all axes from one on were normalised together."""
    if node.version < 13:
        return _from_axis(search, node, 1)
    axis: Any = node.attributes.get("axis", -1)
    met = search.has(node.inputs[0], axis)
    return (f"normalises along axis {axis}", search.leads_to_weights(node)) if met else None


@_RULES.on(*LAYER_NORMALIZATIONS)
def _layer(search: _MixingSearch, node: Node) -> _Told:
    return _from_axis(search, node, -1)


def _from_axis(search: _MixingSearch, node: Node, default: int) -> _Told:
    axis: Any = node.attributes.get("axis", default)
    first = axis + search.rank(node.inputs[0]) if axis < 0 else axis
    met = [place for place in search.axes(node.inputs[0]) if place >= first]
    return (f"normalises along axis {met[0]}", search.leads_to_weights(node)) if met else None


@_RULES.on("InstanceNormalization", "GroupNormalization", *GLOBAL_POOLS)
def _positions(search: _MixingSearch, node: Node) -> _Told:
    """Normalisation and pooling over all axes behind the channels."""
    met = [place for place in search.axes(node.inputs[0]) if place > 1]
    return (f"computes over axis {met[0]}", False) if met else None


@_RULES.on("CumSum", "CumProd", "TopK", "ArgMax", "ArgMin", "LpNormalization", "Hardmax")
def _along_one_axis(search: _MixingSearch, node: Node) -> _Told:
    axis: Any = node.attributes.get("axis", 0 if node.is_op("ArgMax", "ArgMin") else -1)
    if node.is_op("CumSum", "CumProd"):
        axis = next(iter(search.integers(node, "axis", 1) or ()), 0)
    return (f"computes along axis {axis}", False) if search.has(node.inputs[0], axis) else None


@_RULES.on(*REDUCTIONS)
def _reduce(search: _MixingSearch, node: Node) -> _Told:
    """A reduced output can be a loss, and a reduced and broadcast tensor the mean of a batch."""
    axes, shape = search.integers(node, "axes", 1), search.shape(node.inputs[0])
    if not axes and (node.attributes.get("noop_with_empty_axes", 0) or (node.input(1) and axes is None)):
        return None
    reduced = {axis % len(shape) for axis in axes} if axes else set(range(len(shape)))
    met = sorted(reduced.intersection(search.axes(node.inputs[0])))
    keeps_some = any(size > 1 for axis, size in enumerate(shape) if axis not in reduced)
    return (f"reduces axis {met[0]}", search.loses and keeps_some and shape[met[0]] > 1) if met else None


def _summed(search: _MixingSearch, name: str, axis: int) -> _Told:
    return (f"sums over axis {axis} of {name!r}", True) if axis in search.axes(name) else None


@_RULES.on("MatMul")
def _matmul(search: _MixingSearch, node: Node) -> _Told:
    left, right = node.inputs
    rank = search.rank(right)
    return _summed(search, left, search.rank(left) - 1) or _summed(search, right, rank - 2 if rank > 1 else 0)


@_RULES.on("Gemm")
def _gemm(search: _MixingSearch, node: Node) -> _Told:
    left, right = node.inputs[:2]
    return _summed(search, left, 0 if node.attributes.get("transA", 0) else 1) or _summed(
        search, right, 1 if node.attributes.get("transB", 0) else 0
    )


@_RULES.on("Einsum")
def _einsum(search: _MixingSearch, node: Node) -> _Told:
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if not arrow or "." in equation:
        return None
    for term, name in zip(terms.split(","), node.inputs, strict=False):
        for axis in search.axes(name):
            if axis < len(term) and term[axis] not in result:
                return _summed(search, name, axis)
    return None


@_RULES.on(*CONVOLUTIONS)
def _convolution(search: _MixingSearch, node: Node) -> _Told:
    axes, kernel = search.axes(node.inputs[0]), search.shape(node.input(1))[2:]
    if 1 in axes:
        return _summed(search, node.inputs[0], 1)
    met = [axis for axis in axes if 1 < axis < len(kernel) + 2 and kernel[axis - 2] > 1]
    return (f"mixes neighbours along axis {met[0]}", True) if met else None


@_RULES.on("Attention")
def _attention(search: _MixingSearch, node: Node) -> _Told:
    met = [axis for name in node.inputs[:3] if name for axis in search.axes(name) if axis > 0]
    return (f"attends along axis {met[0]}", True) if met else None


def _picks(search: _MixingSearch, node: Node, axis: int, index: str) -> _Told:
    """Selection along an axis by an index that is an input, or equal at every batch size."""
    if search.is_chosen(index):
        return f"chooses along axis {axis} by {index!r}", True
    several = search.constant_elements(index) > 1
    return f"chooses along axis {axis}", several and search.leads_to_weights(node)


@_RULES.on("Gather", "GatherElements")
def _gather(search: _MixingSearch, node: Node) -> _Told:
    axis: Any = node.attributes.get("axis", 0)
    met = search.has(node.inputs[0], axis) and not search.follows(node.inputs[1])
    return _picks(search, node, axis, node.inputs[1]) if met else None


@_RULES.on("GatherND")
def _gather_nd(search: _MixingSearch, node: Node) -> _Told:
    first: Any = node.attributes.get("batch_dims", 0)
    indexed = range(first, first + (search.shape(node.inputs[1]) or (0,))[-1])
    met = [axis for axis in search.axes(node.inputs[0]) if axis in indexed]
    return _picks(search, node, met[0], node.inputs[1]) if met and not search.follows(node.inputs[1]) else None


@_RULES.on("Scatter", "ScatterND", "ScatterElements")
def _scatter(search: _MixingSearch, node: Node) -> _Told:
    data, index = node.inputs[:2]
    axis: Any = node.attributes.get("axis", 0)
    indexed = range((search.shape(index) or (0,))[-1]) if node.is_op("ScatterND") else (axis,)
    met = any(search.has(data, place) for place in indexed) and search.is_chosen(index)
    return (f"writes along axis {indexed[0]} by {index!r}", True) if met else None
