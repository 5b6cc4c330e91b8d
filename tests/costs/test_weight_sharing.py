"""One parameter counts once, however often a file holds or reads it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY
from tests.graph.builders import network, weights

Array = npt.NDArray[np.float32]
ONES, ZEROS = np.ones(8, np.float32), np.zeros(8, np.float32)


def params(model: onnx.ModelProto) -> int:
    return count(prepare(model, keep_graph=True)).params


# ---- Copies of one weight -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["same", "transposed", "half precision", "other"])
def test_a_tied_embedding_counts_once(kind: str) -> None:
    table = weights(50, 8)
    copy = {"transposed": table.T, "half precision": table.T.astype(np.float16), "other": weights(8, 50, seed=1)}
    if kind == "same":
        body, head = "t = Transpose <perm = [1, 0]> (table)  y = MatMul (n, t)", {}
    else:
        cast = "t = Cast <to = 1> (head)  " if kind == "half precision" else "t = Identity (head)  "
        body, head = f"{cast}y = MatMul (n, t)", {"head": np.ascontiguousarray(copy[kind])}
    model = network(
        f"e = Gather (table, ids)  n = LayerNormalization (e, ones)  {body}",
        {"ids": (1, 6)},
        {"table": table, "ones": ONES, **head},
        input_type=TensorProto.INT64,
    )
    assert params(model) == 400 + 8 + (400 if kind == "other" else 0)


def test_copies_of_one_layer_count_once() -> None:
    """TorchScript's exporter transposes a shared weight at each call, and folds a convolution's normalisation anew."""
    kernel, bias, matrix = weights(8, 3, 3, 3), weights(8), weights(8, 4)
    model = network(
        "a = Conv (x, k1, b1)  p = Relu (a)  b = Conv (x, k2, b2)  q = Tanh (b)  s = Add (p, q)"
        "  g = ReduceMean <keepdims = 0> (s, axes)  h = Gemm (g, m1)  t = Gemm <transB = 1> (h, m2)  y = Add (t, h)",
        constants={
            "k1": kernel, "k2": kernel.copy(), "b1": bias, "b2": bias.copy(), "m1": matrix, "axes": np.array([2, 3]),
            "m2": weights(4, 4),
        },
    )  # fmt: skip
    assert params(model) == 2 * (216 + 8) + 32 + 16  # the network has two layers that hold the same
    assert params(renamed(model, k1="onnx::Conv_7", k2="onnx::Conv_9", b1="onnx::Conv_8", b2="onnx::Conv_10")) == (
        216 + 8 + 32 + 16
    )


def renamed(model: onnx.ModelProto, **names: str) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    return model


def test_equal_matrices_that_say_nothing_are_one_for_each_name() -> None:
    model = network(
        "a = MatMul (x, w)  y = MatMul (a, v)",
        {"x": (1, 4, 8)},
        {"w": np.zeros((8, 8), np.float32), "v": np.zeros((8, 8), np.float32)},
    )
    assert params(model) == 128


def test_a_mixture_and_its_complement_are_one() -> None:
    mix = 1 / (1 + np.exp(-weights(8)))
    model = network(
        "w = MatMul (x, m)  a = Mul (w, mix)  r = Relu (w)  b = Mul (r, rest)  y = Add (a, b)",
        {"x": (1, 4, 8)},
        {"m": weights(8, 8), "mix": mix, "rest": 1 - mix},
    )
    assert params(model) == 64 + 8


# ---- Layers that run more than once ---------------------------------------------------------------------------------
def siamese(scale: Array, shift: Array, *, shared: bool = True) -> onnx.ModelProto:
    """Return two branches of a linear layer with normalisation, whose weight is shared or not."""
    branch = "a{0} = MatMul (x{0}, {1})  b{0} = Add (a{0}, bias)  n{0} = LayerNormalization (b{0}, scale, shift)"
    second = "w" if shared else "v"
    return network(
        f"{branch.format(0, 'w')}  {branch.format(1, second)}  y = Add (n0, n1)",
        {"x0": (1, 4, 8), "x1": (1, 4, 8)},
        {"w": weights(8, 8), "bias": ZEROS, "scale": scale, "shift": shift, "v": weights(8, 8, seed=1)},
    )


@pytest.mark.parametrize(("scale", "shift"), [(weights(8), weights(8, seed=1)), (ONES, ZEROS)])
def test_vectors_of_a_shared_layer_count_once(scale: Array, shift: Array) -> None:
    assert params(siamese(scale, shift)) == 64 + 8 + 8 + 8


def test_equal_vectors_of_two_layers_count_twice_and_trained_ones_are_one() -> None:
    assert params(siamese(ONES, ZEROS, shared=False)) == 2 * (64 + 8 + 8 + 8)
    assert params(siamese(weights(8), weights(8, seed=1), shared=False)) == 2 * (64 + 8) + 8 + 8


def test_two_normalisations_behind_one_layer_are_two() -> None:
    model = network(
        "a = MatMul (x, w)  b = LayerNormalization (a, ones)  c = LayerNormalization <epsilon = 0.1> (a, ones)"
        "  y = Add (b, c)",
        {"x": (1, 4, 8)},
        {"w": weights(8, 8), "ones": ONES},
    )
    assert params(model) == 64 + 16


@pytest.mark.parametrize("bias", [ZEROS, weights(8)])
@pytest.mark.parametrize("inside", [False, True])
def test_the_turns_of_a_loop_are_one_layer(inside: bool, bias: Array) -> None:
    held = [numpy_helper.from_array(value, name) for name, value in (("w", weights(8, 8)), ("bias", bias))]
    body = onnx.parser.parse_graph(
        "body (int64 i, bool go, float[N, 8] h) => (bool on, float[N, 8] out)"
        "{ on = Identity (go)  a = MatMul (h, w)  b = Add (a, bias)  out = Tanh (b) }"
    )
    (body.initializer if inside else []).extend(held)
    graph = onnx.parser.parse_graph("g (float[N, 8] x) => (float[N, 8] y) { y = Identity (x) }")
    del graph.node[:]
    graph.node.append(helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body))
    graph.initializer.extend([] if inside else held)
    graph.initializer.append(numpy_helper.from_array(np.array(5), "trips"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    assert params(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)) == 64 + 8


def test_a_bias_behind_a_tied_weight_is_one_of_its_own() -> None:
    model = network(
        "a = MatMul (x, w)  b = Relu (a)  c = MatMul (b, w)  y = Add (c, bias)",
        {"x": (1, 4, 8)},
        {"w": weights(8, 8), "bias": weights(8)},
    )
    assert params(model) == 64 + 8


# ---- Biases of recurrent operators ----------------------------------------------------------------------------------
def recurrent(operator: str, gates: int, bias: Array, attributes: str = "") -> int:
    """Return the number of parameters of a bias of a recurrent operator of five units."""
    model = network(
        f"y = {operator} <hidden_size = 5 {attributes}> (x, w, r, b)",
        {"x": (7, 1, 3)},
        {"w": weights(1, 5 * gates, 3), "r": weights(1, 5 * gates, 5), "b": bias[None]},
    )
    return params(model) - 5 * gates * 8


def test_the_zeros_beside_one_bias_of_a_recurrent_operator_do_not_count() -> None:
    one, none = weights(20), np.zeros(20, np.float32)
    assert recurrent("LSTM", 4, np.concatenate([one, one])) == 40
    assert recurrent("LSTM", 4, np.concatenate([one, none])) == 20
    assert (
        recurrent("LSTM", 4, np.concatenate([np.repeat(np.array([0, 0, 1, 0], np.float32), 5), none])) == 20
    )  # Keras, fresh
    assert recurrent("RNN", 1, np.concatenate([one[:5], none[:5]])) == 5


def test_a_gru_that_resets_after_the_product_has_two_biases() -> None:
    one, none = weights(15), np.zeros(15, np.float32)
    assert recurrent("GRU", 3, np.concatenate([none, none])) == 15
    assert recurrent("GRU", 3, np.concatenate([none, none]), ", linear_before_reset = 1") == 30
    flax = np.concatenate([one, none[:10], one[:5]])  # a bias of the state for the last gate alone
    assert recurrent("GRU", 3, flax, ", linear_before_reset = 1") == 20


# ---- Layers that began as copies of one -----------------------------------------------------------------------------
STACK = """
    a = MatMul (x, w0)  b = Add (a, bias0)  n = LayerNormalization (b, scale, shift)  r = Relu (n)
    c = MatMul (r, w1)  d = Add (c, bias1)  y = LayerNormalization (d, scale, shift)
"""
LISTED = "".join(f"p_{layer}: PARAMETER target='layers.{layer}.linear.bias'\n" for layer in (0, 1))


def stack(scale: Array, *, listed: str = "", stored: str = "") -> onnx.ModelProto:
    """Return two linear layers with equal numbers, the second bias of which is the first one's Identity."""
    kernel = weights(8, 8)
    constants = {"w0": kernel, "w1": kernel.copy(), "bias0": weights(8), "scale": scale, "shift": ZEROS}
    body = STACK.replace("bias1", "bias0") if listed else f"bias1 = Identity (bias0)  {STACK}"
    model = network(body, {"x": (1, 4, 8)}, constants, metadata={SIGNATURE_KEY: listed} if listed else None)
    for node in model.graph.node:
        node.input[:] = [stored if listed and name == "bias0" else name for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = stored if listed and tensor.name == "bias0" else tensor.name
    return model


def test_layers_that_were_copied_before_training_are_two() -> None:
    """``nn.TransformerEncoder`` copies the layer that it is given, numbers and all."""
    assert params(stack(ONES)) == 2 * (64 + 8 + 16)
    assert params(stack(ONES, listed=LISTED, stored="layers.0.linear.bias")) == 2 * (64 + 8 + 16)


def test_layers_with_equal_numbers_are_one_in_a_trained_network_or_under_the_last_of_two_names() -> None:
    shared = renamed(stack(weights(8, seed=1)), w0="onnx::MatMul_20", w1="onnx::MatMul_24")
    assert params(shared) == 64 + 8 + 8  # a shift of zeros was not trained either
    shared = renamed(stack(ONES, listed=LISTED, stored="layers.1.linear.bias"), w0="val_3", w1="val_9")
    assert params(shared) == 64 + 8 + 16
