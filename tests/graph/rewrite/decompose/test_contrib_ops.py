"""ONNX Runtime runs its own operators, so it is what their decomposition is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, decomposed, operators

MAP, TOKENS, VECTORS = {"x": ("N", 3, 6, 6)}, {"x": ("N", 4, 8)}, {"x": ("N", 8)}
CONSTANTS = {
    "w": weights(4, 3, 3, 3), "b": weights(4), "fc": weights(8, 5), "fc_t": weights(5, 8), "fc_b": weights(5),
    "b8": weights(8), "g8": weights(8, seed=1), "row": weights(1, 1, 4), "qkv": weights(8, 24), "qkv_b": weights(24),
    "m": weights(8, 8), "rows_first": weights(8, 2, 5), "ratio": np.float32(0.5), "one": np.array([1]),
}  # fmt: skip


def fused(body: str, shape: Mapping[str, Sequence[str | int]]) -> onnx.ModelProto:
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
    ("body", "reason"),
    [
        ('y = ms.FusedConv <activation = "Softplus"> (x, w)', "not one that is known"),
        ('y = ms.FusedGemm <activation = "Softplus"> (x, fc, b)', "not one that is known"),
        ("y, k = ms.BiasDropout (x, b8)  z = Cast <to = 1> (k)", "mask is read"),
        ("y, k = ms.SkipLayerNormalization (x, x, g8)  z = Neg (k)", "statistics"),
        ("y = ms.Attention <num_heads = 2> (x, x, qkv_b)", "not constant"),
        ("y = ms.Attention <num_heads = 2> (x, qkv, qkv_b, , x)", "has a past"),
        ("y, p = ms.Attention <num_heads = 2> (x, qkv, qkv_b)  z = Neg (p)", "has a past"),
        ("t = Exp (x)  y = ms.Attention <num_heads = 2> (x, qkv, qkv_b, t)", "masked"),
        (
            "s = ReduceSum <keepdims = 0> (x, one)  y = ms.Attention <num_heads = 2> (x, qkv, qkv_b, s)", "masked",
        ),
        ("y = ms.Attention (x, qkv, qkv_b)", "its inputs or attributes are not those"),
        ("y = ms.FusedMatMul (x)", "its inputs or attributes are not those"),
        ("y = ms.BiasSoftmax (x)", "its inputs or attributes are not those"),
        ("y = ms.MultiHeadAttention <num_heads = 2> (x)", "packed"),
        (
            "t = Transpose (x)  y = ms.MultiHeadAttention <num_heads = 2> (x, t, t)",
            "divided into heads",
        ),
        (
            "y = ms.MultiHeadAttention <num_heads = 2> (x, x, x, , , , x, x)",
            "has a past",
        ),
        ("y = ms.MultiHeadAttention <num_heads = 2> (x, x, x, , b)", "masked"),
        (
            "y, m = ms.EmbedLayerNormalization (x, , fc, fc, , b8, b8)  z = Neg (m)",
            "a mask that it was not given",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written_out_is_refused_with_the_reason(body: str, reason: str) -> None:
    graph, _ = decomposed(fused(body, TOKENS))
    (unknown,) = (node.unknown for node in graph.nodes if node.unknown)
    assert re.search(rf"node '.*': operator com.microsoft::\w+ .*{reason}.*; give", unknown)


def test_operators_without_a_decomposition_stay() -> None:
    graph, changes = decomposed(fused("y = ms.NoSuchOperator (x)", TOKENS))
    assert operators(graph) == ["com.microsoft::NoSuchOperator"]
    assert changes == ()


KEY_MASK = "k = Cast <to = 6> (hint)  "
TOKENS_AND_MASK = {"x": ("N", 4, 8), "hint": ("N", 4)}


def test_masks_of_attention() -> None:
    """Normal values are cast to integers, of which about half are below 1: those keys are hidden."""
    for masked in (
        "y = ms.Attention <num_heads = 2> (x, qkv, qkv_b, k)",
        "y = ms.Attention <num_heads = 2, unidirectional = 1> (x, qkv, qkv_b, k)",
        "y = ms.MultiHeadAttention <num_heads = 2, mask_filter_value = -100.0> (x, x, x, , k)",
    ):
        model = fused(KEY_MASK + masked, TOKENS_AND_MASK)
        graph, _ = decomposed(model)
        assert all(not node.domain for node in graph.nodes), masked
        assert computes_the_same(canonical(model).graph, model), masked


@pytest.mark.parametrize("attributes", ["num_heads = 2, unidirectional = 1", "num_heads = 4, unidirectional = 1"])
def test_causal_attention(attributes: str) -> None:
    model = fused(f"y = ms.Attention <{attributes}> (x, qkv, qkv_b)", TOKENS)
    graph, _ = decomposed(model)
    assert all(not node.domain for node in graph.nodes)
    assert computes_the_same(canonical(model).graph, model)


def test_a_mask_for_each_query() -> None:
    body = "k = Cast <to = 6> (hint)  y = ms.Attention <num_heads = 2> (x, qkv, qkv_b, k)"
    model = fused(body, {"x": ("N", 4, 8), "hint": ("N", 4, 4)})
    assert computes_the_same(canonical(model).graph, model)


EMBEDDED = {
    "x": ("N", 4),
    "hint": ("N", 4),
}
EMBED = "f = Abs (x)  i = Cast <to = 6> (f)  g = Greater (hint, zero)  k = Cast <to = 6> (g)  s = Sub (k, k)  "
TABLES = {
    "words": weights(9, 8),
    "places": weights(6, 8, seed=2),
    "kinds": weights(2, 8, seed=3),
    "zero": np.float32(0),
}


def embedding(body: str) -> onnx.ModelProto:
    model = fused(EMBED + body, EMBEDDED)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in TABLES.items()
    )
    return model


def test_embeddings_with_normalisation_and_the_lengths_that_attention_takes() -> None:
    model = embedding(
        "e, l = ms.EmbedLayerNormalization <epsilon = 0.001> (i, s, words, places, kinds, g8, b8, k)  "
        "y = ms.Attention <num_heads = 2> (e, qkv, qkv_b, l)"
    )
    graph, _ = decomposed(model)
    assert all(not node.domain for node in graph.nodes)
    assert computes_the_same(canonical(model).graph, model)


def test_embeddings_without_segments_and_mask() -> None:
    model = embedding("y, l = ms.EmbedLayerNormalization (i, , words, places, , g8, b8)")
    assert operators(decomposed(model)[0])[-1] == "LayerNormalization"
    assert computes_the_same(canonical(model).graph, model)


def test_convolution_with_channels_last() -> None:
    """ONNX Runtime runs it on few processors, so it is compared with the standard operators."""
    shape = {"x": ("N", 6, 6, 3)}
    filters = np.ascontiguousarray(CONSTANTS["w"].transpose(0, 2, 3, 1))
    body = 'y = com.microsoft.NhwcFusedConv <activation = "Relu", kernel_shape = [3, 3], strides = [2, 2]> (x, f, b)'
    model = network(body, shape, {"f": filters, "b": CONSTANTS["b"]})
    model.opset_import.add(domain="com.microsoft", version=1)
    standard = network(
        "t = Transpose <perm = [0, 3, 1, 2]> (x)  c = Conv <strides = [2, 2]> (t, w, b)  r = Relu (c)  "
        "y = Transpose <perm = [0, 2, 3, 1]> (r)",
        shape, CONSTANTS,
    )  # fmt: skip
    assert "Relu" in operators(decomposed(model)[0])
    assert computes_the_same(canonical(model).graph, standard)


def test_fused_nodes_in_branches_and_bodies() -> None:
    body = """
        y = If (flag) <
            then_branch = t () => (float[N, 4, 8] p) { p = com.microsoft.Gelu (x) },
            else_branch = e () => (float[N, 4, 8] r) { r = com.microsoft.QuickGelu (x) }
        >
    """
    model = network(body, TOKENS, {"flag": np.array(True)})
    model.opset_import.add(domain="com.microsoft", version=1)
    _, changes = decomposed(model)
    assert changes == ("written as standard operators: 1 Gelu and 1 QuickGelu",)
    assert operators(canonical(model).graph) == ["Gelu"]
    assert computes_the_same(canonical(model).graph, model)
