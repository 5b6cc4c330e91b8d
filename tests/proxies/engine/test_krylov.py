from __future__ import annotations

import math

import pytest
import torch

from aznas_onnx.proxies.engine.eigenvalues import spectra
from aznas_onnx.proxies.engine.krylov import krylov_matrix
from aznas_onnx.proxies.engine.moments import squared_norm


def of_gram(matrix: torch.Tensor) -> torch.Tensor:
    """The restriction of ``M^T M``."""
    return krylov_matrix(lambda v: torch.mv(matrix.T, torch.mv(matrix, v)), matrix.shape[1], matrix.device)


def norm(matrix: torch.Tensor) -> float:
    (values,) = spectra([of_gram(matrix)])
    return float(squared_norm(values).sqrt())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)) / math.sqrt(shape[-1])


@pytest.mark.parametrize(
    ("matrix", "tolerance"),
    [
        (noise(600, 600), 1e-5),  # an estimate of zero
        (torch.eye(600) + 0.5 * noise(600, 600), 1e-5),  # a residual block
        (noise(2400, 600), 1e-5),  # unshuffled by a stride of 2
        (torch.diag(torch.linspace(0, 1, 600)), 1e-4),  # many large ones close together
        (torch.diag(1 - torch.linspace(0, 1, 600) ** 2), 1e-4),
        (torch.eye(600), 1e-5),
        (noise(600, 1) @ noise(1, 600), 1e-5),
        (torch.zeros(600, 600), 1e-5),
        (1e-12 * noise(600, 600), 1e-5),
    ],
)
def test_the_largest_eigenvalue_of_wide_matrices(matrix, tolerance):
    expected = float(torch.linalg.svdvals(matrix.double()).max())
    assert norm(matrix) == pytest.approx(expected, rel=tolerance, abs=1e-30)


def test_wide_matrices_that_are_not_finite_have_no_norm():
    assert math.isnan(norm(torch.full((600, 600), math.nan)))


def test_it_stops_when_the_residual_is_small():
    products = []

    def apply(vector: torch.Tensor) -> torch.Tensor:
        products.append(vector)
        return torch.mv(matrix.T, torch.mv(matrix, vector))

    matrix = noise(600, 600)
    small = krylov_matrix(apply, 600, matrix.device)
    assert len(products) == len(small) + 1 < 60
    assert torch.linalg.eigvalsh(small)[-1] == pytest.approx(float(torch.linalg.svdvals(matrix)[0]) ** 2, rel=2e-6)


def test_an_operator_narrower_than_the_steps():
    assert norm(noise(40, 20)) == pytest.approx(float(torch.linalg.svdvals(noise(40, 20))[0]), rel=1e-5)


def test_the_largest_eigenvalue_does_not_depend_on_the_default_device():
    matrix = torch.randn(20, 12, generator=torch.Generator().manual_seed(5))
    expected = of_gram(matrix)
    before = torch.get_default_device()
    torch.set_default_device("meta")  # whatever is made there has no values
    try:
        found = of_gram(matrix)
    finally:
        torch.set_default_device(None if before.type == "cpu" else before)
    assert torch.equal(found, expected)
