"""Activations in place compute what torch computes, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from aznas_onnx.convert.inplace_activations import HARD_SWISH, RELU, SWISH, Activation, clip, gelu

PLAIN: list[tuple[Activation, Callable[[Tensor], Tensor]]] = [
    (RELU, torch.relu),
    (clip(0.0, 6.0), F.relu6),
    (clip(-1.0, 1.5), lambda x: torch.clamp(x, -1.0, 1.5)),
    (gelu("none"), F.gelu),
    (gelu("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (SWISH, F.silu),
    (HARD_SWISH, F.hardswish),
]


@pytest.mark.parametrize(("activation", "plain"), PLAIN)
@pytest.mark.parametrize("is_transposed", [False, True])
def test_results_and_derivatives(
    activation: Activation, plain: Callable[[Tensor], Tensor], is_transposed: bool
) -> None:
    x, gradient = (torch.randn(7, 33, generator=torch.Generator().manual_seed(at)) * 3 for at in range(2))
    gradient = gradient.t().contiguous().t() if is_transposed else gradient
    leaf = x.clone().requires_grad_()
    expected = plain(leaf)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient.clone())
    assert torch.equal(activation(x), expected)
    out = torch.empty_like(gradient)
    activation.differentiate(gradient, x, out)
    assert torch.equal(out, expected_gradient)
    activation.differentiate(gradient, x if activation.needs_input else expected.detach(), gradient)
    assert torch.equal(gradient, expected_gradient)
    assert activation.overwrite(x).data_ptr() == x.data_ptr()
    assert torch.equal(x, expected)
