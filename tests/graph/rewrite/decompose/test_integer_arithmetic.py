"""Integer operators written as those on floats: counted and scored as these, and what the file computes where kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph import prepare
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import decomposed, operators

IMAGE = {"x": ("N", 8, 6, 6)}
SCALARS = {
    "s": np.float32(0.05), "t": np.float32(0.04), "z": np.uint8(128), "zi": np.int8(0), "ws": np.float32(0.01),
}  # fmt: skip
COLUMNS = {"cs": (0.005 + 0.01 * np.abs(weights(8))), "cz": np.zeros(8, np.int8)}
CONSTANTS: dict[str, Any] = {
    **SCALARS,
    **COLUMNS,
    "w": (40 * weights(8, 8, 3, 3)).astype(np.int8),
    "b": (100 * weights(8)).astype(np.int32),
    "m": (40 * weights(6, 8)).astype(np.int8),
    "real": weights(8),
    "shape": np.array([1, 8, 1, 1]),
}


def quantised(body: str, constants: Mapping[str, Any] = CONSTANTS) -> onnx.ModelProto:
    """A network between the rounding of its input and that of its output."""
    text = f"q = QuantizeLinear (x, s, z)  {body}  y = DequantizeLinear (r, t, z)"
    return with_microsoft(network(text, IMAGE, constants, opset=17))


def with_microsoft(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


PAD = "pads = [1, 1, 1, 1]"


@pytest.mark.parametrize(
    ("body", "expected", "params"),
    [
        (f"r = QLinearConv <{PAD}> (q, s, z, w, ws, zi, t, z, b)", ["Conv"], 8 * 72 + 8),
        (f"r = QLinearConv <{PAD}> (q, s, z, w, cs, cz, t, z)", ["Conv"], 8 * 72),
        ("r = QLinearMatMul (q, s, z, m, ws, zi, t, z)", ["MatMul"], 48),
        ("r = com.microsoft.QLinearAdd (q, s, z, q, s, z, t, z)", ["Add"], 0),
        ("r = com.microsoft.QLinearMul (q, s, z, q, s, z, t, z)", ["Mul"], 0),
        ("r = com.microsoft.QLinearSigmoid (q, s, z, t, z)", ["Sigmoid"], 0),
        ("r = com.microsoft.QLinearLeakyRelu <alpha = 0.1> (q, s, z, t, z)", ["LeakyRelu"], 0),
        ("r = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (q, s, z, t, z)", ["GlobalAveragePool"], 0),
        ("r = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2]> (q, s, z, t, z)", ["AveragePool"], 0),
        ("r = com.microsoft.QLinearConcat <axis = 1> (t, z, q, s, z, q, s, z)", ["Concat"], 0),
        (
            "g = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (q, s, z, t, z)  f = Flatten (g)"
            "  r = com.microsoft.QGemm <transB = 1> (f, t, z, m8, cs, cz, b, t, z)",
            ["GlobalAveragePool", "Flatten", "Gemm"],
            64 + 8,
        ),
    ],
)
def test_static_quantisation(body: str, expected: list[str], params: int) -> None:
    model = quantised(body, {**CONSTANTS, "m8": (40 * weights(8, 8)).astype(np.int8)})
    graph, changes = decomposed(model)
    assert operators(graph) == expected
    assert changes[0].startswith("quantised operators taken as the float ones that they stand for: 1 Q")
    assert count(prepare(model)).params == params
    assert verify(model).agrees


def test_means_and_probabilities() -> None:
    body = """
        g = com.microsoft.QLinearReduceMean <axes = [2, 3], keepdims = 0> (q, s, z, t, z)
        r = com.microsoft.QLinearSoftmax <axis = -1, opset = 13> (g, t, z, t, z)
    """
    assert operators(decomposed(quantised(body))[0]) == ["ReduceMean", "Softmax"]


DYNAMIC = {
    "all factors at once": "p = Mul (xs, ws)  f = Cast <to = 1> (i)  n = Mul (f, p)",
    "one by one": "f = Cast <to = 1> (i)  p = Mul (f, xs)  n = Mul (ws, p)",
    "the weight's first": "f = Cast <to = 1> (i)  p = Mul (f, ws)  n = Mul (p, xs)",
}


@pytest.mark.parametrize("scaled", DYNAMIC.values(), ids=DYNAMIC)
def test_dynamic_quantisation(scaled: str) -> None:
    body = f"""
        q, xs, xz = DynamicQuantizeLinear (x)
        i = ConvInteger <{PAD}> (q, w, xz, zi)
        {scaled}
        v = Reshape (real, shape)
        y = Add (n, v)
    """
    model = network(body, IMAGE, CONSTANTS, opset=17)
    graph = prepare(model).graph
    assert operators(graph) == ["Conv"]
    assert count(prepare(model)).params == 8 * 72 + 8
    assert verify(model).agrees


def test_products_of_two_feature_maps() -> None:
    """Attention scores: both sides are rounded as they come, and a factor behind them is the network's own."""
    body = """
        turned = Transpose <perm = [0, 1, 3, 2]> (x)
        q, xs, xz = DynamicQuantizeLinear (x)
        k, ks, kz = DynamicQuantizeLinear (turned)
        i = MatMulInteger (q, k, xz, kz)
        f = Cast <to = 1> (i)
        p = Mul (xs, ks)
        n = Mul (f, p)
        y = Mul (n, half)
    """
    model = network(body, IMAGE, {**CONSTANTS, "half": np.float32(0.5)}, opset=17)
    assert sorted(operators(prepare(model).graph)) == ["MatMul", "Mul", "Transpose"]
    assert verify(model).agrees


def test_a_matrix_with_a_scale_for_each_column() -> None:
    body = """
        q, xs, xz = DynamicQuantizeLinear (x)
        i = MatMulInteger (q, m, xz, cz)
        f = Cast <to = 1> (i)
        p = Mul (xs, cs)
        y = Mul (f, p)
    """
    model = network(body, IMAGE, CONSTANTS, opset=17)
    assert operators(prepare(model).graph) == ["MatMul"]
    assert count(prepare(model)).params == 48
    assert verify(model).agrees


def test_fused_dynamic_products() -> None:
    body = "y = com.microsoft.DynamicQuantizeMatMul (x, m, cs, cz, real)"
    model = with_microsoft(network(body, IMAGE, CONSTANTS, opset=17))
    assert operators(prepare(model).graph) == ["MatMul", "Add"]
    assert verify(model).agrees
    body = """
        q, xs, xz = DynamicQuantizeLinear (x)
        y = com.microsoft.MatMulIntegerToFloat (q, m, xs, cs, xz, cz, real)
    """
    model = with_microsoft(network(body, IMAGE, CONSTANTS, opset=17))
    assert operators(prepare(model).graph) == ["MatMul", "Add"]
    assert count(prepare(model)).params == 48 + 8
    assert verify(model).agrees


@pytest.mark.parametrize("zeros", [False, True])
def test_weights_of_four_bits_in_blocks(zeros: bool) -> None:
    """40 inputs in blocks of 16: the last block is half used."""
    body = "f = Flatten (x)  y = com.microsoft.MatMulNBits <K = 40, N = 6, bits = 4, block_size = 16> "
    body += "(f, packed, scales, zero)" if zeros else "(f, packed, scales)"
    rng = np.random.default_rng(0)
    constants = {
        "packed": rng.integers(0, 256, (6, 3, 8), np.uint8),
        "scales": rng.uniform(0.1, 0.2, 18).astype(np.float32),
        **({"zero": rng.integers(0, 256, 12, np.uint8)} if zeros else {}),
    }
    model = with_microsoft(network(body, {"x": ("N", 40)}, constants, opset=17))
    assert count(prepare(model)).params == 240
    assert count(prepare(model)).macs == 240
    assert verify(model).agrees


def test_a_recurrent_layer() -> None:
    body = "h, a, c = com.microsoft.DynamicQuantizeLSTM <hidden_size = 4> (x, w, r, b, , , , , ws, wz, ws, wz)"
    constants = {
        "w": (40 * weights(1, 8, 16)).astype(np.int8),
        "r": (40 * weights(1, 4, 16)).astype(np.int8),
        "b": weights(1, 32),
        "ws": np.full(1, 0.01, np.float32),
        "wz": np.zeros(1, np.int8),
    }
    model = with_microsoft(network(body, {"x": (5, "N", 8)}, constants, outputs=("h",), opset=17))
    assert operators(prepare(model).graph) == ["LSTM"]
    assert count(prepare(model)).params == 8 * 16 + 4 * 16 + 32


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("i = ConvInteger (q, w, z, zi)  y = Cast <to = 1> (i)", "its sums are not multiplied by the scales"),
        ("i = MatMulInteger (q, m, z)  j = Neg (i)  y = Cast <to = 1> (j)", "its sums are read as integers"),
        ("y = com.microsoft.MatMulNBits <K = 6, N = 6, bits = 5, block_size = 16> (x, u, cs)", "it has 5 bits"),
    ],
)
def test_what_cannot_be_turned_back_is_refused(body: str, reason: str) -> None:
    constants = {**CONSTANTS, "u": np.zeros((6, 1, 8), np.uint8)}
    model = with_microsoft(network(f"q = QuantizeLinear (x, s, z)  {body}", IMAGE, constants, opset=17))
    with pytest.raises(UnsupportedOperatorError, match=f"{reason}.*; export the float model, before quantisation"):
        prepare(model)
