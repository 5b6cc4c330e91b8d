"""The typed graph.

A :class:`Graph` is a value: rewrites return a new one. Tensors are named by strings, as in ONNX, and their
shapes and known constants live beside the graph in `TensorInfos`, because they depend
on the batch size while the graph does not.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "AttributeValue",
    "Constant",
    "Graph",
    "GraphInput",
    "LookUp",
    "Node",
    "FoldedFrom",
    "Storage",
    "type_fingerprint",
]

Array: TypeAlias = npt.NDArray[Any]
AttributeValue: TypeAlias = "int | float | str | bytes | Array | tuple[Any, ...] | Graph"


def type_fingerprint(value: Any) -> object:
    """Return a fingerprint that distinguishes equal attributes of different type or sign: 1 and 1.0, 0.0 and -0.0."""
    if isinstance(value, tuple):
        return tuple(map(type_fingerprint, value))
    return (float, math.copysign(1.0, value)) if type(value) is float else type(value)


_NO_ATTRIBUTES: Mapping[str, AttributeValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One operation.

    - `op_type`, `domain`, `version`: Operator, its domain (``""`` is ai.onnx) and the opset version of that domain that
      gives it its meaning.
    - `inputs`, `outputs`: Tensor names; ``""`` is an omitted optional input or output.
    - `attributes`: Plain Python values: integers, floats, strings, numpy arrays for tensors, tuples for lists, and
      :class:`Graph` for the branches of control flow.
    - `name`: Unique in its graph; used in messages and to break ties, never to decide what a node means.
    - `unknown`: The reason why its outputs are unknown: an operator that ONNX does not have, or data-dependent control
      flow. Empty for all other nodes.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    version: int
    name: str
    domain: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: _NO_ATTRIBUTES)
    unknown: str = ""

    def input(self, index: int) -> str:
        """Return the name of input `index`, or ``""`` where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def is_standard(self) -> bool:
        """Whether ONNX itself defines the operator and has checked its inputs, so that a rule can rely on them."""
        return not self.domain and not self.unknown

    @property
    def operator(self) -> str:
        """Operator with its domain, as messages print it: ``Conv`` or ``com.microsoft::FusedConv``."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    def is_op(self, *op_types: str) -> bool:
        """Whether this is one of `op_types` of the standard ONNX domain."""
        return not self.domain and self.op_type in op_types


class Storage(enum.Enum):
    """Where a file stores a constant. Some exporters store weights in one place and other constants in another."""

    FILE = "file"  # where it stores all constants
    INITIALISER = "initialiser"
    NODE = "node"  # a Constant node, in a file that stores weights as initialisers
    NOWHERE = "nowhere"  # made while the graph was rewritten, and no parameter


class _Referable:
    """Has weak references: a cache can end with the object that it is of."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(_Referable):
    """A tensor that does not depend on the model's input.

    The data is read on request only: scoring initialises the weights itself, so those of a file are usually not read.

    - `shape`, `dtype`: Always known.
    - `read`: Returns the data as an array of that shape and dtype, or None where only the shape is known.
    - `sources`: Root constants of the file (initialisers, Constant nodes) that this one was computed from, itself
      included if it is one. Parameters are found among these.
    - `origin`: The node that it was folded from; None for a constant of the file.
    - `storage`: Where the file stores it; None for computed constants and for restored parameters.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array] | None = None
    sources: frozenset[str] = frozenset()
    origin: FoldedFrom | None = None
    storage: Storage | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the dtype is a floating-point type (bfloat16 and float8 included)."""
        kind = self.dtype.kind
        return kind == "f" or (kind not in "iub" and "float" in self.dtype.name)

    @classmethod
    def of(cls, array: Array, sources: frozenset[str] = frozenset(), origin: FoldedFrom | None = None) -> Constant:
        """Wrap an array."""
        return cls(shape=tuple(array.shape), dtype=array.dtype, read=lambda: array, sources=sources, origin=origin)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldedFrom:
    """A node that was folded, with the constants that it read; None where an input is omitted or is not among them."""

    node: Node
    inputs: tuple[Constant | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """A look-up of integer ids in a table, which a float input replaces.

    - `node`, `ids`, `table`: Names of the node, the input and the constant.
    - `constant`: The table itself.
    """

    node: str
    ids: str
    table: str
    constant: Constant

    @property
    def rows(self) -> int:
        """How many different ids there are."""
        return self.constant.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInput:
    """An input of the graph: its name, dtype and declared shape.

    A dimension is an integer, a symbol, or None where the file has neither; the shape is None where the rank is
    unknown. An input that replaces a look-up has the shape of the ids and one more axis. A value from the user is known
    in all walks, repeated over the axes that it lacks.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None
    replaces: LookUp | None = None
    value: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A model's dataflow: nodes in topological order, each tensor name assigned once."""

    name: str
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each tensor."""
        return MappingProxyType({out: node for node in self.nodes for out in node.outputs if out})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in graph order; unread tensors are absent."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return MappingProxyType({name: tuple(nodes) for name, nodes in found.items()})

    def activations(self, node: Node) -> Iterator[str]:
        """Yield the inputs of `node` that depend on the graph's input (constants and omitted ones left out)."""
        for name in node.inputs:
            if name and name not in self.constants:
                yield name
