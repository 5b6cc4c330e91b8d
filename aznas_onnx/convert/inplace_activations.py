"""Activations that torch can run in place, forward on their input and backward on the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

__all__ = ["HARD_SWISH", "RELU", "SWISH", "Activation", "clip", "gelu"]

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """An elementwise function of a tensor: the function of a step of ``(x,)``.

    - `plain`: The function, with a new output.
    - `overwrite`: The same in place of its input.
    - `differentiate`: Writes a gradient times the derivative at an input: ``(gradient, input, out)``; `out` can be the
      gradient.
    - `needs_input`: Whether the derivative needs the input; otherwise it can be taken at the output.
    """

    plain: Callable[[Tensor], Tensor]
    overwrite: Callable[[Tensor], Tensor]
    differentiate: Callable[[Tensor, Tensor, Tensor], Tensor]
    needs_input: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activation of a tensor."""
        return self.plain(x)


def _relu_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.threshold_backward.grad_input(gradient, x, 0, grad_input=out)
    return found


def _clip_gradient(gradient: Tensor, x: Tensor, out: Tensor, low: float, high: float) -> Tensor:
    found: Tensor = torch.ops.aten.hardtanh_backward.grad_input(gradient, x, low, high, grad_input=out)
    return found


def _gelu_gradient(gradient: Tensor, x: Tensor, out: Tensor, approximate: str) -> Tensor:
    found: Tensor = torch.ops.aten.gelu_backward.grad_input(gradient, x, approximate=approximate, grad_input=out)
    return found


def _swish_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.silu_backward.grad_input(gradient, x, grad_input=out)
    return found


def _hard_swish_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.hardswish_backward.out(gradient, x, out=out)
    return found


RELU = Activation(plain=torch.relu, overwrite=torch.relu_, differentiate=_relu_gradient, needs_input=False)
SWISH = Activation(plain=F.silu, overwrite=partial(F.silu, inplace=True), differentiate=_swish_gradient)
HARD_SWISH = Activation(
    plain=F.hardswish, overwrite=partial(F.hardswish, inplace=True), differentiate=_hard_swish_gradient
)


def clip(low: float, high: float) -> Activation:
    """Return the activation that bounds values; `low` is at most `high`."""
    return Activation(
        plain=partial(F.hardtanh, min_val=low, max_val=high),
        overwrite=partial(F.hardtanh, min_val=low, max_val=high, inplace=True),
        differentiate=partial(_clip_gradient, low=low, high=high),
        needs_input=False,
    )


def gelu(approximate: str) -> Activation:
    """Return the Gaussian error linear unit; `approximate` is "none" or "tanh"."""
    return Activation(
        plain=partial(F.gelu, approximate=approximate),
        overwrite=partial(torch.ops.aten.gelu_, approximate=approximate),
        differentiate=partial(_gelu_gradient, approximate=approximate),
    )
