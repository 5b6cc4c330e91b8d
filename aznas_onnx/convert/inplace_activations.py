"""Activations that overwrite the gradient with their derivative: one map fewer in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from aznas_onnx.convert.attributes import number, text
from aznas_onnx.graph.ir.graph import Node

__all__ = ["OverwritesGradient"]

Tensor = torch.Tensor


class OverwritesGradient:
    """An activation that saves its input: the function of a step of ``(x,)``.

    The gradient must have no other reference.

    - `forward`: The activation.
    - `backward`: Overwrites the gradient with the derivative, given the gradient and the input.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._forward = forward
        self._backward = backward

    @classmethod
    def of(cls, node: Node) -> OverwritesGradient | None:
        """Return the activation of a node, if its derivative can overwrite the gradient."""
        if node.is_op("Gelu"):
            approximate = text(node, "approximate", "none")
            return cls(partial(F.gelu, approximate=approximate), partial(_gelu, approximate=approximate))
        if node.is_op("Swish") and number(node, "alpha", 1.0) == 1.0:
            return cls(F.silu, _swish)
        return cls(F.hardswish, _hard_swish) if node.is_op("HardSwish") else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activation of a tensor."""
        if not x.requires_grad:
            return self._forward(x)
        result: Tensor = _Function.apply(x, self._forward, self._backward)
        return result


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.overwrite = backward
        return forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.overwrite(gradient, x), None, None


def _gelu(gradient: Tensor, x: Tensor, approximate: str) -> Tensor:
    found: Tensor = torch.ops.aten.gelu_backward.grad_input(gradient, x, approximate=approximate, grad_input=gradient)
    return found


def _swish(gradient: Tensor, x: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.silu_backward.grad_input(gradient, x, grad_input=gradient)
    return found


def _hard_swish(gradient: Tensor, x: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.hardswish_backward.out(gradient, x, out=gradient)
    return found
