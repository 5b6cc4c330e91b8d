from __future__ import annotations

import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.operators.einsum_macs import einsum_macs


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 24),
        ("ij,jk", [(2, 3), (3, 4)], 24),  # implicit result: the labels that occur once
        ("b i j , b j k -> b i k", [(2, 3, 4), (2, 4, 5)], 120),
        ("...ij,...jk->...ik", [(6, 7, 2, 3), (6, 7, 3, 4)], 6 * 7 * 24),
        ("...ij,jk->...ik", [(6, 2, 3), (3, 4)], 6 * 24),
        ("...ij,...jk", [(6, 2, 3), (6, 3, 4)], 6 * 24),
        ("i,i->", [(5,), (5,)], 5),
        ("bhqd,bhkd->bhqk", [(1, 8, 10, 16), (1, 8, 12, 16)], 8 * 10 * 12 * 16),
        ("bchw,c->bchw", [(1, 3, 4, 4), (3,)], 0),  # a scale: elementwise
        ("i,j->ij", [(5,), (6,)], 0),  # an outer product: no sum
        ("ij->ji", [(2, 3)], 0),
        ("ij->", [(2, 3)], 0),
        ("ii->i", [(3, 3)], 0),
        ("ijk,jl->il", [(2, 3, 100), (3, 4)], 24),  # k is summed before the product
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 24 + 2 * 4 * 5),  # pairs from the left
        ("ij,ij,ij->i", [(2, 3), (2, 3), (2, 3)], 6),  # only the last product sums
        ("bi,bj->bij", [(1, 3), (4, 5)], 0),
        ("bij,bjk->bik", [(1, 3, 4), (8, 4, 5)], 8 * 60),  # an axis of size one broadcasts
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert einsum_macs(equation, shapes) == expected


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk->ik", [(2, 3)]), ("ijk->i", [(2, 3)])])
def test_an_equation_that_does_not_fit(equation: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ModelError, match="Einsum"):
        einsum_macs(equation, shapes)
