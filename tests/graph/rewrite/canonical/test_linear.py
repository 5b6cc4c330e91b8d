from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import linear
from aznas_onnx.graph.rewrite.rule import Attempt
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

VECTORS, TOKENS, MAP = {"x": ("N", 8)}, {"x": ("N", 5, 8)}, {"x": ("N", 3, 6, 6)}
CONSTANTS = {
    "w": weights(8, 4), "wt": weights(6, 8), "b": weights(4), "b1": weights(1, 4), "b6": weights(6),
    "w2": weights(6, 3),
    "k": weights(4, 3, 3, 3), "k_bias": weights(1, 4, 1, 1), "k_vector": weights(4), "rows": np.array([-1, 8]),
    "back": np.array([-1, 5, 3]), "back4": np.array([-1, 5, 2, 2]), "other": np.array([5, -1, 4]),
    "row": np.array([-1, 20]),
    "two": np.float32(2.0), "eighth": np.float32(0.125), "up": weights(3, 4, 2, 2),
}  # fmt: skip

JOINED = "r = Reshape (x, rows)  g = Gemm (r, w)  y = Reshape (g, back4)"


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        ("m = MatMul (x, w)  y = Add (m, b)", VECTORS, ["Gemm"]),
        ("m = MatMul (x, w)  y = Add (b1, m)", VECTORS, ["Gemm"]),
        ("y = MatMul (x, w)", VECTORS, ["Gemm"]),
        ("m = MatMul (x, w)  y = Add (m, b)", TOKENS, ["MatMul", "Add"]),
        ("c = Conv (x, k)  y = Add (c, k_bias)", MAP, ["Conv"]),
        ("c = ConvTranspose (x, up)  y = Add (k_bias, c)", MAP, ["ConvTranspose"]),
        ("r = Reshape (x, rows)  g = Gemm (r, w, b)  y = Reshape (g, back4)", TOKENS, ["MatMul", "Add", "Reshape"]),
        ("r = Reshape (x, rows)  g = Gemm (r, w, b)  y = Reshape (g, other)", TOKENS, ["MatMul", "Add", "Reshape"]),
        (JOINED, {"x": ("N", 5, 2, 4)}, ["Reshape", "MatMul", "Reshape"]),
        (JOINED, {"x": ("N", 10, 4)}, ["Reshape", "MatMul", "Reshape"]),
        (
            "r = Reshape (x, rows)  g = Gemm <transB = 1> (r, wt, b6)  a = Relu (g)  h = Gemm (a, w2)"
            "  y = Reshape (h, back)",
            TOKENS,
            ["MatMul", "Add", "Relu", "MatMul"],
        ),
    ],
)  # fmt: skip
def test_one_form(body: str, shape: dict[str, tuple[str | int, ...]], expected: list[str]) -> None:
    model = network(body, shape, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == expected
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    "body",
    [
        "s = Mul (q, eighth)  y = MatMul (s, kt)",
        "s = Mul (q, two)  t = Mul (kt, eighth)  y = MatMul (s, t)",
        "t = Mul (kt, eighth)  y = MatMul (q, t)",
        "m = MatMul (q, kt)  y = Mul (m, eighth)",
        "m = MatMul (q, kt)  y = Div (m, two)",
    ],
)
def test_the_scale_of_attention_is_on_its_queries(body: str) -> None:
    model = network(f"q = Relu (x)  kt = Transpose <perm = [0, 2, 1]> (x)  {body}", TOKENS, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Relu", "Transpose", "Mul", "MatMul"]
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize("tokens", [13, 65, 17 * 13])
def test_tokens_whose_number_looks_like_a_batch(tokens: int) -> None:
    """A ViT has 65 tokens for 64 patches: five times the batch size at which graphs are usually walked."""
    body = "r = Reshape (x, rows)  g = Gemm (r, w, b)  y = Reshape (g, many)"
    model = network(body, {"x": ("N", tokens, 2, 4)}, {**CONSTANTS, "many": np.array([-1, tokens, 4])})
    result = canonical(model)
    assert operators(result.graph) == ["Reshape", "MatMul", "Add"]
    assert computes_the_same(result.graph, model)


def test_the_weight_keeps_its_root() -> None:
    body = "r = Reshape (x, rows)  g = Gemm <transB = 1> (r, wt)  a = Relu (g)  h = Gemm (a, w2)  y = Reshape (h, back)"
    graph = canonical(network(body, TOKENS, CONSTANTS)).graph
    weight = graph.constants[graph.nodes[0].inputs[1]]
    assert weight.shape == (8, 6)
    assert weight.sources == frozenset({"wt"})


@pytest.mark.parametrize(
    ("body", "shape", "attempt", "operator", "reason"),
    [
        ("c = Conv (x, k, k_vector)  y = Add (c, k_bias)", MAP, linear._bias_of_convolution, "Add", "bias already"),
        ("c = Relu (x)  y = Add (c, c)", MAP, linear._bias_of_convolution, "Add", "no convolution"),
        ("c = Conv (x, k)  y = Add (c, two)", MAP, linear._bias_of_convolution, "Add", "constant per channel"),
        ("y = MatMul (x, w)", TOKENS, linear._linear_on_vectors, "MatMul", "tokens"),
        (
            "t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul (x, t)", TOKENS, linear._linear_on_vectors, "MatMul",
            "no constant matrix",
        ),
        (
            "r = Reshape (x, rows)  g = Gemm (r, w)  y = Reshape (g, row)", {"x": ("N", 10, 4)},
            linear._linear_on_tokens, "Reshape", "do not come back",
        ),
        (
            "r = Reshape (x, rows)  g = Softmax <axis = 0> (r)  y = Gemm (g, w)", TOKENS,
            linear._linear_on_tokens, "Reshape", "not a layer on each token",
        ),
        ("y = MatMul (x, w)", TOKENS, linear._scaled_product, "MatMul", "linear layer"),
    ],
)  # fmt: skip
def test_reasons_to_decline(
    body: str, shape: dict[str, tuple[str | int, ...]], attempt: Attempt, operator: str, reason: str
) -> None:
    declined = outcome(network(body, shape, CONSTANTS), attempt, operator)
    assert declined is not None
    assert reason in declined
