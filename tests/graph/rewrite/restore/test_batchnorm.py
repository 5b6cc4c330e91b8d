from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY
from aznas_onnx.graph.rewrite.restore import batchnorm
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

CONSTANTS: dict[str, Any] = {
    "w": weights(4, 3, 3, 3), "b": weights(4), "scale": weights(4, 1, 1, seed=1), "shift": weights(1, 4, 1, 1, seed=2),
    "gamma": weights(4, seed=3), "beta": weights(4, seed=4), "mean": weights(4, seed=5),
    "variance": np.abs(weights(4, seed=6)) + 0.5, "of_input": weights(3, 1, 1),
}  # fmt: skip
SHAPE = {"x": ("N", 3, 8, 8)}


CENTRED = "d = Sub (c, centre)  m = Mul (d, scale)  y = Add (m, shift)"
SPELLINGS = {
    "Keras on PyTorch": CENTRED,
    "operands the other way round": "d = Sub (c, centre)  m = Mul (scale, d)  y = Add (shift, m)",
    "no shift": "d = Sub (c, centre)  y = Mul (d, scale)",
    "divided": "d = Sub (c, centre)  q = Div (d, positive)  m = Mul (q, scale)  y = Add (m, shift)",
    "divided, not scaled": "d = Sub (c, centre)  y = Div (d, positive)",
    "divided, then shifted": "q = Div (c, positive)  y = Add (q, shift)",
    "a term subtracted": "m = Mul (c, scale)  y = Sub (m, shift)",
    "two terms": "m = Mul (c, scale)  s = Sub (m, centre)  y = Add (s, shift)",
    "factor from a variance": "e = Add (positive, eps)  s = Sqrt (e)  f = Div (scale, s)  y = Mul (c, f)",
    "never trained": "y = Mul (c, fresh)",
    "taken from the shift": "m = Mul (c, scale)  y = Sub (shift, m)",
    "taken from the mean": "d = Sub (centre, c)  m = Mul (d, scale)  y = Add (m, shift)",
    "taken twice": "m = Mul (c, scale)  s = Sub (m, centre)  y = Sub (shift, s)",
    "a Sum": "d = Sub (c, centre)  m = Mul (d, scale)  y = Sum (m, shift)",
    "expanded": (
        "s = Shape (c)  e = Expand (centre, s)  d = Sub (c, e)  f = Expand (scale, s)  m = Mul (d, f)"
        "  g = Expand (shift, s)  y = Add (m, g)"
    ),
}  # fmt: skip
LAYERS = {
    "convolution": "c = Conv (x, w)",
    "convolution with bias": "c = Conv (x, w, b)",
    "bias of its own": "c0 = Conv (x, w)  c = Add (c0, column)",
    "transposed convolution": "c = ConvTranspose (x, up)",
    "depthwise convolution": "x4 = Conv (x, w)  c = Conv <group = 4> (x4, depthwise)",
}
MORE: dict[str, Any] = {
    "centre": weights(1, 4, 1, 1, seed=7), "column": weights(4, 1, 1, seed=8), "up": weights(3, 4, 2, 2),
    "positive": np.abs(weights(1, 4, 1, 1, seed=9)) + 0.5, "eps": np.float32(1e-3), "depthwise": weights(4, 1, 3, 3),
    "fresh": np.full((1, 4, 1, 1), 0.9995, np.float32),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_after_every_layer(spelling: str, layer: str) -> None:
    model = network(f"{LAYERS[layer]}  {SPELLINGS[spelling]}", SHAPE, CONSTANTS | MORE)
    result = canonical(model)
    convolutions = ["ConvTranspose"] if "transposed" in layer else ["Conv"] * (1 + ("depthwise" in layer))
    assert operators(result.graph) == [*convolutions, "BatchNormalization"]
    assert result.changes == ("recognised as one operator each: 1 BatchNormalization",)
    assert computes_the_same(result.graph, model)


def test_what_is_subtracted_first_is_the_mean_and_what_is_added_first_the_bias() -> None:
    model = network(f"c0 = Conv (x, w)  c = Add (c0, column)  {CENTRED}", SHAPE, CONSTANTS | MORE)
    convolution, normalisation = canonical(model).graph.nodes
    assert convolution.inputs[2].startswith("column")
    constants = canonical(model).graph.constants
    scale, shift, mean = (constants[name].sources for name in normalisation.inputs[1:4])
    assert (scale, shift, mean) == ({"scale"}, {"shift"}, {"centre"})


@pytest.mark.parametrize("before", ["c = Conv (x, w, b)", "c1 = Conv (x, w)  c2 = Conv (x, w)  c = Add (c1, c2)"])
def test_what_is_added_where_a_bias_has_no_place_is_a_mean(before: str) -> None:
    model = network(f"{before}  d = Add (c, centre)  m = Mul (d, scale)  y = Add (m, shift)", SHAPE, CONSTANTS | MORE)
    result = canonical(model)
    assert operators(result.graph) == [
        *operators(canonical(network(f"{before}  y = Neg (c)", SHAPE, CONSTANTS)).graph)[:-1],
        "BatchNormalization",
    ]
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("spelling", "counted"),
    [
        (SPELLINGS["Keras on PyTorch"], 8),
        ("e = Add (positive, eps)  s = Sqrt (e)  f = Div (scale, s)  m = Mul (c, f)  y = Add (m, shift)", 8),
        ("d = Sub (c, centre)  y = Mul (d, scale)", 4),
        ("d = Sub (c, centre)  e = Add (positive, eps)  s = Sqrt (e)  q = Div (d, s)  y = Add (q, shift)", 4),
        ("d = Sub (c, centre)  e = Add (positive, eps)  s = Pow (e, power)  y = Mul (d, s)", 0),
        (SPELLINGS["divided, not scaled"], 0),
    ],
)
def test_scale_and_shift_count_where_there_are_any(spelling: str, counted: int) -> None:
    constants = CONSTANTS | MORE | {"power": np.float32(-0.5)}
    model = network(f"c = Conv (x, w)  {spelling}", SHAPE, constants)
    assert operators(canonical(model).graph) == ["Conv", "BatchNormalization"]
    assert computes_the_same(canonical(model).graph, model)
    assert count(prepare(model)).params == constants["w"].size + counted


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_linear_layers_signals_and_volumes(rank: int) -> None:
    ones = (1,) * (rank - 2)
    vectors = {name: weights(4, *ones, seed=seed) for seed, name in enumerate(("centre", "scale", "shift"))}
    layer = "Gemm (x, w)" if rank == 2 else "Conv (x, w)"
    model = network(f"c = {layer}  {CENTRED}", {"x": ("N", 3, *(5,) * (rank - 2))}, {
        "w": weights(3, 4) if rank == 2 else weights(4, 3, *(3,) * (rank - 2)), **vectors,
    })  # fmt: skip
    result = canonical(model)
    assert operators(result.graph) == [layer[:4].strip(), "BatchNormalization"]
    assert computes_the_same(result.graph, model)


def test_channels_that_are_the_last_axis_and_stay_so() -> None:
    """A Flatten of a channels-last map keeps what is before it from being turned."""
    vectors = {name: weights(4, seed=seed) for seed, name in enumerate(("centre", "scale", "shift"))}
    body = f"o = Conv (x, w)  c = Transpose <perm = [0, 2, 3, 1]> (o)  {CENTRED.replace('y =', 'n =')}  y = Flatten (n)"
    model = network(body, SHAPE, {"w": CONSTANTS["w"], **vectors})
    result = canonical(model)
    assert operators(result.graph) == ["Conv", "BatchNormalization", "Transpose", "Flatten"]
    assert computes_the_same(result.graph, model)


def test_tokens_after_a_linear_layer() -> None:
    vectors = {name: weights(4, seed=seed) for seed, name in enumerate(("scale", "shift"))}
    body = "c = MatMul (x, w)  m = Mul (c, scale)  y = Add (m, shift)"
    model = network(body, {"x": ("N", 5, 3)}, {"w": weights(3, 4), **vectors})
    result = canonical(model)
    assert operators(result.graph) == ["MatMul", "Transpose", "BatchNormalization", "Transpose"]
    assert computes_the_same(result.graph, model)


AFFINE = "m = Mul ({0}, scale)  a = Add (m, shift)  r = Relu (a)  y = Conv (r, w4)"


@pytest.mark.parametrize(
    "before",
    [
        "c = Conv (x, w)  d = Conv (x, w)  s = Add (c, d)",
        "c = Conv (x, w)  s = Relu (c)",
        "c = Conv (x, w2)  s = Concat <axis = 1> (c, c)",
        "c = Conv (x, w)  s = MaxPool <kernel_shape = [2, 2]> (c)",
    ],
)
def test_normalisation_before_the_activation_and_behind_it(before: str) -> None:
    model = network(
        f"{before}  {AFFINE.format('s')}", SHAPE, CONSTANTS | {"w2": weights(2, 3, 3, 3), "w4": weights(4, 4, 1, 1)}
    )
    result = canonical(model)
    assert operators(result.graph)[-3:] == ["BatchNormalization", "Relu", "Conv"]
    assert computes_the_same(result.graph, model)


INPUT = "no layer with weights was found before it, as where an input is prepared"
LAYER_SCALE = "it multiplies the channels of a layer, like a layer scale, without a mean or a shift"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("d = Sub (x, of_input)  m = Mul (d, of_input)  y = Conv (m, w)", INPUT),
        ("d = Add (x, of_input)  m = Mul (d, of_input)  y = Conv (m, w)", INPUT),
        (
            "g = GlobalAveragePool (x)  d = Sub (x, g)  m = Mul (d, of_input)  y = Conv (m, w)",
            "the Sub before it subtracts a tensor that is not constant",
        ),
        (
            "c = Conv (x, w)  r = Relu (c)  a = Add (r, shift)  y = Mul (a, scale)",
            "it adds a term before its factor and no shift after it",
        ),
        ("m = Mul (x, of_input)  a = Add (m, of_input)  y = Conv (a, w)", INPUT),
        ("c = Conv (x, w)  m = Mul (c, scale)  y = Add (m, c)", LAYER_SCALE),
        ("c = Conv (x, w)  a = Add (c, shift)  y = Mul (a, scale)", LAYER_SCALE),
        (
            "c = Conv (x, w)  n = LpNormalization <axis = 1> (c)  m = Mul (n, scale)  y = Add (m, shift)",
            "it scales and shifts the output of LpNormalization, after which no batch normalisation is expected",
        ),
        (
            "c = Conv (x, w)  t = Tanh (c)  m = Mul (t, scale)  y = Add (m, shift)",
            "it scales and shifts the output of Tanh, after which no batch normalisation is expected",
        ),
        (
            "c = Conv (x, w)  r = Relu (c)  d = Sub (r, shift)  y = Mul (d, scale)",
            "it subtracts a mean and scales, without a shift",
        ),
        (
            "c = Conv (x, w)  m = Mul (c, column)  y = Add (m, column)",
            "it has 6 numbers, and Conv before it makes 4 channels",
        ),
    ],
)  # fmt: skip
def test_what_is_no_batch_normalisation(body: str, reason: str) -> None:
    declines(network(body, SHAPE, CONSTANTS | {"column": weights(6)}), reason)


def declines(model: onnx.ModelProto, reason: str) -> None:
    """Check that no batch normalisation is recognised, and why a factor is none."""
    done = canonical(model)
    assert "BatchNormalization" not in operators(done.graph)
    misses = [miss.reason for miss in done.near_misses if miss.pattern == "BatchNormalization"]
    assert misses == [reason]


@pytest.mark.parametrize(
    "after", ["s = Sigmoid (c)  m = Mul (s, scale)  y = Add (m, c)", "s = Sub (c, x4)  y = Mul (s, scale)"]
)
def test_a_factor_that_follows_no_layer_is_not_nearly_one(after: str) -> None:
    """The state of a recurrent cell, and the layer scale of PoolFormer, which follows a difference of maps."""
    model = network(f"c = Conv (x, w)  x4 = Relu (c)  {after}", SHAPE, CONSTANTS)
    assert "BatchNormalization" not in {miss.pattern for miss in canonical(model).near_misses}


@pytest.mark.parametrize(
    ("under_root", "after_root"), [("one", ""), ("zero", "p = Add (s, one)")], ids=["other-epsilon", "added-after"]
)
@pytest.mark.parametrize("listed", ["", "PARAMETER target='scale', PARAMETER target='shift'"])
def test_the_scale_and_shift_of_another_normalisation_repeat_no_reason(
    under_root: str, after_root: str, listed: str
) -> None:
    body = f"""
        c = Conv (x, w)  q = Mul (c, c)  v = ReduceMean <keepdims = 1> (q, axes)  e = Add (v, {under_root})
        s = Sqrt (e)  {after_root}  n = Div (c, {"p" if after_root else "s"})  m = Mul (n, scale)  y = Add (m, shift)
    """
    constants = CONSTANTS | {"axes": np.array([2, 3]), "one": np.float32(1.0), "zero": np.float32(0.0)}
    metadata = {SIGNATURE_KEY: listed} if listed else {}
    (miss,) = canonical(network(body, SHAPE, constants, metadata=metadata)).near_misses
    assert miss.pattern == "RMSNormalization"


def test_the_affine_layer_of_a_network_of_tokens_without_normalisation() -> None:
    body = "h = MatMul (x, w)  s = Add (x, h)  m = Mul (s, scale)  a = Add (m, shift)  y = MatMul (a, w)"
    constants = {"w": weights(4, 4), "scale": weights(4), "shift": weights(4, seed=1)}
    declines(
        network(body, {"x": ("N", 5, 4)}, constants),
        "it scales and shifts tokens that do not come directly from a layer",
    )


ATTENTION = """
    s = MatMul ({query}, xt)  a = Softmax (s)  t = MatMul (a, x)  l = MatMul (t, w)  o = {layer}
    m = Mul (o, scale)  sum = Add ({token}, m)  y = Flatten (sum)
"""
WITH_BIAS, WITHOUT = "Add (l, bias)", "Identity (l)"
DATA = "its term is a token or a query, which other nodes read as data"
OWN_BIAS = "it scales and shifts tokens of a layer that has a bias of its own"


@pytest.mark.parametrize(
    ("before", "query", "layer", "reason"),
    [
        ("c = Concat <axis = 1> (e, x)  q = MatMul (e, w)", "q", WITHOUT, DATA),  # CaiT
        ("l0 = LayerNormalization (e, scale, bias)  q = MatMul (l0, w)", "q", WITHOUT, DATA),
        ("q = MatMul (token, w)", "q", WITHOUT, DATA),
        ("", "folded", WITH_BIAS, OWN_BIAS),
        ("", "folded", WITHOUT, "it scales and shifts one token of a linear layer"),
    ],
)
def test_a_layer_scale_and_the_residual_sum_of_a_learned_token(
    before: str, query: str, layer: str, reason: str
) -> None:
    head = "xt = Transpose <perm = [0, 2, 1]> (x)  "
    head += "n = Shape <start = 0, end = 1> (x)  k = Concat <axis = 0> (n, ones)  e = Expand (token, k)  "
    constants = {
        "w": weights(4, 4), "scale": weights(4), "bias": weights(4, seed=2), "token": weights(1, 1, 4),
        "folded": weights(1, 1, 4, seed=3), "ones": np.array([1, 1]),
    }  # fmt: skip
    body = head + before + ATTENTION.format(query=query, layer=layer, token="token")
    outputs = ("y", "c") if "Concat" in before else ("y",)
    declines(network(body, {"x": ("N", 5, 4)}, constants, outputs=outputs), reason)


def test_the_affine_layer_of_tokens_that_a_convolution_made() -> None:
    """ResMLP begins with a patch embedding, and an affine layer without statistics on its tokens."""
    body = "c = Conv (x, w, b)  f = Reshape (c, to)  t = Transpose <perm = [0, 2, 1]> (f)  m = Mul (t, gamma)"
    declines(network(f"{body}  y = Add (m, beta)", SHAPE, CONSTANTS | {"to": np.array([0, 4, -1])}), OWN_BIAS)


@pytest.mark.parametrize(("kind", "is_affine"), [("PARAMETER", True), ("BUFFER", False)])
def test_a_scale_and_shift_that_the_file_lists_as_parameters_have_no_statistics(kind: str, is_affine: bool) -> None:
    listed = "PARAMETER target='w', " + ", ".join(f"{kind} target='{name}'" for name in ("scale", "shift"))
    model = network(
        "c = Conv (x, w)  m = Mul (c, scale)  y = Add (shift, m)", SHAPE, CONSTANTS, metadata={SIGNATURE_KEY: listed}
    )
    if is_affine:
        declines(model, "the file lists its factor and term as parameters, without statistics multiplied into them")
    else:
        assert "BatchNormalization" in operators(canonical(model).graph)


@pytest.mark.parametrize("convolution", ["Conv (x, w)", "Conv (x, w, b)"])
def test_factor_and_term_after_a_convolution(convolution: str) -> None:
    model = network(f"c = {convolution}  m = Mul (c, scale)  y = Add (shift, m)", SHAPE, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Conv", "BatchNormalization"]
    assert computes_the_same(result.graph, model)


def test_a_factor_alone_is_one_if_its_name_says_so() -> None:
    """TensorFlow drops a term that is zero, as it is before training."""
    named = network("c = Conv (x, w)  batchnorm = Mul (c, scale)  y = Relu (batchnorm)", SHAPE, CONSTANTS)
    result = canonical(named)
    assert operators(result.graph) == ["Conv", "BatchNormalization", "Relu"]
    assert computes_the_same(result.graph, named)
    nameless = network("c = Conv (x, w)  scaled = Mul (c, scale)  y = Relu (scaled)", SHAPE, CONSTANTS)
    declines(nameless, LAYER_SCALE)


def test_before_a_convolution_only_the_name_decides() -> None:
    body = "r = Relu (x)  {0} = Mul (r, of_input)  a = Add ({0}, of_input)  y = Conv (a, w)"
    named = network(body.format("BatchNorm"), SHAPE, CONSTANTS)
    assert operators(canonical(named).graph) == ["Relu", "BatchNormalization", "Conv"]
    nameless = network(body.format("m"), SHAPE, CONSTANTS)
    declines(nameless, INPUT)


def test_scale_and_shift_behind_a_batch_normalisation() -> None:
    """Caffe has two layers where others have one."""
    model = network(
        "n = BatchNormalization (x, gamma, beta, mean, variance)  m = Mul (n, scale)  y = Add (m, shift)",
        {"x": ("N", 4, 6, 6)},
        CONSTANTS,
    )
    result = canonical(model)
    assert operators(result.graph) == ["BatchNormalization"]
    assert computes_the_same(result.graph, model)


def test_a_layer_scale_behind_a_batch_normalisation_stays() -> None:
    model = network(
        "n = BatchNormalization (x, gamma, beta, mean, variance)  m = Mul (n, scale)  y = Add (m, x)",
        {"x": ("N", 4, 6, 6)},
        CONSTANTS,
    )
    result = canonical(model)
    assert operators(result.graph) == ["BatchNormalization", "Mul", "Add"]
    assert "it scales a batch normalisation and adds no shift" in {miss.reason for miss in result.near_misses}


def test_a_bias_of_zeros_that_the_exporter_computed_is_dropped() -> None:
    body = """
        zero = Constant <value_float = 0.0> ()
        size = Constant <value_ints = [4]> ()
        zeros = Expand (zero, size)
        c = Conv (x, w, {})
        y = BatchNormalization (c, gamma, beta, mean, variance)
    """
    computed = canonical(network(body.format("zeros"), SHAPE, CONSTANTS)).graph
    assert len(computed.nodes[0].inputs) == 2
    genuine = canonical(network(body.format("b"), SHAPE, CONSTANTS)).graph
    assert len(genuine.nodes[0].inputs) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Mul (x, x)", "it does not multiply by a constant per channel"),
        ("y = Mul (x, of_input)", INPUT),
        ("c = Conv (x, w)  y = Mul (c, scale)  z = Neg (c)", LAYER_SCALE),
    ],
)
def test_reasons_to_decline_a_factor(body: str, reason: str) -> None:
    assert outcome(network(body, SHAPE, CONSTANTS), batchnorm._written_out, "Mul") == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Mul (x, scale)", "it does not scale a batch normalisation"),
        (
            "n = BatchNormalization (x, gamma, beta, mean, variance)  y = Mul (n, scale)",
            "it scales a batch normalisation and adds no shift",
        ),
    ],
)
def test_reasons_to_decline_a_scale(body: str, reason: str) -> None:
    model = network(body, {"x": ("N", 4, 6, 6)}, CONSTANTS)
    assert outcome(model, batchnorm._followed_by_scale, "Mul") == reason
