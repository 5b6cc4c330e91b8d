"""Steps on large feature maps that save less for the backward pass, on a CPU.

Autograd saves the input of a convolution, although the derivative by the input does not read it.
"""

from __future__ import annotations

from typing import Any

import torch

from aznas_onnx.convert.operators.convolution import Convolution

__all__ = ["ConvWithoutSavedInput", "softmax_in_place"]

Tensor = torch.Tensor


class ConvWithoutSavedInput:
    """A convolution that does not save its input for the derivative by its weight, which is not needed.

    - `convolution`: Of a step of ``(x, weight[, bias])``.
    """

    def __init__(self, convolution: Convolution) -> None:
        self._convolution = convolution

    def __call__(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Return the convolution."""
        if not x.requires_grad or any(tensor.requires_grad for tensor in (weight, *bias)):
            return self._convolution(x, weight, *bias)
        result: Tensor = _ConvFunction.apply(x, weight, self._convolution, *bias)
        return result


class _ConvFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, convolution: Convolution, *bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.convolution = convolution
        ctx.shape = x.shape
        return convolution(x, weight, *bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        derivative = ctx.convolution.input_gradient(gradient, ctx.shape, weight)
        return (derivative, *(None for _ in ctx.needs_input_grad[1:]))


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
