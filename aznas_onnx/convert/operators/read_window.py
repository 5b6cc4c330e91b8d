"""The window of a convolution or pool, from its attributes."""

from __future__ import annotations

from aznas_onnx.convert.attributes import integer, integers, text
from aznas_onnx.convert.context import Context, unsupported
from aznas_onnx.convert.sliding_window import Window
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.shapes.pool_sizes import same_pads

__all__ = ["read_window"]


def read_window(node: Node, context: Context, kernel: tuple[int, ...]) -> Window:
    """Read strides, dilations and pads of a convolution or pool; `auto_pad` needs the shape of input 0."""
    shape = context.known_shape(node.inputs[0])
    key = (id(node.attributes), kernel, shape)  # the context references the graph, and so the attributes
    window = context.windows.get(key)
    if window is None:
        window = context.windows[key] = _read_window(node, context, kernel, (shape or ())[2:])
    return window


def _read_window(node: Node, context: Context, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> Window:
    ones = (1,) * len(kernel)
    strides = integers(node, "strides") or ones
    dilations = integers(node, "dilations") or ones
    auto_pad = text(node, "auto_pad", "NOTSET")
    window = _padded(node, context, kernel, strides, dilations, auto_pad)
    if sizes and min(window.output_sizes(sizes)) < 1:
        raise unsupported(
            node, f"has a window of {kernel} over an input of {sizes}", "the padded input must hold one window at least"
        )
    return window


def _padded(
    node: Node,
    context: Context,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    auto_pad: str,
) -> Window:
    if auto_pad in ("NOTSET", "VALID", ""):
        pads = None if auto_pad == "VALID" else integers(node, "pads")
        pads = pads or (0,) * (2 * len(kernel))
        begin, end = pads[: len(kernel)], pads[len(kernel) :]
        return Window(kernel, strides, dilations, begin, end, ceil=bool(integer(node, "ceil_mode", 0)))
    sizes = context.shape(node, node.inputs[0])[2:]
    begin, end = same_pads(sizes, kernel, strides, dilations, upper=auto_pad == "SAME_UPPER")
    return Window(kernel, strides, dilations, begin, end)
