"""ONNX Runtime runs its own operators, so it is what their decomposition is compared with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx.graph.rewrite import microsoft
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.rewriting import Attempt
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, decomposed, operators

MAP, TOKENS, VECTORS = {"x": ("N", 3, 6, 6)}, {"x": ("N", 4, 8)}, {"x": ("N", 8)}
CONSTANTS = {
    "w": weights(4, 3, 3, 3), "b": weights(4), "fc": weights(8, 5), "fc_t": weights(5, 8), "fc_b": weights(5),
    "b8": weights(8), "g8": weights(8, seed=1), "row": weights(1, 1, 4), "qkv": weights(8, 24), "qkv_b": weights(24),
    "m": weights(8, 8), "rows_first": weights(8, 2, 5), "ratio": np.float32(0.5),
}  # fmt: skip


def fused(body: str, shape: dict[str, tuple[str | int, ...]]) -> onnx.ModelProto:
    model = network(body.replace("ms.", "com.microsoft."), shape, CONSTANTS)
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        ('y = ms.FusedConv <activation = "Relu", kernel_shape = [3, 3]> (x, w, b)', MAP, ["Conv", "Relu"]),
        (
            'y = ms.FusedConv <activation = "LeakyRelu", activation_params = [0.2], strides = [2, 2], '
            "kernel_shape = [3, 3]> (x, w)",
            MAP, ["Conv", "LeakyRelu"],
        ),
        (
            'y = ms.FusedConv <activation = "Clip", activation_params = [0.0, 6.0], kernel_shape = [3, 3]> (x, w, b)',
            MAP, ["Conv", "Clip"],
        ),
        (
            'y = ms.FusedConv <activation = "HardSigmoid", activation_params = [0.25, 0.5], '
            "kernel_shape = [3, 3]> (x, w, b)",
            MAP, ["Conv", "HardSigmoid"],
        ),
        (
            'z = Conv (x, w)  y = ms.FusedConv <activation = "Relu", kernel_shape = [3, 3]> (x, w, b, z)',
            MAP, ["Conv", "Conv", "Add", "Relu"],
        ),
        ('y = ms.FusedGemm <activation = "Relu", transB = 1> (x, fc_t, fc_b)', VECTORS, ["Gemm", "Relu"]),
        (
            'y = ms.FusedGemm <activation = "LeakyRelu", activation_alpha = 0.3> (x, fc, fc_b)', VECTORS,
            ["Gemm", "LeakyRelu"],
        ),
        ("y = ms.FusedMatMul <alpha = 0.5, transB = 1> (x, x)", TOKENS, ["Einsum", "MatMul", "Mul"]),
        ("y = ms.FusedMatMul <transA = 1> (x, x)", TOKENS, ["Einsum", "MatMul"]),
        ("y = ms.FusedMatMul <transB = 1> (x, fc_t)", TOKENS, ["Transpose", "MatMul"]),
        ("t = Transpose <perm = [0, 2, 1]> (x)  y = ms.FusedMatMul (t, x)", TOKENS, ["Transpose", "MatMul"]),
        ("y = ms.BiasGelu (x, b8)", TOKENS, ["Add", "Gelu"]),
        ("y = ms.Gelu (x)", TOKENS, ["Gelu"]),
        ("y = ms.FastGelu (x, b8)", TOKENS, ["Add", "Gelu"]),
        ("y = ms.QuickGelu <alpha = 1.702> (x)", TOKENS, ["Swish"]),
        ("y = ms.SkipLayerNormalization <epsilon = 0.001> (x, x, g8, b8)", TOKENS, ["Add", "LayerNormalization"]),
        (
            "y = ms.SkipLayerNormalization <epsilon = 0.001> (x, x, g8, b8, b8)", TOKENS,
            ["Add", "Add", "LayerNormalization"],
        ),
        ("y = ms.SkipSimplifiedLayerNormalization (x, x, g8)", TOKENS, ["Add", "RMSNormalization"]),
        ("y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.001> (x, g8)", TOKENS, ["RMSNormalization"]),
    ],
)  # fmt: skip
def test_decomposed(body: str, shape: dict[str, tuple[str | int, ...]], expected: list[str]) -> None:
    model = fused(body, shape)
    graph, changes = decomposed(model)
    assert operators(graph) == expected
    assert "written as standard operators" in changes[0]
    assert computes_the_same(canonical(model).graph, model)


@pytest.mark.parametrize(
    ("body", "standard"),
    [
        ("y = ms.BiasDropout (x, b8, x, ratio)", "a = Add (x, b8)  y = Add (a, x)"),
        ("y = ms.BiasSoftmax <axis = 2, is_inner_broadcast = 0> (x, b8)", "a = Add (x, b8)  y = Softmax (a)"),
    ],
)
def test_what_runs_on_gpus_only(body: str, standard: str) -> None:
    graph = canonical(fused(body, TOKENS)).graph
    assert computes_the_same(graph, network(standard, TOKENS, CONSTANTS))


def test_the_sum_of_a_skip_normalisation_is_an_output_of_its_own() -> None:
    model = fused("y, , , s = ms.SkipLayerNormalization <epsilon = 0.001> (x, x, g8)  z = Neg (s)", TOKENS)
    model.graph.output[0].name = "y"
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "z"
    graph, _ = decomposed(model)
    assert operators(graph) == ["Add", "LayerNormalization", "Neg"]
    assert computes_the_same(canonical(model).graph, model)


def test_attention_with_its_projection() -> None:
    model = fused("y = ms.Attention <num_heads = 2> (x, qkv, qkv_b)", TOKENS)
    graph, _ = decomposed(model)
    assert operators(graph).count("MatMul") == 3
    assert all(not node.domain for node in graph.nodes)
    assert computes_the_same(canonical(model).graph, model)


@pytest.mark.parametrize("operands", ["(q, k, v)", "(q, k, v, qkv_b)"])
def test_multi_head_attention(operands: str) -> None:
    body = f"q = MatMul (x, m)  k = Add (q, x)  v = Add (k, b8)  y = ms.MultiHeadAttention <num_heads = 2> {operands}"
    model = fused(body, TOKENS)
    graph, _ = decomposed(model)
    assert all(not node.domain for node in graph.nodes)
    assert computes_the_same(canonical(model).graph, model)


def test_transposed_batch() -> None:
    """The rows of both operands come before the batch axes."""
    shape = {"x": (3, "N", 4)}
    model = fused("t = Identity (x)  y = ms.FusedMatMul <transBatchA = 1, transBatchB = 1, transB = 1> (t, x)", shape)
    graph, _ = decomposed(model)
    assert [node.attributes.get("equation") for node in graph.nodes[1:3]] == ["i...k->...ik", "i...k->...ki"]


def test_layer_normalisation_before_onnx_had_it() -> None:
    model = network("y = LayerNormalization <axis = -1> (x, g8, b8)", TOKENS, CONSTANTS, opset=13)
    graph, _ = decomposed(model)
    assert graph.nodes[0].version == 17


@pytest.mark.parametrize(
    ("body", "attempt", "reason"),
    [
        ('y = ms.FusedConv <activation = "Softplus"> (x, w)', microsoft._fused_conv, "not one that is known"),
        ('y = ms.FusedGemm <activation = "Softplus"> (x, fc, b)', microsoft._fused_gemm, "not one that is known"),
        ("y, k = ms.BiasDropout (x, b8)  z = Cast <to = 1> (k)", microsoft._bias_dropout, "mask is read"),
        ("y, k = ms.SkipLayerNormalization (x, x, g8)  z = Neg (k)", microsoft._skip_normalisation, "statistics"),
        ("y = ms.Attention <num_heads = 2> (x, x, qkv_b)", microsoft._attention, "not constant"),
        ("y = ms.Attention <num_heads = 2, unidirectional = 1> (x, qkv, qkv_b)", microsoft._attention, "masked"),
        ("y = ms.MultiHeadAttention <num_heads = 2> (x)", microsoft._multi_head_attention, "packed"),
        (
            "t = Transpose (x)  y = ms.MultiHeadAttention <num_heads = 2> (x, t, t)", microsoft._multi_head_attention,
            "divided into heads",
        ),
        (
            "y = ms.MultiHeadAttention <num_heads = 2> (x, x, x, , m)", microsoft._multi_head_attention,
            "masked",
        ),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, attempt: Attempt, reason: str) -> None:
    graph, _ = decomposed(fused(body, TOKENS))
    editor = Editor(graph)
    declined = attempt(editor, next(node for node in editor.nodes() if node.domain))
    assert declined is not None
    assert reason in declined


def test_operators_without_a_decomposition_stay() -> None:
    graph, changes = decomposed(fused("y = ms.NoSuchOperator (x)", TOKENS))
    assert operators(graph) == ["com.microsoft::NoSuchOperator"]
    assert changes == ()
