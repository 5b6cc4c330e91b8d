"""Mixtures of experts: products of two activations that mix no positions."""

from __future__ import annotations

import pytest

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import prepare
from tests.blocks.sketch import kinds
from tests.graph.builders import network, weights

TOKENS, WIDTH, EXPERTS, HIDDEN = 10, 8, 4, 12
EINSUM = """
    a = Einsum <equation = "btd,edh->beth"> (n, w1)
    r = Relu (a)
    z = Einsum <equation = "beth,ehd->betd"> (r, w2)
    o = Einsum <equation = "betd,bte->btd"> (z, p)
"""
MATMUL = """
    u = Unsqueeze (n, one)
    a = MatMul (u, w1)
    r = Relu (a)
    z = MatMul (r, w2)
    zt = Transpose <perm = [0, 2, 1, 3]> (z)
    pu = Unsqueeze (p, two)
    q = MatMul (pu, zt)
    o = Squeeze (q, two)
"""


@pytest.mark.parametrize("experts", [EINSUM, MATMUL], ids=["einsum", "matmul"])
def test_experts_weighted_at_each_position_are_an_mlp_and_no_attention(experts: str) -> None:
    body = f"""
        one = Constant <value_ints = [1]> ()
        two = Constant <value_ints = [2]> ()
        i = MatMul (x, wi)
        n = LayerNormalization (i, scale)
        g = MatMul (n, wg)
        p = Softmax (g)
        {experts}
        s = Add (i, o)
        y = MatMul (s, wo)
    """
    constants = {
        "wi": weights(6, WIDTH),
        "scale": weights(WIDTH),
        "wg": weights(WIDTH, EXPERTS),
        "w1": weights(EXPERTS, WIDTH, HIDDEN),
        "w2": weights(EXPERTS, HIDDEN, WIDTH),
        "wo": weights(WIDTH, 3),
    }
    model = prepare(network(body, {"x": ("n", TOKENS, 6)}, constants))
    assert kinds(find_blocks(model)) == {"stem": 1, "mlp": 1}


def test_attention_without_weights_of_its_own_has_a_reason_with_a_subject() -> None:
    body = """
        a = MatMul (x, w)
        t = Transpose <perm = [0, 2, 1]> (a)
        s = MatMul (a, t)
        p = Softmax (s)
        o = MatMul (p, a)
        b = MatMul (o, v)
        r = Relu (b)
        y = MatMul (r, u)
    """
    model = prepare(network(body, {"x": ("n", 9, 6)}, {"w": weights(6, 8), "v": weights(8, 7), "u": weights(7, 3)}))
    for block in find_blocks(model).blocks:
        assert block.reason.startswith(("MatMul '", "two paths"))
