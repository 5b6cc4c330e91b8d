"""Build the nodes that replace one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.rule import Declined
from aznas_onnx.operators.operator_record import Attributes

__all__ = ["VERSIONS", "NodeBuilder"]

VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "Add": 14, "BatchNormalization": 15, "Cast": 19, "Clip": 13, "Concat": 13,
        "DequantizeLinear": 21, "Div": 14, "DynamicQuantizeLinear": 11, "Einsum": 12,
        "Expand": 13, "Flatten": 13, "Gather": 13, "Gelu": 20, "Gemm": 13, "GlobalAveragePool": 1, "Greater": 13,
        "GroupNormalization": 21, "HardSigmoid": 6, "HardSwish": 14, "Identity": 16,
        "InstanceNormalization": 6, "LayerNormalization": 17,
        "LeakyRelu": 16, "MatMul": 13, "Mish": 18, "Mul": 14, "Pad": 13, "Pow": 13,
        "QuantizeLinear": 21, "RMSNormalization": 23, "Range": 11,
        "Reciprocal": 13, "ReduceMean": 18, "ReduceSum": 13, "Relu": 14, "Reshape": 14, "Shape": 15, "Sigmoid": 13,
        "Slice": 13, "Softmax": 13, "Split": 13, "Sqrt": 13, "Squeeze": 13, "Sub": 14, "Swish": 24, "Tanh": 13,
        "Transpose": 13, "Trilu": 14, "Unsqueeze": 13, "Where": 16,
    }
)  # fmt: skip
"""The opset version of new nodes: the oldest in which each operator has the form that rewrites emit."""


class NodeBuilder:
    """The nodes that take the place of one node, in the making."""

    def __init__(self, editor: Editor, node: Node) -> None:
        self._editor = editor
        self.node = node
        self.nodes: list[Node] = []

    def add(
        self,
        op_type: str,
        *inputs: str,
        output: str = "",
        outputs: tuple[str, ...] = (),
        name: str = "",
        version: int = 0,
        attributes: Attributes = MappingProxyType({}),
        **more: Any,
    ) -> str:
        """Add a node of the standard domain and return its (first) output.

        - `output`, `outputs`: Name of its output, or names of all; a fresh name where both are empty.
        - `name`: Name of the node, where it continues a node of that name.
        - `version`: Opset version of the node; :data:`VERSIONS` has those of usual operators.
        """
        name = name or self._editor.unique(f"{self.node.name}/{op_type}")
        node = Node(
            op_type=op_type,
            version=version or VERSIONS[op_type],
            name=name,
            inputs=inputs,
            outputs=outputs or (output or self._editor.unique(f"{name}:0"),),
            attributes=MappingProxyType({**attributes, **more}),
        )
        self.nodes.append(node)
        return node.outputs[0]

    def extend(self, *nodes: Node) -> None:
        """Add nodes that are made already."""
        self.nodes.extend(nodes)

    def integers(self, *values: int) -> str:
        """Add an int64 vector."""
        return self._editor.add_integers(values, f"{self.node.name}/shape")

    def scalar(self, value: float) -> str:
        """Add a float scalar."""
        return self._editor.add_array(np.array(value, dtype=np.float32), f"{self.node.name}/scalar")

    def apply(self) -> Declined:
        """Replace the node; the last new node makes its first output unless another does.

        Returns None, as an attempt does that has succeeded.
        """
        output, last = self.node.outputs[0], self.nodes[-1]
        if output and all(output not in node.outputs for node in self.nodes):
            self.nodes[-1] = replace(last, outputs=(output, *last.outputs[1:]))
        self._editor.replace(self.node, *self.nodes)
        return None

    def finish(self, op_type: str, *inputs: str, **rest: Any) -> Declined:
        """Add the last node, and apply."""
        self.add(op_type, *inputs, **rest)
        return self.apply()

    def insert(self) -> None:
        """Insert the new nodes before the node, which stays."""
        self._editor.insert(self.node, *self.nodes)
