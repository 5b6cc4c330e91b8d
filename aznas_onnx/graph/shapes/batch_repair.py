"""The nodes that take the place of one node, so that it follows the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Constant, Node

__all__ = ["Repair"]

_SLICE_OF_TENSORS = 10  # the version from which on Slice takes its bounds as operands


@dataclass(slots=True)
class Repair:
    """Nodes that take the place of `node`, and the constants that they need; their names begin with its name."""

    node: Node
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)

    def vector(self, label: str, values: Sequence[int]) -> str:
        """Add an int64 vector and return its name."""
        name = f"{self.node.name}/{label}"
        self.constants[name] = Constant.of(np.array(values, dtype=np.int64))
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node at the opset version of the replaced one and return its output."""
        self.nodes.append(
            Node(op_type=op_type, version=self.node.version, name=output, inputs=tuple(inputs), outputs=(output,),
                 attributes=MappingProxyType(attributes))
        )  # fmt: skip
        return output

    def update(self, **changes: Any) -> Repair:
        """Add the node itself with changed fields, and return this repair."""
        self.nodes.append(replace(self.node, **changes))
        return self

    def tile(
        self, label: str, name: str, shape: Sequence[int], target: str, output: str, *, has_several_rows: bool = False
    ) -> str:
        """Add a repetition of tensor `name` of a known shape up to a target shape, cut to it where it does not fit."""
        prefix = f"{self.node.name}/{label}"
        size = self.vector(f"{label}/divisor", shape)
        if not has_several_rows or self.node.version < _SLICE_OF_TENSORS:
            return self.add("Tile", [name, self.add("Div", [target, size], f"{prefix}/repeats")], output)
        padding = self.vector(f"{label}/padding", [length - 1 for length in shape])
        padded = self.add("Add", [target, padding], f"{prefix}/padded")
        repeats = self.add("Div", [padded, size], f"{prefix}/repeats")
        tiled = self.add("Tile", [name, repeats], f"{prefix}/tiled")
        return self.add("Slice", [tiled, self.vector(f"{label}/starts", [0] * len(shape)), target], output)

    def shape_with_batch(self, label: str, values: Sequence[int], axis: int, like: str, like_axis: int) -> str:
        """Add a shape vector that has the size of axis `like_axis` of tensor `like` in place of `values[axis]`."""
        prefix = f"{self.node.name}/{label}"
        shape = self.add("Shape", [like], f"{prefix}/shape")
        index = self.vector(f"{label}/axis", [like_axis])
        parts = [self.add("Gather", [shape, index], f"{prefix}/size", axis=0)]
        if axis > 0:
            parts.insert(0, self.vector(f"{label}/before", values[:axis]))
        if axis + 1 < len(values):
            parts.append(self.vector(f"{label}/after", values[axis + 1 :]))
        return self.add("Concat", parts, f"{prefix}/target", axis=0)
