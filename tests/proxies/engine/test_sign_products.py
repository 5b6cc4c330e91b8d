from __future__ import annotations

import math

import pytest
import torch

from aznas_onnx.proxies.engine import moments, sign_products
from aznas_onnx.proxies.engine.eigenvalues import spectra
from aznas_onnx.proxies.engine.moments import jacobian_gram, squared_norm
from aznas_onnx.proxies.engine.positions import match
from aznas_onnx.proxies.engine.sign_products import add_sign_product, multiplies_bytes, rounded, unit_of

needs_bytes = pytest.mark.skipif(not multiplies_bytes(), reason="this CPU does not multiply bytes")


def gradients(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def signs(*shape: int) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)) * 2.0 - 1.0


def values(octets: torch.Tensor, unit: float) -> torch.Tensor:
    lower, upper = octets.unflatten(1, (-1, 2)).double().unbind(-1)
    return (256 * upper + lower) * unit


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_gradients_are_rounded_to_their_units(scale):
    exact = gradients(50, 40) * scale
    unit = unit_of(exact)
    assert unit == pytest.approx(float(exact.abs().max()) / 32_639)
    assert (values(rounded(exact, unit), unit) - exact).abs().max() <= 0.501 * unit


def test_both_bounds_of_the_units_are_two_bytes():
    exact = torch.tensor([[-1.0, 1.0, 0.0, 128 / 32_639, -128 / 32_639, 127 / 32_639]])
    assert torch.allclose(values(rounded(exact, unit_of(exact)), unit_of(exact)), exact.double(), atol=1e-7)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_gradients_without_units_are_left_as_they_are(bad):
    assert unit_of(torch.full((10, 4), bad)) is None


def test_gradients_with_a_high_peak_are_left_as_they_are():
    exact = gradients(5000, 4)
    exact[7, 2] = 1e4
    assert unit_of(exact) is None


@needs_bytes
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_products_are_those_of_the_rounded_gradients(order):
    exact = gradients(20, 30, 40)
    exact = exact.permute(order).contiguous().permute([order.index(axis) for axis in range(3)])
    right = signs(600, 50)
    total = torch.ones(40, 50)
    unit = unit_of(exact)
    octets = rounded(exact, unit)
    add_sign_product(total, octets, right.to(torch.int8), unit)
    assert torch.allclose(total.double(), values(octets, unit).T @ right.double() + 1.0, rtol=1e-6, atol=1e-5)


@needs_bytes
def test_the_largest_sums_do_not_overflow():
    count, unit = sign_products._MOST_SAMPLES + 5, 1 / 32_639
    total = torch.zeros(1, 1)
    add_sign_product(total, rounded(torch.ones(count, 1), unit), torch.ones(count, 1, dtype=torch.int8), unit)
    assert float(total) == pytest.approx(count, rel=1e-6)


@pytest.mark.parametrize(
    ("shape_in", "shape_out"),
    [
        ((8, 10, 10, 200), (8, 10, 10, 230)),
        ((9, 18, 18, 192), (9, 9, 9, 200)),
        ((2, 4, 4, 300), (2, 4, 4, 200)),  # fewer samples than channels
    ],
)
def test_estimates_in_integers_and_in_float_are_the_same(shape_in, shape_out, monkeypatch):
    matching = match(shape_in[1:-1], shape_out[1:-1], are_tokens=False)
    found = []
    for multiplies in {multiplies_bytes(), False}:
        monkeypatch.setattr(moments, "multiplies_bytes", lambda multiplies=multiplies: multiplies)
        gram = jacobian_gram(gradients(*shape_in), signs(*shape_out), matching, with_signal=True)
        found.append(float(squared_norm(spectra([gram.matrix])[0]).sqrt() * gram.signal))
    assert found == pytest.approx([found[0]] * len(found), rel=1e-5)


def test_a_cpu_without_byte_products_is_known(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert not multiplies_bytes.__wrapped__()
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported")
    assert not multiplies_bytes.__wrapped__()
