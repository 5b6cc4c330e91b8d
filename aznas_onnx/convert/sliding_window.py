"""The geometry of sliding windows, shared by convolutions and pooling."""

from __future__ import annotations

from dataclasses import dataclass

from aznas_onnx.convert.attributes import integer, integers, text
from aznas_onnx.convert.context import Context, unsupported
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.shapes.pool_sizes import count_windows, same_pads

__all__ = ["Window", "read_window"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes; each tuple has one entry an axis, `begin` and `end` are the pads."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    ceil: bool = False

    @property
    def is_symmetric(self) -> bool:
        """Whether the pads are the same on both sides, so that a torch operator can do the padding."""
        return self.begin == self.end and min(self.begin, default=0) >= 0

    @property
    def torch_pads(self) -> list[int]:
        """The pads in the order of ``F.pad``: last axis first, begin before end."""
        return to_torch_pads(self.begin, self.end)

    def output_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of windows on each axis of an input with these spatial sizes."""
        return tuple(self._count(axis, size) for axis, size in enumerate(sizes))

    def _count(self, axis: int, size: int) -> int:
        return count_windows(
            size,
            kernel=self.kernel[axis],
            stride=self.strides[axis],
            dilation=self.dilations[axis],
            begin=self.begin[axis],
            end=self.end[axis],
            ceil=self.ceil,
        )

    def covering_pads(self, sizes: tuple[int, ...]) -> list[int]:
        """Return pads, in the order of ``F.pad``, after which exactly the windows of `output_sizes` fit."""
        end = []
        for axis, (size, count) in enumerate(zip(sizes, self.output_sizes(sizes), strict=True)):
            extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            end.append((count - 1) * self.strides[axis] + extent - size - self.begin[axis])
        return to_torch_pads(self.begin, tuple(end))


def to_torch_pads(begin: tuple[int, ...], end: tuple[int, ...]) -> list[int]:
    """Return pads in the order of ``F.pad``: last axis first, begin before end."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]


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
