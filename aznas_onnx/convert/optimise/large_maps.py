"""Steps on large feature maps that save less for the backward pass.

Without them, Conv, normalisation and ReLU save two maps and make two more in the backward pass: the next convolution
saves its input, although the derivative by the input does not read it, and the derivative of the normalisation is a new
map. With them one map is saved, and the gradient is overwritten. That also saves the time in which the kernel clears
the pages of new maps. On a CPU only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["ConvWithoutSavedInput", "softmax_in_place"]

Tensor = torch.Tensor


class ConvWithoutSavedInput:
    """A convolution that does not save its input for the derivative by its weight, which is not needed.

    The derivative by the input reads the input's shape and memory order only, but autograd saves the values, too.

    - `run`: The convolution, of ``(x, weight)`` or ``(x, weight, bias)``.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run: Callable[..., Tensor] = run

    def __call__(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Return the convolution."""
        if weight.requires_grad or not x.requires_grad:
            return self._run(x, weight, *bias)

        address, shape = x.data_ptr(), x.shape  # autograd references the hook, so the hook must not reference the input

        def pack(saved: Tensor) -> Tensor | _Layout:
            is_input = saved.data_ptr() == address and saved.shape == shape
            return _Layout(saved.shape, saved.stride(), saved.dtype, saved.device) if is_input else saved

        with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
            return self._run(x, weight, *bias)


class _Layout(NamedTuple):
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _unpack(packed: Tensor | _Layout) -> Tensor:
    """Return uninitialised storage; the OS never commits pages for it."""
    if isinstance(packed, torch.Tensor):
        return packed
    return torch.empty_strided(packed.size, packed.stride, dtype=packed.dtype, device=packed.device)


def softmax_in_place(x: Tensor) -> Tensor:
    """Return the softmax over the last axis in place of the input; the derivative overwrites the gradient.

    Neither can have other references.
    """
    result: Tensor = _SoftmaxFunction.apply(x) if x.requires_grad else torch.softmax(x, -1, out=x)
    return result


class _SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        torch.softmax(x, -1, out=x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        found: Tensor = torch.ops.aten._softmax_backward_data.out(
            gradient, output, -1, output.dtype, grad_input=gradient
        )
        return found
