"""Merge duplicate nodes."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.operators.sets import RANDOM

__all__ = ["merge_duplicates"]


def merge_duplicates(editor: Editor) -> int:
    """Merge nodes of equal operator, inputs and attributes; return how many were removed.

    PyTorch's dynamo exporter does so, its TorchScript exporter does not.
    """
    nodes = list(editor.nodes())
    if len({(node.op_type, node.inputs) for node in nodes}) == len(nodes):
        return 0
    first: dict[Hashable, str] = {}
    merged = 0
    for node in editor.nodes():
        if not node.inputs or len(editor.readers(node.inputs[0])) < 2:
            continue  # it is the only reader
        key = _key(node)
        if key is None:
            continue
        known = first.setdefault(key, node.outputs[0])
        if known != node.outputs[0] and editor.substitute(node, known):
            if editor.producer(known) is None:  # it gave its name up for that of an output
                first[key] = node.outputs[0]
            merged += 1
    return merged


def _key(node: Node) -> Hashable | None:
    if len(node.outputs) != 1 or node in RANDOM:
        return None
    values = []
    for name, value in sorted(node.attributes.items()):
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, (np.ndarray, Graph)) for part in parts):
            return None
        values.append((name, value))
    return (node.operator, node.version, node.inputs, tuple(values))
