"""A widening pointwise convolution, normalisation and activation as one step: the results and derivatives of three."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aznas_onnx.convert.inplace_activations import RELU, SWISH, Activation, clip
from aznas_onnx.convert.operators.convolution import Convolution
from aznas_onnx.convert.optimise.normalised_activation import NormalisedActivation
from aznas_onnx.convert.optimise.normalised_pointwise import NormalisedPointwise

EPSILON = 1e-3
POINTWISE = Convolution(strides=(1, 1), padding=(0, 0), dilations=(1, 1), groups=1)
ACTIVATIONS = {"relu": RELU, "relu6": clip(0.0, 6.0), "swish": SWISH}


def joined(activation: Activation, *, overwrites: bool = True) -> NormalisedPointwise:
    activate = NormalisedActivation(EPSILON, activation, overwrites_input=True, overwrites_gradient=overwrites)
    return NormalisedPointwise(POINTWISE, activate)


def plain(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    wide = POINTWISE(x, weight)
    return activation(torch.batch_norm(wide, scale, bias, None, None, True, 0.0, EPSILON, True))


def operands(
    shape: tuple[int, ...], outputs: int, memory_format: torch.memory_format, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return an input with correlated channels of a mean far from zero, weights, and a gradient."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=source, dtype=dtype)
    x = (x + 0.7 * x.roll(1, dims=1) + 3.0).contiguous(memory_format=memory_format)
    weight = torch.randn(outputs, shape[1], 1, 1, generator=source, dtype=dtype)
    gradient = torch.randn(shape[0], outputs, *shape[2:], generator=source, dtype=dtype)
    return x, weight, gradient.contiguous(memory_format=memory_format)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "outputs"), [((3, 4, 7, 9), 24), ((2, 16, 48, 48), 96), ((5, 1, 8, 8), 6)])
@pytest.mark.parametrize("is_standard", [True, False])
@pytest.mark.parametrize("overwrites", [True, False])
def test_one_step_computes_what_the_three_do(
    name: str,
    memory_format: torch.memory_format,
    shape: tuple[int, ...],
    outputs: int,
    is_standard: bool,
    overwrites: bool,
) -> None:
    x, weight, gradient = operands(shape, outputs, memory_format)
    scale, bias = torch.ones(outputs), torch.zeros(outputs)
    if not is_standard:
        scale, bias = torch.linspace(-1.0, 2.0, outputs), torch.linspace(-0.5, 0.5, outputs)
    leaf = x.clone().requires_grad_()
    expected = plain(leaf, weight, scale, bias, ACTIVATIONS[name])
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient.clone())
    leaf, given = x.clone().requires_grad_(), gradient.clone()
    found = joined(ACTIVATIONS[name], overwrites=overwrites)(leaf, weight, scale, bias)
    (found_gradient,) = torch.autograd.grad(found, leaf, given)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    # Where rounding alone decides whether a value is positive, the derivative may go either way.
    differs = ~torch.isclose(found_gradient, expected_gradient, rtol=1e-3, atol=1e-3)
    assert differs.sum() <= 1e-4 * x.numel()
    assert overwrites or torch.equal(given, gradient)
    assert torch.equal(joined(ACTIVATIONS[name])(x, weight, scale, bias), expected)


def test_the_derivative_is_exact() -> None:
    """In double precision, where no value changes its sign by rounding."""
    x, weight, gradient = operands((3, 4, 5, 6), 16, torch.channels_last, torch.float64)
    scale, bias = torch.ones(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain(leaf, weight, scale, bias, SWISH), leaf, gradient.clone())
    (found,) = torch.autograd.grad(joined(SWISH)(leaf, weight, scale, bias), leaf, gradient.clone())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_gradient_in_another_memory_order_is_taken() -> None:
    x, weight, gradient = operands((3, 4, 5, 6), 16, torch.channels_last, torch.float64)
    scale, bias = torch.ones(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain(leaf, weight, scale, bias, SWISH), leaf, gradient.clone())
    other = gradient.contiguous()
    (found,) = torch.autograd.grad(joined(SWISH)(leaf, weight, scale, bias), leaf, other)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("of", [0, 1, 2])
def test_operands_with_derivatives_get_them(of: int) -> None:
    x, weight, gradient = operands((3, 4, 5, 6), 16, torch.channels_last)
    constants = [weight, torch.ones(16), torch.zeros(16)]
    leaf = constants[of].requires_grad_()
    weight, scale, bias = constants
    (expected,) = torch.autograd.grad(plain(x, weight, scale, bias, SWISH), leaf, gradient.clone())
    (found,) = torch.autograd.grad(joined(SWISH)(x, weight, scale, bias), leaf, gradient.clone())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
