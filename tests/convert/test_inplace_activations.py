"""Activations that overwrite the gradient compute what torch computes, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from aznas_onnx.convert.optimise.fused import OverwritesGradient
from aznas_onnx.graph import Node


def node(op_type: str, **attributes: Any) -> Node:
    return Node(op_type=op_type, inputs=("x",), outputs=("y",), version=24, name="n", attributes=attributes)


@pytest.mark.parametrize(
    ("activation", "plain"),
    [
        (node("Gelu"), F.gelu),
        (node("Gelu", approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
        (node("Swish"), F.silu),
        (node("HardSwish"), F.hardswish),
    ],
)
@pytest.mark.parametrize("is_transposed", [False, True])
def test_results_and_derivatives(activation: Node, plain: Any, is_transposed: bool) -> None:
    run = OverwritesGradient.of(activation)
    assert run is not None
    x, gradient = (torch.randn(7, 33, generator=torch.Generator().manual_seed(at)) * 3 for at in range(2))
    gradient = gradient.t().contiguous().t() if is_transposed else gradient
    leaf = x.clone().requires_grad_()
    expected = plain(leaf)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient.clone())
    found = run(leaf)
    (found_gradient,) = torch.autograd.grad(found, leaf, gradient)
    assert torch.equal(found, expected)
    assert torch.equal(found_gradient, expected_gradient)
    assert found_gradient.data_ptr() == gradient.data_ptr()
    assert torch.equal(run(x), expected)


def test_others_are_left_alone() -> None:
    assert OverwritesGradient.of(node("Swish", alpha=0.5)) is None
    assert OverwritesGradient.of(node("Sigmoid")) is None
