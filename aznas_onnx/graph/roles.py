"""What each float constant of a graph is: a weight, a bias, a normalisation vector, a position table, or fixed.

The question is answered by how the graph uses a constant, never by its name, because exporters rename: a
``nn.Linear`` weight arrives as the constant operand of a MatMul, a class token as one of the operands of a Concat.
Counting parameters and drawing random weights both build on this one answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np

from aznas_onnx.graph.evaluate import is_cheap
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Constant, Graph, Node

__all__ = ["MOVES_DATA", "Role", "Use", "is_table", "is_vector", "roles", "uses"]


class Role(str, enum.Enum):
    """What a float constant is to the operator that reads it."""

    CONV_WEIGHT = "convolution weight"
    LINEAR_WEIGHT = "linear weight"
    RECURRENT_WEIGHT = "recurrent weight"
    EMBEDDING = "embedding"  # a table that the input indexes
    BIAS = "bias"
    NORM_SCALE = "normalisation scale"
    NORM_SHIFT = "normalisation shift"
    NORM_MEAN = "running mean"
    NORM_VARIANCE = "running variance"
    POSITION = "position"  # position embedding, relative position table, class token
    SCALE = "scale"  # one factor a channel or head: layer scale, attention temperature
    SLOPE = "slope"  # of PReLU
    FIXED = "fixed"  # scalars, masks, coordinate and frequency tables, preprocessing

    @property
    def is_trainable(self) -> bool:
        """Whether an optimiser would update it."""
        return self not in (Role.NORM_MEAN, Role.NORM_VARIANCE, Role.FIXED)

    @property
    def is_weight(self) -> bool:
        """Whether it is the operand of multiply-adds."""
        return self in (Role.CONV_WEIGHT, Role.LINEAR_WEIGHT, Role.RECURRENT_WEIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One float constant of more than one element as one node reads it."""

    node: Node
    index: int
    name: str
    role: Role


# Operands whose role follows from their position.
_RECURRENT = {1: Role.RECURRENT_WEIGHT, 2: Role.RECURRENT_WEIGHT, 3: Role.BIAS, 7: Role.RECURRENT_WEIGHT}
_SCALE_AND_SHIFT = {1: Role.NORM_SCALE, 2: Role.NORM_SHIFT}
_BY_POSITION: Mapping[str, Mapping[int, Role]] = {
    "Conv": {1: Role.CONV_WEIGHT, 2: Role.BIAS},
    "ConvTranspose": {1: Role.CONV_WEIGHT, 2: Role.BIAS},
    "DeformConv": {1: Role.CONV_WEIGHT, 3: Role.BIAS},
    "CausalConvWithState": {1: Role.CONV_WEIGHT, 2: Role.BIAS},
    "Gemm": {0: Role.LINEAR_WEIGHT, 1: Role.LINEAR_WEIGHT, 2: Role.BIAS},
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "BatchNormalization": {**_SCALE_AND_SHIFT, 3: Role.NORM_MEAN, 4: Role.NORM_VARIANCE},
    "LayerNormalization": _SCALE_AND_SHIFT,
    "GroupNormalization": _SCALE_AND_SHIFT,
    "InstanceNormalization": _SCALE_AND_SHIFT,
    "RMSNormalization": {1: Role.NORM_SCALE},
    "PRelu": {1: Role.SLOPE},
    "Attention": {3: Role.POSITION},  # an additive mask, which is where a relative position table enters
    "Gather": {0: Role.EMBEDDING},
    "GatherND": {0: Role.EMBEDDING},
    "Concat": {},  # any position: see _role
}

MOVES_DATA = frozenset(
    "Expand Reshape Transpose Tile Slice Squeeze Unsqueeze Flatten Identity Cast CastLike Split".split()
)
"""Operators whose first operand arrives in the output unchanged but for its place."""

# A constant with so few distinct values, many times each, is a mask or a fixed filter. One distinct value is a weight
# that was never trained (or was blanked), so it says nothing.
_TABLE_VALUES = 8
_TABLE_READ_ELEMENTS = 2**22


def roles(graph: Graph, facts: Facts) -> Mapping[str, Role]:
    """Return the role of every float constant of more than one element that a node reads.

    A constant that several nodes read in different roles gets the first that is not :attr:`Role.FIXED`, in graph
    order; exporters store equal vectors once, so that the same ones may scale one normalisation and be the
    variance of another.
    """
    found: dict[str, Role] = {}
    for use in uses(graph, facts):
        if found.get(use.name, Role.FIXED) is Role.FIXED:
            found[use.name] = use.role
    return MappingProxyType(found)


def uses(graph: Graph, facts: Facts) -> Iterator[Use]:
    """Yield each use of a float constant of more than one element, in graph order.

    Parameters
    ----------
    graph
        In canonical form.
    facts
        Of that graph; small values are looked up there before a constant is read.
    """
    known = _uses.get(graph)
    if known is None:
        known = _uses[graph] = tuple(_uses_of_unknown(graph))
    for use in known:
        if use.role is Role.LINEAR_WEIGHT and facts.value(use.name) is not None and is_table(graph.constants[use.name]):
            yield replace(use, role=Role.FIXED)  # an averaging or permutation matrix
        else:
            yield use


# A graph is a value, and both who counts and who draws weights ask for its uses.
_uses: WeakKeyDictionary[Graph, tuple[Use, ...]] = WeakKeyDictionary()


def _uses_of_unknown(graph: Graph) -> Iterator[Use]:
    """Yield each use as it is where no small values are known."""
    analysis = _Analysis(graph)
    constants = dict(graph.constants)
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            constant = constants.get(name)
            if constant is not None and constant.is_float and constant.elements > 1:
                yield Use(node=node, index=index, name=name, role=analysis.role(node, index, constant))


def is_vector(constant: Constant) -> bool:
    """Whether a constant has one axis only, those of size one not counted."""
    return len(constant.shape) - constant.shape.count(1) == 1


def is_table(constant: Constant) -> bool:
    """Whether a constant is a mask or fixed filter by its values: from two to eight of them, eight times each or more.

    Constants that cannot be read, or are too large to, are not.
    """
    if not is_cheap(constant) or not 2 * _TABLE_VALUES <= constant.elements <= _TABLE_READ_ELEMENTS:
        return False
    assert constant.read is not None  # or it would not be cheap
    values = constant.read().reshape(-1)
    if np.unique(values[:1024]).size > _TABLE_VALUES:
        return False
    distinct = np.unique(values).size
    return 2 <= distinct <= min(_TABLE_VALUES, constant.elements // 8)


class _Analysis:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def _raw(self) -> frozenset[str]:
        return _raw_tensors(self._graph)

    def role(self, node: Node, index: int, constant: Constant) -> Role:
        role = self._role(node, index, constant, depth=0)
        if role is Role.POSITION and self._is_fixed(constant):
            return Role.FIXED
        if role is Role.CONV_WEIGHT and constant.shape[1] == 1 and is_table(constant):
            return Role.FIXED  # a blur or bilinear kernel, repeated for each channel
        return role

    def _is_fixed(self, constant: Constant) -> bool:
        """Whether a table was made by arithmetic on shapes and scalars, or is a mask."""
        roots = [self._graph.constants.get(name) for name in constant.sources]
        return all(root is not None and root.elements == 1 for root in roots) or is_table(constant)

    def _role(self, node: Node, index: int, constant: Constant, depth: int) -> Role:
        if node.unknown:  # whatever it does with them
            return Role.BIAS if is_vector(constant) else Role.LINEAR_WEIGHT
        if node.domain:
            return Role.FIXED
        if node.op_type in MOVES_DATA and index == 0:
            return self._role_of_reader(node, constant, depth)
        if node.op_type in _BY_POSITION:
            default = Role.POSITION if node.op_type == "Concat" else Role.FIXED
            return _BY_POSITION[node.op_type].get(index, default)
        if node.op_type == "MatMul":
            # Of two constants one is a layer's input: learned queries behind their copies for each sample.
            is_query = index == 0 and node.inputs[1] in self._graph.constants
            return Role.POSITION if is_query else Role.LINEAR_WEIGHT
        if node.op_type == "Einsum":
            return Role.SCALE if is_vector(constant) else Role.LINEAR_WEIGHT
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            return self._elementwise(node, index, constant)
        return Role.FIXED

    def _role_of_reader(self, node: Node, constant: Constant, depth: int) -> Role:
        """Return the role of a constant that reaches its reader through operators that only move it."""
        if depth > len(MOVES_DATA):
            return Role.FIXED
        for output in node.outputs:
            for reader in self._graph.consumers.get(output, ()):
                role = self._role(reader, reader.inputs.index(output), constant, depth + 1)
                if role is not Role.FIXED:
                    return role
        return Role.FIXED

    def _elementwise(self, node: Node, index: int, constant: Constant) -> Role:
        vector = is_vector(constant)
        other = node.inputs[1 - index]
        if vector and other in self._raw:
            return Role.FIXED  # preprocessing: mean and standard deviation of the colours
        if node.op_type == "Add":
            return Role.BIAS if vector else Role.POSITION
        if node.op_type == "Mul":
            # Larger factors are masks and the cosines of rotary positions.
            return Role.SCALE if vector else Role.FIXED
        return Role.NORM_MEAN if vector and index == 1 and node.op_type == "Sub" else Role.FIXED


def _raw_tensors(graph: Graph) -> frozenset[str]:
    """Return the tensors that are the graph's input still, but for elementwise arithmetic with constants."""
    raw = {value.name for value in graph.inputs}
    for node in graph.nodes:
        keeps = node.is_op("Add", "Sub", "Mul", "Div") or (not node.domain and node.op_type in MOVES_DATA)
        activations = list(graph.activations(node))
        if keeps and activations and all(name in raw for name in activations):
            raw.update(node.outputs)
    return frozenset(raw)
