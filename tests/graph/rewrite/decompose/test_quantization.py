from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from aznas_onnx.costs import count
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.rewrite.passes import decompose, lost_quantisation
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, decomposed, operators, run

SHAPE = {"x": ("N", 3, 8, 8)}
CONSTANTS = {
    "w": weights(4, 3, 3, 3), "wq": (10 * weights(4, 3, 3, 3)).astype(np.int8), "s": np.float32(0.05),
    "z0": np.uint8(0),
    "z128": np.uint8(128), "z_lowest": np.int8(-128), "zs": np.int8(0), "low": np.int8(-127), "high": np.int8(127),
}  # fmt: skip


def pair(source: str, output: str, zero_point: str) -> str:
    quantised = f"{output}_q = QuantizeLinear ({source}, s, {zero_point})"
    return f"{quantised}  {output} = DequantizeLinear ({output}_q, s, {zero_point})"


def test_pairs_are_taken_out_and_weights_are_dequantised() -> None:
    model = network(
        f"{pair('x', 'a', 'z128')}  k = DequantizeLinear (wq, s, zs)  c = Conv (a, k)  {pair('c', 'y', 'z128')}",
        SHAPE,
        CONSTANTS,
    )
    graph, changes = decomposed(model)
    assert operators(graph) == ["Conv"]
    assert changes == ("fake quantisation taken out of 2 tensors",)
    result = canonical(model).graph
    assert operators(result) == ["Conv"]
    assert result.outputs == ("y",)
    float_model = network("y = Conv (x, k)", SHAPE, {"k": CONSTANTS["wq"].astype(np.float32) * np.float32(0.05)})
    np.testing.assert_allclose(run(result, 2)["y"], run(canonical(float_model).graph, 2)["y"], rtol=1e-5, atol=1e-5)


def test_weights_alone_that_are_quantised_are_told_too() -> None:
    graph, changes = decomposed(network("k = DequantizeLinear (wq, s, zs)  y = Conv (x, k)", SHAPE, CONSTANTS))
    assert operators(graph) == ["Conv"]
    assert changes == ("quantised weights taken as floats in 1 tensor",)
    assert lost_quantisation(changes)
    assert not lost_quantisation(("normalisation restored after 2 convolutions",))


@pytest.mark.parametrize(
    ("made", "zero_point", "expected"),
    [
        ("c = Conv (x, w)", "z0", ["Conv", "Relu", "Neg"]),
        ("c = Conv (x, w)", "z_lowest", ["Conv", "Relu", "Neg"]),
        ("hardtanh_1 = Conv (x, w)", "z0", ["Conv", "Clip", "Neg"]),
        ("c = Conv (x, w)", "z128", ["Conv", "Neg"]),
        ("d = Conv (x, w)  c = Relu (d)", "z0", ["Conv", "Relu", "Neg"]),
        ("d = Conv (x, w)  relu_1 = Transpose (d)", "z0", ["Conv", "Transpose", "Relu", "Neg"]),
        ("d = Conv (x, w)  c = Transpose (d)", "z0", ["Conv", "Transpose", "Neg"]),
        ("d = Relu (x)  e = Sigmoid (x)  c = Add (d, e)", "z0", ["Relu", "Sigmoid", "Add", "Neg"]),
        ("d = Abs (x)  c = MaxPool <kernel_shape = [2, 2]> (d)", "z0", ["Abs", "MaxPool", "Neg"]),
    ],
)
def test_an_activation_that_the_range_had_absorbed_comes_back(made: str, zero_point: str, expected: list[str]) -> None:
    source = next((name for name in ("hardtanh_1", "relu_1") if name in made), "c")
    graph, _ = decomposed(network(f"{made}  {pair(source, 'a', zero_point)}  y = Neg (a)", SHAPE, CONSTANTS))
    assert operators(graph) == expected


@pytest.mark.parametrize(("name", "expected"), [("relu_3", 1), ("conv2d_3", 0), ("add_7", 0), ("t_7", 1)])
def test_a_range_that_is_positive_by_chance_is_recognised_by_its_name(name: str, expected: int) -> None:
    model = network(f"{name} = Conv (x, w)  {pair(name, 'a', 'z0')}  y = Neg (a)", SHAPE, CONSTANTS)
    assert operators(decomposed(model)[0]).count("Relu") == expected


def test_contributed_operators_of_more_bits() -> None:
    body = """
        q = com.microsoft.QuantizeLinear (x, s, z16)
        a = com.microsoft.DequantizeLinear (q, s, z16)
        k = com.microsoft.DequantizeLinear (w16, s, zw)
        y = Conv (a, k)
    """
    wide = {"z16": np.uint16(32768), "w16": CONSTANTS["wq"].astype(np.int16), "zw": np.int16(0)}
    model = network(body, SHAPE, {**CONSTANTS, **wide})
    model.opset_import.add(domain="com.microsoft", version=1)
    graph, _ = decomposed(model)
    assert operators(graph) == ["Conv"]
    assert operators(canonical(model).graph) == ["Conv"]
    kept, _ = decompose(deserialize(model, None, "test", Limits()), keep_quantisation=True)
    assert {(node.domain, node.version) for node in kept.nodes[:3]} == {("", 21)}


def test_it_is_said_how_many_came_back() -> None:
    _, changes = decomposed(network(f"c = Conv (x, w)  {pair('c', 'a', 'z0')}  y = Neg (a)", SHAPE, CONSTANTS))
    assert changes == ("fake quantisation taken out of 1 tensor, and 1 activation that it had absorbed put back",)


def test_an_input_that_starts_at_zero_gets_no_activation() -> None:
    graph, _ = decomposed(network(f"{pair('x', 'a', 'z0')}  y = Conv (a, w)", SHAPE, CONSTANTS))
    assert operators(graph) == ["Conv"]


def test_integers_may_move_between_the_pair() -> None:
    body = """
        q = QuantizeLinear (x, s, zs)
        c = Clip (q, low, high)
        t = Transpose (c)
        d = DequantizeLinear (t, s, zs)
        y = Neg (d)
    """
    graph, _ = decomposed(network(body, SHAPE, CONSTANTS))
    assert operators(graph) == ["Transpose", "Neg"]


def test_a_table_of_integers_is_dequantised_before_its_rows_are_looked_up() -> None:
    body = "r = Gather (table, ids)  t = Reshape (r, shape)  e = DequantizeLinear (t, s, zs)  y = MatMul (e, v)"
    constants = {
        **CONSTANTS,
        "table": (10 * weights(50, 8)).astype(np.int8),
        "shape": np.array([0, 6, 8]),
        "v": weights(8, 3),
    }
    model = network(body, {"ids": ("N", 6)}, constants, input_type=7)
    result = prepare(model)
    assert count(result).params == 50 * 8 + 8 * 3
    assert operators(result.graph) == ["MatMul"]


def test_floats_that_are_rounded_in_the_file_stay_weights() -> None:
    """As training with fake quantisation is exported: the weights themselves go through a pair."""
    body = f"{pair('x', 'a', 'z128')}  {pair('w', 'k', 'zs')}  y = Conv (a, k)"
    graph, _ = decomposed(network(body, SHAPE, CONSTANTS))
    assert operators(graph) == ["Conv"]
    assert graph.nodes[0].inputs == ("x", "w")


def test_a_pad_between_the_pair_pads_with_floats() -> None:
    body = "q = QuantizeLinear (x, s, z128)  p = Pad (q, pads, z130)  d = DequantizeLinear (p, s, z128)  y = Neg (d)"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    graph, _ = decomposed(network(body, SHAPE, {**CONSTANTS, "pads": pads, "z130": np.uint8(130)}))
    assert operators(graph) == ["Pad", "Neg"]
    read = graph.constants[graph.nodes[0].inputs[2]].read
    assert read is not None
    np.testing.assert_allclose(read(), 2 * 0.05, rtol=1e-6)


def test_biases_and_weights_count_however_they_are_stored() -> None:
    """Blocks of four bits, columns of eight, and a bias of 32."""
    body = f"""
        {pair("x", "a", "z128")}
        f = Flatten (a)
        k = DequantizeLinear <axis = 0, block_size = 16> (four, scales)
        m = MatMul (f, k)
        b = DequantizeLinear <axis = 0> (bias, steps)
        h = Add (m, b)
        l = DequantizeLinear <axis = 1> (eight, columns)
        y = MatMul (h, l)
    """
    constants = {
        **CONSTANTS,
        "four": np.clip(3 * weights(192, 8), -8, 7).astype(ml_dtypes.int4),
        "scales": 0.1 + np.abs(weights(12, 8)),
        "bias": (100 * weights(8)).astype(np.int32),
        "steps": 0.01 + np.abs(weights(8)),
        "columns": 0.01 + np.abs(weights(8, seed=1)),
        "eight": (40 * weights(8, 8)).astype(np.int8),
    }
    model = network(body, SHAPE, constants, opset=21)
    assert count(prepare(model)).params == 192 * 8 + 8 + 64
    assert verify(model).agrees


def test_a_quantisation_without_a_scale_in_an_opset_that_does_not_know_it_is_no_crash() -> None:
    model = network("a = QuantizeLinear (x)  y = Relu (a)", SHAPE)
    model.opset_import[0].version = 9  # so that ONNX does not check how many inputs it has
    assert operators(decomposed(model)[0]) == ["Relu"]
