from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite import batchnorm
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

CONSTANTS = {
    "w": weights(4, 3, 3, 3), "b": weights(4), "scale": weights(4, 1, 1, seed=1), "shift": weights(1, 4, 1, 1, seed=2),
    "gamma": weights(4, seed=3), "beta": weights(4, seed=4), "mean": weights(4, seed=5),
    "variance": np.abs(weights(4, seed=6)) + 0.5, "of_input": weights(3, 1, 1),
}  # fmt: skip
SHAPE = {"x": ("N", 3, 8, 8)}


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
    assert operators(canonical(nameless).graph) == ["Conv", "Mul", "Relu"]


def test_before_a_convolution_only_the_name_tells() -> None:
    body = "r = Relu (x)  {0} = Mul (r, of_input)  a = Add ({0}, of_input)  y = Conv (a, w)"
    named = network(body.format("BatchNorm"), SHAPE, CONSTANTS)
    assert operators(canonical(named).graph) == ["Relu", "BatchNormalization", "Conv"]
    nameless = network(body.format("m"), SHAPE, CONSTANTS)
    assert operators(canonical(nameless).graph) == ["Relu", "Mul", "Add", "Conv"]


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
    assert operators(canonical(model).graph) == ["BatchNormalization", "Mul", "Add"]


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
        ("y = Mul (x, of_input)", "nothing says that it is a batch normalisation"),
        ("c = Conv (x, w)  y = Mul (c, scale)  z = Neg (c)", "nothing says that it is a batch normalisation"),
    ],
)
def test_reasons_to_decline_a_factor(body: str, reason: str) -> None:
    assert outcome(network(body, SHAPE, CONSTANTS), batchnorm._written_out, "Mul") == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Mul (x, scale)", "it does not scale a batch normalisation"),
        ("n = BatchNormalization (x, gamma, beta, mean, variance)  y = Mul (n, scale)", "no shift follows"),
    ],
)
def test_reasons_to_decline_a_scale(body: str, reason: str) -> None:
    model = network(body, {"x": ("N", 4, 6, 6)}, CONSTANTS)
    assert outcome(model, batchnorm._followed_by_scale, "Mul") == reason
