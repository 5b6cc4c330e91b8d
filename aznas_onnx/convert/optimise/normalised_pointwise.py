"""A pointwise convolution that widens, normalisation by the batch and an activation as one step, on a CPU.

With d the gradient at the normalised value, u = (y - mean) / std of the wide map y = W x, and sums over a channel's n
values, the derivative by the input x is

    W^T (scale / std (d - sum(d) / n - u sum(d u) / n))  =  (scale / std W)^T d  +  M x  +  a constant

for a matrix M of the narrow width, so that the second pass over the wide map is not needed.
"""

from __future__ import annotations

from typing import Any

import torch

from aznas_onnx.convert.operators.convolution import Convolution
from aznas_onnx.convert.optimise.normalised_activation import (
    NormalisedActivation,
    Vectors,
    has_matrix,
    matrix_of,
)

__all__ = ["NormalisedPointwise"]

Tensor = torch.Tensor


class NormalisedPointwise:
    """The function of a step of ``(x, weight, scale, bias)``.

    - `convolution`: Of kernel 1, stride 1 and one group, without padding.
    - `activate`: The normalisation and activation behind it.
    """

    def __init__(self, convolution: Convolution, activate: NormalisedActivation) -> None:
        self.convolution = convolution
        self.activate = activate

    def __call__(self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the activation of the normalised convolution of a (batch, channels, ...) map."""
        are_constants = not any(tensor.requires_grad for tensor in (weight, scale, bias))
        is_last = has_matrix(x) and not x.is_contiguous()  # the channels, in memory
        if are_constants and is_last and x.requires_grad:
            result: Tensor = _PointwiseFunction.apply(x, weight, scale, bias, self)
            return result
        return self.activate(self.convolution(x, weight), scale, bias)


class _PointwiseFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, step: NormalisedPointwise) -> Tensor:
        wide = step.convolution(x, weight)
        result, vectors, ctx.is_normalised = step.activate.normalise(wide, scale, bias)
        ctx.save_for_backward(x, weight, wide, *vectors)
        ctx.step = step
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, wide, *saved = ctx.saved_tensors
        step: NormalisedPointwise = ctx.step
        by, rows = Vectors(*saved), weight.flatten(1).double()
        d, sums = step.activate.differentiate(gradient, wide, by, is_normalised=ctx.is_normalised)
        slope, by_wide, constant = by.factors(sums, wide.numel() // wide.shape[1], is_normalised=False)
        by_x, shift = torch.mm(rows.t() * by_wide, rows).to(x.dtype), torch.mv(rows.t(), constant).to(x.dtype)
        scaled = (rows * slope.unsqueeze(1)).to(x.dtype).view(weight.shape)
        result = step.convolution.input_gradient(d, x.shape, scaled)
        if not has_matrix(result) or result.is_contiguous():
            result = torch.empty_like(x).copy_(result)
        matrix_of(result).values.addmm_(matrix_of(x).values, by_x).add_(shift)
        return result, None, None, None, None
