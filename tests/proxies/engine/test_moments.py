from __future__ import annotations

import math

import pytest
import torch

from aznas_onnx.proxies.engine import moments
from aznas_onnx.proxies.engine.eigenvalues import spectra
from aznas_onnx.proxies.engine.moments import covariance, entropy, jacobian_gram, squared_norm
from aznas_onnx.proxies.engine.positions import match


def features_with(spectrum: list[float], samples: int) -> torch.Tensor:
    """Exactly centred features whose covariance has the given eigenvalues."""
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(samples, len(spectrum), generator=source, dtype=torch.float64)
    directions, _ = torch.linalg.qr(noise - noise.mean(0))
    rotation, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=source, dtype=torch.float64))
    scale = torch.tensor(spectrum, dtype=torch.float64).mul(samples).sqrt()
    return ((directions * scale) @ rotation).float()


def test_entropy_of_isotropic_features_is_the_logarithm_of_their_width():
    (values,) = spectra([covariance(features_with([2.0] * 10, 500))])
    assert float(entropy(values)[0]) == pytest.approx(math.log(10), rel=1e-5)


def test_entropy_of_one_direction_is_zero():
    assert float(entropy(torch.tensor([0.0, 0.0, 3.0]))[0]) == pytest.approx(0.0, abs=1e-6)


def test_entropy_is_that_of_the_eigenvalues_shares():
    (values,) = spectra([covariance(features_with([1.0, 3.0, 4.0], 100) + 50.0)])  # the mean is taken away
    shares = [1 / 8, 3 / 8, 4 / 8]
    assert float(entropy(values)[0]) == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-4)


def test_negative_eigenvalues_count_as_zero_and_are_reported():
    value, is_singular = entropy(torch.tensor([-1e-5, 1.0, 1.0]))
    assert float(value) == pytest.approx(math.log(2), rel=1e-4)
    assert is_singular


def test_eigenvalues_of_zero_are_no_sign_of_rounding():
    value, is_singular = entropy(torch.tensor([0.0, -1e-9, 1.0, 1.0]).sort().values)
    assert float(value) == pytest.approx(math.log(2), rel=1e-5)
    assert not is_singular


@pytest.mark.parametrize("shape", [(64, 40), (40, 64), (4, 5, 6, 300), (1, 2, 2, 5), (2, 3, 600)])
def test_covariance_has_the_eigenvalues_of_the_definition(shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(1)).exp()
    rows = features.flatten(0, -2).double()
    rows = rows - rows.mean(0)
    expected = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    (found,) = spectra([covariance(features)])
    kept = min(len(found), len(expected))
    assert torch.allclose(found[-kept:].double(), expected[-kept:], atol=1e-5 * float(expected[-1]))


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.5, 2.9, 3.0, 50.0])
@pytest.mark.parametrize("shape", [(40, 8, 8, 20), (9, 6, 6, 300)])
def test_covariance_of_features_with_a_mean(mean, shape, monkeypatch):
    monkeypatch.setattr(moments, "_PIECE_ELEMENTS", 2**15)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(7)) + mean
    rows = features.flatten(0, -2).double()
    expected = torch.linalg.eigvalsh(torch.cov(rows.T, correction=0))
    (found,) = spectra([covariance(features)])
    assert torch.allclose(found.double(), expected, rtol=0, atol=5e-6 * float(expected[-1]))


def test_covariance_of_constant_features_is_zero():
    assert not covariance(torch.full((50, 4, 4, 3), 0.1)).diagonal().abs().max() > 1e-12


def test_covariance_does_not_depend_on_the_memory_order():
    features = torch.randn(50, 16, 200, generator=torch.Generator().manual_seed(8)).movedim(0, 1)
    (expected,) = spectra([covariance(features.contiguous())])
    (found,) = spectra([covariance(features)])
    assert torch.allclose(found, expected, atol=1e-6 * float(expected[-1]))


@pytest.mark.parametrize(
    ("widths", "rows"), [((16, 16), 2**15), ((16, 40), 2**15 + 16), ((96, 3), 2**15), ((8, 8), 99)]
)
def test_products_of_narrow_matrices(widths, rows):
    source = torch.Generator().manual_seed(0)
    left, right = (torch.randn(rows, width, generator=source) for width in widths)
    for one, other in ((left, right), (left, right.t().contiguous().t())):
        total = torch.ones(widths)
        moments._add_product(total, one, other)
        expected = 1.0 + left.double().t() @ right.double()
        torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("width", [1, 16, 100, 128, 129, 160, 257, 300])
def test_symmetric_products_have_the_whole_lower_triangle(width):
    matrix = torch.randn(40, width, generator=torch.Generator().manual_seed(9))
    found = moments._symmetric_product(matrix)
    assert torch.allclose(found.tril(), (matrix.T @ matrix).tril(), atol=1e-5)


def norm(values: torch.Tensor) -> float:
    return float(squared_norm(values).sqrt())


@pytest.mark.parametrize(
    ("shape_in", "shape_out"),
    [
        ((6, 8, 8, 5), (6, 8, 8, 5)),
        ((6, 8, 8, 5), (6, 4, 4, 9)),
        ((6, 4, 4, 9), (6, 8, 8, 5)),
        ((3, 2, 2, 40), (3, 2, 2, 30)),  # fewer samples than channels
        ((3, 4, 4, 40), (3, 2, 2, 30)),
        ((2, 8, 8, 300), (2, 8, 8, 520)),  # fewer samples than channels, and wide
        ((9, 8, 8, 300), (9, 8, 8, 520)),
        ((8, 7, 7, 410), (8, 7, 7, 420)),  # fewer samples than channels, and the samples are many
        ((50, 7, 7, 4), (50, 7)),
        ((2, 14, 14, 6), (2, 196, 8)),
    ],
)
def test_gram_has_the_squared_spectral_norm_of_the_definition(shape_in, shape_out):
    source = torch.Generator().manual_seed(2)
    g_in = torch.randn(shape_in, generator=source)
    g_out = torch.randint(0, 2, shape_out, generator=source) * 2.0 - 1.0
    matching = match(shape_in[1:-1], shape_out[1:-1], are_tokens=False)
    gram, _, is_identity = jacobian_gram(g_in, g_out, matching)

    def rows(offsets):
        return torch.cat([offset.flatten(0, -2) for offset in offsets], dim=1).double()

    left, right = rows(matching.offsets_in(g_in)), rows(matching.offsets_out(g_out))
    expected = torch.linalg.svdvals(left.T @ right / len(left)).max()
    (values,) = spectra([gram])
    assert norm(values) == pytest.approx(float(expected), rel=1e-4)
    assert not is_identity


@pytest.mark.parametrize("samples", [40, 64, 256, 2000])  # 40 are fewer than channels
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_signal_s_share_of_the_estimate_is_known(samples, share):
    source = torch.Generator().manual_seed(5)
    channels = 64
    true = share * torch.randn(channels, channels, generator=source)
    signs = torch.randint(0, 2, (samples, channels), generator=source) * 2.0 - 1.0
    g_in = signs @ true + torch.randn(samples, channels, generator=source)  # what comes from other positions
    estimate = signs.T @ g_in / samples
    _, signal, _ = jacobian_gram(g_in, signs, match((), (), are_tokens=False), with_signal=True)
    expected = max(float(true.square().sum() / estimate.square().sum()), 0.02)
    assert float(signal) == pytest.approx(expected, abs=0.06)


def test_taking_the_noise_out_brings_few_samples_near_many():
    source = torch.Generator().manual_seed(6)
    channels = 64
    true = torch.randn(channels, channels, generator=source) / 8
    expected = float(torch.linalg.matrix_norm(true, 2))
    for samples in (48, 128, 512):
        signs = torch.randint(0, 2, (samples, channels), generator=source) * 2.0 - 1.0
        g_in = signs @ true + 2.0 * torch.randn(samples, channels, generator=source)
        gram, signal, _ = jacobian_gram(g_in, signs, match((), (), are_tokens=False), with_signal=True)
        square = squared_norm(spectra([gram])[0])
        assert abs(float((square * signal).sqrt()) - expected) < 0.4 * abs(float(square.sqrt()) - expected)


def test_few_samples_of_equal_signs_do_not_break_the_factorisation():
    g_out = torch.ones(3, 10)  # all rows equal: their products are singular
    gram, _, _ = jacobian_gram(torch.randn(3, 12), g_out, match((), (), are_tokens=False))
    (values,) = spectra([gram])
    assert math.isfinite(norm(values))
