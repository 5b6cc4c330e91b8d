"""Nodes that compute the same thing twice, made one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from aznas_onnx.graph.ir import Graph, Node
from aznas_onnx.graph.rewrite.editor import Editor

__all__ = ["merge_duplicates"]

_RANDOM = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli Dropout".split()
)


def merge_duplicates(editor: Editor) -> int:
    """Let one node stand for all that have its operator, inputs and attributes; return how many went.

    PyTorch's dynamo exporter does so, its TorchScript exporter does not.
    """
    nodes = list(editor.nodes())
    if len({(node.op_type, node.inputs) for node in nodes}) == len(nodes):
        return 0
    first: dict[tuple[str, tuple[str, ...]], list[_Known]] = {}
    merged = 0
    for node in editor.nodes():
        if not node.inputs or len(editor.readers(node.inputs[0])) < 2:
            continue  # nobody else reads what it does
        alike = first.setdefault((node.op_type, node.inputs), [])
        known = next((known for known in alike if known.is_equal(node)), None) if alike else None
        if known is None:
            alike.append(_Known(node, node.outputs[0]))
        elif known.output != node.outputs[0] and editor.substitute(node, known.output):
            if editor.producer(known.output) is None:  # it gave its name up for that of an output
                known.output = node.outputs[0]
            merged += 1
    return merged


@dataclass(slots=True)
class _Known:
    """A node, and what its output is called by now."""

    node: Node
    output: str

    def is_equal(self, other: Node) -> bool:
        key = _key(self.node)
        return key is not None and key == _key(other)


def _key(node: Node) -> Hashable | None:
    if len(node.outputs) != 1 or node.op_type in _RANDOM:
        return None
    values = []
    for name, value in sorted(node.attributes.items()):
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, (np.ndarray, Graph)) for part in parts):
            return None
        values.append((name, value))
    return (node.operator, node.version, node.inputs, tuple(values))
