"""Convolutions over one to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.convert.operators.read_window import read_window
from aznas_onnx.convert.sliding_window import to_torch_pads
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
_CONV: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: torch.conv_transpose1d,
    2: torch.conv_transpose2d,
    3: torch.conv_transpose3d,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution that pads both sides equally: the function of a step of ``(x, weight[, bias])``.

    Each attribute but `groups` has a number for each spatial axis.
    """

    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int

    @property
    def is_plain(self) -> bool:
        """Whether it has stride 1, one group and no padding."""
        return self.groups == max(self.strides) == 1 and max(self.padding) == 0

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the convolution of a (batch, channels, ...) tensor."""
        run = _CONV[len(self.strides)]
        return run(x, weight, bias, self.strides, self.padding, self.dilations, self.groups)

    def input_gradient(self, gradient: Tensor, shape: torch.Size, weight: Tensor) -> Tensor:
        """Return the derivative by the input, of `shape`, from that by the output.

        It is a transposed convolution. That of a depthwise convolution of stride 1 is a depthwise convolution with the
        flipped kernel, which on a CPU takes up to half of the time.
        """
        kernel, axes = weight.shape[2:], range(len(self.strides))
        reach = [self.dilations[at] * (kernel[at] - 1) for at in axes]
        pads = [reach[at] - self.padding[at] for at in axes]
        is_depthwise = weight.shape[1] == 1 and len(weight) == self.groups
        if is_depthwise and max(self.strides) == 1 and min(pads) >= 0:
            flipped = weight.flip(*range(2, weight.dim()))
            return _CONV[len(axes)](gradient, flipped, None, self.strides, pads, self.dilations, self.groups)
        lost = [
            shape[2 + at] - (gradient.shape[2 + at] - 1) * self.strides[at] + 2 * self.padding[at] - reach[at] - 1
            for at in axes
        ]
        transposed = _CONV_TRANSPOSE[len(axes)]
        return transposed(gradient, weight, None, self.strides, self.padding, lost, self.groups, self.dilations)


def _spatial_kernel(node: Node, context: Context) -> tuple[int, ...]:
    kernel = context.shape(node, node.inputs[1])[2:]
    if not 1 <= len(kernel) <= 3:
        raise unsupported(node, f"has {len(kernel)} spatial axes", "one to three spatial axes are supported")
    return kernel


def conv(node: Node, context: Context) -> Call:
    """Weights and bias are inputs like any other: the graph can compute them."""
    kernel = _spatial_kernel(node, context)
    window = read_window(node, context, kernel)
    convolve = Convolution(
        strides=window.strides,
        padding=window.begin if window.is_symmetric else (0,) * len(kernel),
        dilations=window.dilations,
        groups=integer(node, "group", 1),
    )
    if window.is_symmetric:
        return Call(convolve, node.inputs)
    pads = window.torch_pads
    return Call(lambda x, weight, bias=None: convolve(F.pad(x, pads), weight, bias), node.inputs)


def conv_transpose(node: Node, context: Context) -> Call:
    kernel = _spatial_kernel(node, context)
    ones = (1,) * len(kernel)
    strides = integers(node, "strides") or ones
    dilations = integers(node, "dilations") or ones
    extra = integers(node, "output_padding") or (0,) * len(kernel)
    begin, end = _transposed_pads(node, context, kernel, strides, dilations, extra)
    convolve = partial(
        _CONV_TRANSPOSE[len(kernel)], stride=strides, dilation=dilations, groups=integer(node, "group", 1)
    )
    fits_torch = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if begin == end and min(begin) >= 0 and fits_torch:
        return Call(partial(convolve, padding=begin, output_padding=extra), node.inputs)
    # Torch pads both sides equally: compute everything, then cut (or widen by zeros) each side as in ONNX.
    change = to_torch_pads(tuple(-pad for pad in begin), tuple(e - pad for e, pad in zip(extra, end, strict=True)))
    bias_shape = (-1, *ones)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        result = F.pad(convolve(x, weight), change)
        return result if bias is None else result + bias.reshape(bias_shape)

    return Call(run, node.inputs)


def _transposed_pads(
    node: Node,
    context: Context,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    extra: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what to cut from the beginning and end of each axis of the full transposed convolution."""
    auto_pad = text(node, "auto_pad", "NOTSET")
    wanted = integers(node, "output_shape")
    if wanted is None and auto_pad in ("NOTSET", "", "VALID"):
        pads = integers(node, "pads") if auto_pad != "VALID" else None
        pads = pads or (0,) * (2 * len(kernel))
        return pads[: len(kernel)], pads[len(kernel) :]
    sizes = context.shape(node, node.inputs[0])[2:]
    given = wanted is not None
    wanted = wanted or tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    totals = [
        stride * (size - 1) + e + (width - 1) * dilation + 1 - out
        for size, stride, e, width, dilation, out in zip(
            sizes, strides, extra, kernel, dilations, wanted[-len(kernel) :], strict=True
        )
    ]
    if not given:  # where stride exceeds kernel, shape inference and runtimes leave the natural size
        totals = [max(total, 0) for total in totals]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def deform_conv(node: Node, context: Context) -> Call:
    kernel = _spatial_kernel(node, context)
    if len(kernel) != 2:
        raise unsupported(node, f"has {len(kernel)} spatial axes", "two spatial axes are supported")
    from torchvision.ops import deform_conv2d

    window = read_window(node, context, kernel)
    padding = window.begin if window.is_symmetric else (0, 0)
    pads = None if window.is_symmetric else window.torch_pads

    def run(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        x = x if pads is None else F.pad(x, pads)
        result: Tensor = deform_conv2d(
            x, offset, weight, bias, stride=window.strides, padding=padding, dilation=window.dilations, mask=mask
        )
        return result

    return Call(run, node.inputs)


def causal_conv_with_state(node: Node, context: Context) -> Call:
    """Depthwise, over one axis; the last width - 1 positions are the next state."""
    channels, _, width = context.shape(node, node.inputs[1])
    activation = text(node, "activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise unsupported(node, f"has activation {activation!r}", "'none', 'silu' and 'swish' are supported")

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        extended = F.pad(x, (width - 1, 0)) if past is None else torch.cat((past, x), dim=-1)
        result = torch.conv1d(extended, weight, bias, groups=channels)
        state = extended[..., extended.shape[-1] - (width - 1) :]
        return (result if activation == "none" else F.silu(result)), state

    return Call(run, node.inputs)
