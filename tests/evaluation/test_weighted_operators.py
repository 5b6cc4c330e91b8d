from __future__ import annotations

import onnx
import pytest

from aznas_onnx.evaluation.weighted_operators import count_weighted_operators
from aznas_onnx.spaces import get


def test_products_of_activations_have_no_weights() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 4, 4] x) => (float[N, 4, 4] y)
        <float[4, 4] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, int64[2] shape = {4, 4}>
        {
            query = MatMul (x, w)
            attention = MatMul (query, x)
            made = ConstantOfShape (shape)
            y = MatMul (attention, made)
        }
    """)
    assert count_weighted_operators(model) == 2


@pytest.mark.parametrize(
    ("operation", "inside"), [("skip_connect", 0), ("avg_pool_3x3", 0), ("none", 0), ("nor_conv_1x1", 6 * 15)]
)
def test_cells_by_hand(operation: str, inside: int) -> None:
    space = get("nb201")
    edges = [[f"{operation}~{source}|" for source in range(node)] for node in (1, 2, 3)]
    model = space.build(space.parse("+".join("|" + "".join(node) for node in edges)))
    assert count_weighted_operators(model) == 1 + 2 * 3 + 1 + inside  # stem, reductions, classifier
