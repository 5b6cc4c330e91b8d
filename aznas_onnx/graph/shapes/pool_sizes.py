"""The number of windows on an axis for pooling and transposed convolution, where ONNX's inference errs.

ONNX's shape inference counts a window that starts in the padding after the end of an axis, which its text (since
opset 22), ONNX Runtime and PyTorch drop; it stops at the first axis that a transposed convolution's `output_shape`
makes smaller than its input; and it adds `output_padding` to a size that `auto_pad` SAME has fixed.
"""

from __future__ import annotations

from typing import Any

from aznas_onnx.graph.ir.graph import Node

__all__ = ["count_windows", "pooled_sizes", "same_pads", "transposed_sizes"]

_Sizes = tuple[int, ...]


def count_windows(
    size: int, *, kernel: int, stride: int, dilation: int, begin: int, end: int, ceil: bool = False
) -> int:
    """Return the number of windows on an axis of `size` elements with pads `begin` and `end`."""
    room = size + begin + end - ((kernel - 1) * dilation + 1)
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window that would start in the padding after the end is dropped (torch, and ONNX in words since 22).
    return count - 1 if (count - 1) * stride >= size + begin else count


def same_pads(
    sizes: _Sizes, kernel: _Sizes, strides: _Sizes, dilations: _Sizes, *, upper: bool
) -> tuple[_Sizes, _Sizes]:
    """Return the pads before and after each axis for `auto_pad` SAME_UPPER or SAME_LOWER."""
    totals = tuple(
        max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        for size, stride, width, dilation in zip(sizes, strides, kernel, dilations, strict=True)
    )
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def pooled_sizes(node: Node, sizes: _Sizes) -> _Sizes:
    """Return the spatial sizes that a pool makes of `sizes`."""
    kernel = _integers(node, "kernel_shape", ())
    ones = (1,) * len(kernel)
    strides, dilations = _integers(node, "strides", ones), _integers(node, "dilations", ones)
    begin, end, is_same = (0,) * len(kernel), (0,) * len(kernel), False
    auto_pad = node.attributes.get("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        is_same = True
        begin, end = same_pads(sizes, kernel, strides, dilations, upper=auto_pad == "SAME_UPPER")
    elif auto_pad != "VALID":
        pads = _integers(node, "pads", (*begin, *end))
        begin, end = pads[: len(kernel)], pads[len(kernel) :]
    return tuple(
        count_windows(
            size, kernel=width, stride=stride, dilation=dilation, begin=before, end=after,
            ceil=bool(node.attributes.get("ceil_mode", 0)) and not is_same,
        )
        for size, width, stride, dilation, before, after in zip(
            sizes, kernel, strides, dilations, begin, end, strict=True
        )
    )  # fmt: skip


def transposed_sizes(node: Node, sizes: _Sizes, kernel: _Sizes) -> _Sizes:
    """Return the spatial sizes that a transposed convolution with `output_shape` or `auto_pad` SAME makes."""
    wanted = _integers(node, "output_shape", ())
    if wanted:
        return wanted[-len(kernel) :]
    ones = (1,) * len(kernel)
    strides, dilations = _integers(node, "strides", ones), _integers(node, "dilations", ones)
    extra = _integers(node, "output_padding", (0,) * len(kernel))
    return tuple(
        # where stride exceeds kernel, runtimes leave the natural size
        min(size * stride, stride * (size - 1) + more + (width - 1) * dilation + 1)
        for size, stride, width, dilation, more in zip(sizes, strides, kernel, dilations, extra, strict=True)
    )


def _integers(node: Node, name: str, default: _Sizes) -> _Sizes:
    value: Any = node.attributes.get(name)
    return default if value is None else tuple(value)
