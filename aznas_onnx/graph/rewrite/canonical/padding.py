"""Merge a Pad of zeros into the window that reads it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.nonnegative import is_nonnegative
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at

__all__ = ["REWRITES"]


def zero_pads(editor: Editor, node: Node) -> tuple[int, ...] | None:
    """Return the sizes of a Pad with zeros of all axes, begins before ends; None where it pads with anything else."""
    attributes: Any = node.attributes
    if attributes.get("mode", "constant") != "constant" or node.input(3):
        return None
    if node.version < 11:
        given, value = attributes.get("pads"), attributes.get("value", 0.0)
    else:
        given, value = editor.integers(node.inputs[1]), editor.scalar(node.input(2)) if node.input(2) else 0.0
    if given is None or value != 0.0 or any(size < 0 for size in given):
        return None
    return tuple(given)


@ending_at("Conv", "AveragePool", "MaxPool")
def _merge_pad(editor: Editor, node: Node) -> Declined:
    """A Pad by zeros of the positions before a convolution, an average that counts them, or a maximum they cannot win.

    The padding of a maximum is minus infinity, which makes no difference where nothing is negative.
    """
    before = editor.producer(node.inputs[0])
    sizes = None if before is None or not before.is_op("Pad") else zero_pads(editor, before)
    if before is None or sizes is None:
        return "no padding with zeros comes before it"
    pattern = f"padded {node.op_type}"
    attributes: Any = node.attributes
    rank = len(sizes) // 2
    spatial = rank - 2
    if any(sizes[:2]) or any(sizes[rank : rank + 2]):
        return NearMiss("the Pad before it pads samples or channels too", pattern)
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return NearMiss("it has padding of its own by auto_pad", pattern)
    inside = tuple(attributes.get("pads") or (0,) * (2 * spatial))
    outside = (*sizes[2:rank], *sizes[rank + 2 :])
    if not node.is_op("Conv") and not _fits(attributes, outside):
        return NearMiss("a window may lie in the padding alone", pattern)
    if node.is_op("AveragePool") and not (attributes.get("count_include_pad", 0) or not any(inside)):
        return NearMiss("its average counts the zeros of the Pad before it, and not its own padding", pattern)
    if node.is_op("MaxPool") and not is_nonnegative(editor, before.inputs[0]):
        return NearMiss("a zero of the Pad before it may be the maximum", pattern)
    pads = tuple(a + b for a, b in zip(inside, outside, strict=True))
    changed = {key: value for key, value in attributes.items() if key != "auto_pad"}
    if node.is_op("AveragePool"):
        changed["count_include_pad"] = 1
    changed["pads"] = pads
    version = max(node.version, 7) if node.is_op("AveragePool") else node.version
    editor.update(
        node, inputs=(before.inputs[0], *node.inputs[1:]), attributes=MappingProxyType(changed), version=version
    )
    return None


def _fits(attributes: Any, outside: tuple[int, ...]) -> bool:
    """Whether no window lies in the padding alone."""
    kernel = attributes["kernel_shape"]
    dilated = any(step != 1 for step in attributes.get("dilations", ()))
    small = all(size < kernel[index % len(kernel)] for index, size in enumerate(outside))
    return small and not dilated and not attributes.get("ceil_mode", 0)


REWRITES: tuple[Rewrite, ...] = (_merge_pad,)
