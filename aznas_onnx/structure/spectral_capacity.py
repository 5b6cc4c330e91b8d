"""The spectral capacity of a random matrix, in closed form (Zhu, Zhao and Lu, 2026: Neural Spectral Capacity)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.operators.sets import CONVOLUTIONS

__all__ = ["capacity_of_matrix", "spectral_capacity"]


def spectral_capacity(node: Node, shape: Sequence[int]) -> float:
    """Return the spectral capacity of a weight: the sum over its matrices.

    A convolution has one matrix a group, output channels by input channels times positions of the kernel. Of any other
    weight the last two axes are a matrix.
    """
    if node in CONVOLUTIONS:
        groups = node.attributes.get("group", 1)
        count = groups if isinstance(groups, int) else 1
        return count * capacity_of_matrix(max(shape[0] // count, 1), math.prod(shape[1:]))
    if len(shape) < 2:
        return 0.0
    return math.prod(shape[:-2]) * capacity_of_matrix(shape[-2], shape[-1])


def capacity_of_matrix(rows: int, columns: int) -> float:
    """Return ``E ln det(I + W^T W)`` of a matrix whose independent elements have variance 2 / (rows + columns).

    The limit of a large matrix by the law of Marchenko and Pastur, in the closed form of Verdu and Shamai (Spectral
    efficiency of CDMA with random spreading, 1999). For 8 x 8 it is 1 % above the mean of such matrices.
    """
    low, high = sorted((rows, columns))
    if low == 0:
        return 0.0
    ratio, scale = low / high, 2.0 * high / (rows + columns)
    root = math.sqrt(ratio)
    gap = math.sqrt(scale * (1 + root) ** 2 + 1) - math.sqrt(scale * (1 - root) ** 2 + 1)
    quarter = gap * gap / 4
    return low * (
        math.log(1 + scale - quarter) + math.log(1 + scale * ratio - quarter) / ratio - quarter / (scale * ratio)
    )
