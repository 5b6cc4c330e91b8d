from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.costs.parameters import distinct_elements, factor_elements
from aznas_onnx.graph import Constant, prepare
from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY
from tests.graph.builders import network, weights


def params(model: onnx.ModelProto) -> int:
    return count(prepare(model, keep_graph=True)).params


def test_weights_and_vectors_but_no_statistics() -> None:
    model = network(
        "a = Conv (x, w, b)  y = BatchNormalization (a, scale, shift, mean, variance)",
        constants={
            "w": weights(4, 3, 3, 3), "b": weights(4), "scale": weights(4, seed=1), "shift": weights(4, seed=2),
            "mean": weights(4, seed=3), "variance": np.abs(weights(4, seed=4)),
        },
    )  # fmt: skip
    assert params(model) == 4 * 27 + 4 + 4 + 4


def test_a_shared_weight_and_its_bias_count_once() -> None:
    model = network(
        "a = MatMul (x, w)  b = Add (a, bias)  c = Relu (b)  d = MatMul (c, w)  y = Add (d, bias)",
        {"x": (1, 4, 8)},
        {"w": weights(8, 8), "bias": weights(8)},
    )
    assert params(model) == 64 + 8


def test_a_shared_vector_counts_at_each_use() -> None:
    """Exporters store the equal vectors of different layers once."""
    model = network(
        "a = LayerNormalization (x, ones, zeros)  b = MatMul (a, w)  y = LayerNormalization (b, ones, zeros)",
        {"x": (1, 4, 8)},
        {"w": weights(8, 8), "ones": np.ones(8, dtype=np.float32), "zeros": np.zeros(8, dtype=np.float32)},
    )
    assert params(model) == 64 + 4 * 8


@pytest.mark.parametrize(("weight", "expected"), [(np.ones((3, 3, 1, 1), np.float32), 18), (weights(3, 3, 1, 1), 9)])
def test_identity_makes_a_parameter_of_its_own_where_numbers_say_nothing(
    weight: npt.NDArray[np.float32], expected: int
) -> None:
    model = network("w2 = Identity (w)  a = Conv (x, w)  y = Conv (a, w2)", constants={"w": weight})
    assert params(model) == expected


def test_a_gathered_table_counts_as_it_was_stored() -> None:
    """A relative position table of 9 rows and 2 heads, gathered for 4x4 pairs of positions."""
    index = np.random.default_rng(0).integers(0, 9, 16)
    model = network(
        """
        gathered = Gather (table, index)
        target = Constant <value_ints = [4, 4, 2]> ()
        square = Reshape (gathered, target)
        bias = Transpose <perm = [2, 0, 1]> (square)
        a = MatMul (x, x_t)
        y = Add (a, bias)
        """,
        {"x": (1, 2, 4, 3), "x_t": (1, 2, 3, 4)},
        {"table": weights(9, 2), "index": index},
    )
    assert params(model) == 18


def test_a_table_that_the_exporter_gathered_counts_its_distinct_columns() -> None:
    table, index = weights(9, 2), np.arange(36).reshape(6, 6) % 9
    bias = np.ascontiguousarray(table[index].transpose(2, 0, 1)[None])
    assert distinct_elements(Constant.of(bias)) == 18
    model = network("a = MatMul (x, x_t)  y = Add (a, bias)", {"x": (1, 2, 6, 3), "x_t": (1, 2, 3, 6)}, {"bias": bias})
    assert params(model) == 18


@pytest.mark.parametrize("shape", [(1, 50, 8), (1, 2, 6, 6), (50, 8)])
def test_other_tables_count_in_full(shape: tuple[int, ...]) -> None:
    table = weights(*shape)
    assert distinct_elements(Constant.of(table)) == table.size
    assert distinct_elements(Constant.of(np.zeros_like(table))) == table.size


def test_a_table_that_the_exporter_multiplied_out_counts_its_weight() -> None:
    coordinates, weight = weights(1, 15, 15, 2), weights(2, 64)
    assert factor_elements(Constant.of(coordinates @ weight)) == 128
    full = weights(1, 15, 15, 64)
    assert factor_elements(Constant.of(full)) == full.size
    blank = np.zeros_like(full)
    assert factor_elements(Constant.of(blank)) == full.size


def test_a_continuous_position_bias_counts_its_network() -> None:
    """Swin v2: two layers on coordinates give a table, gathered for each pair of positions."""
    coordinates = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 7)), axis=-1).astype(np.float32)
    model = network(
        """
        h = MatMul (coordinates, w1)
        hb = Add (h, b1)
        r = Relu (hb)
        o = MatMul (r, w2)
        flat_shape = Constant <value_ints = [49, 2]> ()
        flat = Reshape (o, flat_shape)
        gathered = Gather (flat, index)
        square_shape = Constant <value_ints = [16, 16, 2]> ()
        square = Reshape (gathered, square_shape)
        bias = Transpose <perm = [2, 0, 1]> (square)
        a = MatMul (x, x_t)
        y = Add (a, bias)
        """,
        {"x": (1, 2, 16, 3), "x_t": (1, 2, 3, 16)},
        {
            "coordinates": np.round(coordinates), "w1": weights(2, 32), "b1": weights(32), "w2": weights(32, 2),
            "index": np.arange(256) % 49,
        },
    )  # fmt: skip
    assert params(model) == 2 * 32 + 32 + 32 * 2


def test_quantised_weights_count_as_weights_and_their_scales_do_not() -> None:
    model = network(
        "wf = DequantizeLinear <axis = 0> (w, scale, zero)  y = Conv (x, wf)",
        constants={
            "w": np.random.default_rng(0).integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
            "scale": np.abs(weights(4)), "zero": np.zeros(4, dtype=np.int8),
        },
    )  # fmt: skip
    assert params(model) == 108


SIGNATURE = "\n# inputs\np_fc_weight: PARAMETER target='fc.weight'\np_fc_bias: PARAMETER target='fc.bias'\n"


def test_a_list_of_parameters_that_the_network_does_not_use_says_nothing() -> None:
    """Keras on PyTorch computes with tensors that the default exporter lists as constants of the module."""
    signature = "p_m_k: PARAMETER target='m.params.dense/kernel'\nc_w: CONSTANT_TENSOR target='w'\n"
    model = network(
        "f = Flatten (x)  y = Gemm (f, w)", constants={"w": weights(192, 4)}, metadata={SIGNATURE_KEY: signature}
    )
    assert params(model) == 192 * 4


@pytest.mark.parametrize(("weight", "counted"), [("w", 0), ("filled", 8)])
def test_filled_vectors_are_weights_in_a_file_whose_weights_are_filled(weight: str, counted: int) -> None:
    """Elsewhere they are the ones and zeros of a normalisation without scale and shift (Flax)."""
    body = f"""
        filled = ConstantOfShape (matrix)  ones = ConstantOfShape <value = float[1] {{1.0}}> (four)
        zeros = ConstantOfShape (four)  c = Conv (x, {weight})  y = BatchNormalization (c, ones, zeros, m, v)
    """
    constants = {"w": weights(4, 3, 3, 3), "matrix": np.array([4, 3, 3, 3]), "four": np.array([4])}
    constants |= {"m": weights(4), "v": np.abs(weights(4, seed=1)) + 0.5}
    if weight == "w":
        body = body.replace("filled = ConstantOfShape (matrix)", "")
    model = network(body, constants=constants)
    assert params(model) == 108 + counted


def dropped_bias(signature: str, bias: np.ndarray | None) -> int:
    body = "f = Flatten (x)  y = Gemm <transB = 1> (f, fc.weight" + (")" if bias is None else ", bias)")
    body = body.replace("fc.weight", "fc_weight")
    constants = {"fc_weight": weights(10, 192), **({} if bias is None else {"bias": bias})}
    model = network(body, constants=constants, metadata={SIGNATURE_KEY: signature})
    model.graph.initializer[0].name = model.graph.node[1].input[1] = "fc.weight"
    return params(model) - 1920


def test_a_bias_that_the_exporter_dropped_counts_where_the_file_declares_it() -> None:
    assert dropped_bias(SIGNATURE, None) == 10
    assert dropped_bias(SIGNATURE.replace("fc.bias", "other.bias"), None) == 0
    assert dropped_bias("", None) == 0


def test_a_dropped_bias_of_a_product_that_became_a_matmul() -> None:
    for body, expected in (("y = MatMul (x, w)", 64 + 8), ("a = MatMul (x, w)  y = Add (a, bias)", 64 + 8)):
        constants = {"w": weights(8, 8), **({"bias": weights(8)} if "bias" in body else {})}
        model = network(body, {"x": (1, 4, 8)}, constants, metadata={SIGNATURE_KEY: SIGNATURE})
        model.graph.initializer[0].name = model.graph.node[0].input[1] = "fc.weight"
        assert params(model) == expected


def test_a_bias_of_zeros_that_the_exporter_added_does_not_count() -> None:
    zeros = np.zeros(10, dtype=np.float32)
    assert dropped_bias(SIGNATURE, zeros) == 10
    assert dropped_bias(SIGNATURE.replace("fc.bias", "other.bias"), zeros) == 0
    assert dropped_bias(SIGNATURE.replace("fc.bias", "other.bias"), weights(10)) == 10  # it is used, so it is one
    assert dropped_bias("", zeros) == 10


_STANDARDISED = """
    mean = ReduceMean <keepdims = 0> (copy, axes)
    centred = Sub (copy, mean)
    squares = Mul (centred, centred)
    variance = ReduceMean <keepdims = 0> (squares, axes)
    standard = BatchNormalization (w, scale, shift, mean, variance)
    kernel = Reshape (standard, target)
    y = Conv (x, kernel)
"""


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 4 * 27), (0.0, 4 * 27 + 4), (0.3, 4 * 27 + 4)])
def test_a_standardised_weight_counts_once_and_its_gain_where_there_is_one(gain: float, expected: int) -> None:
    """PyTorch's older exporter stores the weight as it is normalised and as its statistics are taken."""
    kernel = weights(1, 4, 27)
    constants = {
        "w": kernel,
        "copy": kernel.transpose(0, 2, 1).copy(),
        "axes": np.array([0, 1]),
        "scale": np.full(4, gain, dtype=np.float32),
        "shift": np.zeros(4, dtype=np.float32),
        "target": np.array([4, 3, 3, 3]),
    }
    assert params(network(_STANDARDISED, constants=constants)) == expected


def test_the_sum_of_two_weights_counts_both() -> None:
    model = network(
        "w = Add (a, b)  y = Conv (x, w)", constants={"a": weights(64, 3, 9, 9), "b": weights(64, 3, 9, 9, seed=1)}
    )
    assert params(model) == 2 * 64 * 243


def test_coordinates_behind_a_position_table_do_not_count() -> None:
    """Sines of rows and columns go through a convolution that was trained."""
    rows = np.sin(np.outer(np.arange(32), np.arange(1, 17))).astype(np.float32).T
    table = np.concatenate([np.repeat(rows[:, :, None], 32, axis=2), np.repeat(rows[:, None], 32, axis=1)])[None]
    model = network(
        "position = Conv (table, w, b)  a = Sigmoid (x)  y = Add (a, position)",
        {"x": (1, 8, 32, 32)},
        {"table": table, "w": weights(8, 32, 1, 1), "b": weights(8)},
    )
    assert params(model) == 8 * 32 + 8


@pytest.mark.parametrize("scatter", ["ScatterElements <axis = 1>", "ScatterND"])
def test_memory_that_a_table_is_assembled_in_does_not_count(scatter: str) -> None:
    index = np.zeros((16, 1), dtype=np.int64)
    rows = np.arange(16, dtype=np.int64)
    model = network(
        f"table = {scatter} (blank, index, column)  product = MatMul (table, w)  a = Sigmoid (x)  y = Add (a, product)",
        {"x": (1, 16, 8)},
        {
            "blank": np.zeros((16, 2), dtype=np.float32),
            "index": index if "Elements" in scatter else np.stack([rows, index[:, 0]], axis=1),
            "column": weights(16, 1) if "Elements" in scatter else weights(16),
            "w": weights(2, 8),
        },
    )
    assert params(model) == 16 + 16


@pytest.mark.parametrize(("table", "expected"), [(weights(7, 6), 7 * 6), (np.zeros((7, 6), np.float32), 16 * 6)])
def test_vectors_that_the_exporter_gathered_count_once(table: npt.NDArray[np.float32], expected: int) -> None:
    """Seven relative positions of four queries and four keys; a table of zeros was never trained, and says nothing."""
    positions = table[np.arange(4)[:, None] - np.arange(4) + 3]
    model = network(
        'y = Einsum <equation = "bqc,qkc->bqk"> (x, w)', {"x": (1, 4, 6)}, {"w": np.asarray(positions, np.float32)}
    )
    assert params(model) == expected
