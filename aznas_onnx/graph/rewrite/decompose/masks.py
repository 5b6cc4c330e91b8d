"""Write masks of ONNX Runtime's attention operators as a term added to the logits.

The operators distinguish kinds of mask by rank, which is not known yet for every tensor: a mask of unknown rank stays.
"""

from __future__ import annotations

from typing import Any

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.operators.sets import COMPARISONS, KEEPS_VALUES

__all__ = ["add_causal", "add_mask", "mask_kind"]

_FLOAT = 1
_LOWEST = -3.4028234663852886e38
_LENGTHS, _PER_KEY, _PER_QUERY = 1, 2, 3


def mask_kind(editor: Editor, name: str) -> int | None:
    """Return the rank of a mask that can be written out; None where it is not known, or the mask is of another kind.

    A vector is one length for each sample only where it was counted in the graph; elsewhere it can be starts and ends.
    """
    is_counted = False
    made = editor.producer(name)
    while made is not None:
        keeps_mask = made in KEEPS_VALUES or made.is_op("Abs", "Neg", "Not")
        if made.is_op("ReduceSum") and not made.attributes.get("keepdims", 1) and not is_counted:
            is_counted = True
        elif not (keeps_mask or (made in COMPARISONS and editor.rank(made.inputs[1]) == 0)):
            return None
        name = made.inputs[0]
        made = editor.producer(name)
    rank = editor.rank(name)
    if rank is None:
        rank = editor.declared_rank(name)
    if is_counted:
        return _LENGTHS if rank == _PER_KEY else None
    return rank if rank in (_PER_KEY, _PER_QUERY) else None


def add_mask(patch: NodeBuilder, node: Node, scores: str, mask: str, kind: int) -> str:
    """Add a mask of a known kind to logits of shape (batch, heads, queries, keys)."""
    numbers = patch.add("Cast", mask, to=_FLOAT)
    if kind == _LENGTHS:
        lengths = patch.add("Unsqueeze", numbers, patch.integers(1))
        seen = patch.add("Greater", lengths, _positions(patch, scores))
    else:
        seen = patch.add("Greater", numbers, patch.scalar(0.0))
    term = patch.add("Where", seen, patch.scalar(0.0), _filter(patch, node))
    axes = patch.integers(1) if kind == _PER_QUERY else patch.integers(1, 2)
    return patch.add("Add", scores, patch.add("Unsqueeze", term, axes))


def add_causal(patch: NodeBuilder, scores: str) -> str:
    """Hide the keys behind each query from it, more strongly than a mask hides others."""
    positions = _positions(patch, scores)
    queries = patch.add("Unsqueeze", positions, patch.integers(1))
    hidden = patch.add("Greater", positions, queries)
    return patch.add("Add", scores, patch.add("Where", hidden, patch.scalar(_LOWEST), patch.scalar(0.0)))


def _filter(patch: NodeBuilder, node: Node) -> str:
    value: Any = node.attributes.get("mask_filter_value", -10000.0)
    return patch.scalar(float(value))


def _positions(patch: NodeBuilder, scores: str) -> str:
    """Add 0, 1, ... for each key, as floats."""
    count = patch.add("Gather", patch.add("Shape", scores), patch.integers(3), axis=0)
    count = patch.add("Squeeze", patch.add("Cast", count, to=_FLOAT), patch.integers(0))
    return patch.add("Range", patch.scalar(0.0), count, patch.scalar(1.0))
