from __future__ import annotations

import math

import pytest
import torch

from aznas_onnx.proxies.engine import eigenvalues
from aznas_onnx.proxies.engine.eigenvalues import spectra


def symmetric(width: int) -> torch.Tensor:
    rows = torch.randn(2 * width, width, generator=torch.Generator().manual_seed(width))
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("is_there", [True, False])
def test_wide_and_narrow_matrices_have_their_eigenvalues(is_there, monkeypatch):
    if not is_there:
        monkeypatch.setattr(eigenvalues, "_openblas", lambda: None)
    matrices = [symmetric(width) for width in (1, 5, 300, 5, 256, 300)]
    for found, matrix in zip(spectra(matrices), matrices, strict=True):
        assert torch.allclose(found.double(), torch.linalg.eigvalsh(matrix.double()), atol=5e-6)


@pytest.mark.parametrize("width", [8, 300])
def test_only_the_lower_triangle_is_read(width):
    matrix = symmetric(width)
    (expected,) = spectra([matrix])
    (found,) = spectra([matrix.tril() + torch.full_like(matrix, math.nan).triu(1)])
    assert torch.equal(found, expected)


def test_matrices_are_left_as_they_are():
    matrices = [symmetric(width) for width in (8, 300)]
    before = [matrix.clone() for matrix in matrices]
    spectra(matrices)
    assert all(map(torch.equal, matrices, before))


@pytest.mark.parametrize("width", [2, 300])
def test_a_matrix_that_is_not_finite_has_no_eigenvalues(width):
    (found,) = spectra([torch.full((width, width), math.nan)])
    assert found.shape == (width,)
    assert found.isnan().all()


def test_threads_are_as_before():
    library = eigenvalues._openblas()
    counts = [torch.get_num_threads(), library and library.get()]
    spectra([symmetric(300)])
    assert [torch.get_num_threads(), library and library.get()] == counts


def test_one_matrix_that_is_not_finite_leaves_the_others_alone():
    good = torch.diag(torch.tensor([1.0, 2.0]))
    first, second, third = spectra([good, torch.full((2, 2), math.nan), torch.diag(torch.tensor([3.0]))])
    assert first.tolist() == [1.0, 2.0]
    assert second.isnan().all()
    assert third.tolist() == [3.0]
