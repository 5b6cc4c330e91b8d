from __future__ import annotations

import math

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import activations
from aznas_onnx.graph.rewrite.rule import Attempt
from tests.graph.builders import network
from tests.graph.rewrite.running import canonical, computes_the_same, near_miss, operators, outcome

SHAPE = {"x": ("N", 3, 4, 4)}
SCALARS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "root_2": math.sqrt(2.0), "root_half": math.sqrt(0.5),
    "minus_root_half": -math.sqrt(0.5), "three": 3.0, "six": 6.0, "sixth": 1.0 / 6.0, "zero": 0.0, "cubic": 0.044715,
    "root_2_over_pi": math.sqrt(2.0 / math.pi), "linear_term": 0.044715 * math.sqrt(2.0 / math.pi), "quick": 1.702,
    "huge": np.finfo(np.float32).max,
}  # fmt: skip
CONSTANTS = {name: np.float32(value) for name, value in SCALARS.items()}

WRITTEN_OUT = {
    # PyTorch's TorchScript exporter
    "erf gelu, product first": (
        "s = Div (x, root_2)  t = Erf (s)  u = Add (t, one)  v = Mul (x, u)  y = Mul (v, half)", "Gelu"
    ),
    "erf gelu, half of the gate": (
        "s = Mul (root_half, x)  t = Erf (s)  u = Add (one, t)  v = Mul (half, u)  y = Mul (v, x)", "Gelu"
    ),
    "erf gelu, half of x": (
        "h = Mul (x, half)  s = Div (x, root_2)  t = Erf (s)  u = Add (t, one)  y = Mul (h, u)", "Gelu"
    ),
    "erf gelu, halved by division": (
        "s = Div (x, root_2)  t = Erf (s)  u = Add (t, one)  v = Mul (u, x)  y = Div (v, two)", "Gelu"
    ),
    "erf gelu, multiplied out": (
        "s = Mul (x, root_half)  t = Erf (s)  h = Mul (x, half)  v = Mul (h, t)  y = Add (h, v)", "Gelu"
    ),
    "erfc gelu": (
        "s = Mul (x, minus_root_half)  t = Erf (s)  u = Sub (one, t)  h = Mul (x, half)  y = Mul (h, u)", "Gelu"
    ),
    "tanh gelu": (
        "p = Pow (x, three)  c = Mul (p, cubic)  s = Add (x, c)  a = Mul (s, root_2_over_pi)  t = Tanh (a)"
        "  u = Add (t, one)  h = Mul (x, half)  y = Mul (h, u)", "Gelu"
    ),
    "tanh gelu, distributed": (
        "q = Mul (x, x)  r = Mul (q, linear_term)  s = Add (r, root_2_over_pi)  a = Mul (x, s)  t = Tanh (a)"
        "  v = Mul (x, half)  w = Mul (v, t)  y = Add (w, v)", "Gelu"
    ),
    "silu": ("s = Sigmoid (x)  y = Mul (x, s)", "Swish"),
    "silu, gate first": ("s = Sigmoid (x)  y = Mul (s, x)", "Swish"),
    "quick gelu": ("a = Mul (x, quick)  s = Sigmoid (a)  y = Mul (x, s)", "Swish"),
    "mish": ("s = Softplus (x)  t = Tanh (s)  y = Mul (x, t)", "Mish"),
    "hard swish of hard sigmoid": (
        "s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)  y = Mul (x, s)", "HardSwish"
    ),
    "hard swish of clip": (
        "a = Add (x, three)  c = Clip (a, zero, six)  p = Mul (x, c)  y = Div (p, six)", "HardSwish"
    ),
    "hard swish as Keras has it": (
        "a = Add (x, three)  c = Clip (a, zero, six)  g = Mul (c, sixth)  y = Mul (x, g)", "HardSwish"
    ),
    "hard sigmoid": ("a = Add (x, three)  c = Clip (a, zero, six)  y = Div (c, six)", "HardSigmoid"),
    "hard sigmoid, scaled first": (
        "m = Mul (x, sixth)  a = Add (m, half)  y = Clip (a, zero, one)", "HardSigmoid"
    ),
    "relu as clip": ("y = Clip (x, zero)", "Relu"),
    "relu as clip to the largest float": ("y = Clip (x, zero, huge)", "Relu"),
    "relu as maximum": ("y = Max (zero, x)", "Relu"),
    "relu6 as minimum": ("r = Relu (x)  y = Min (r, six)", "Clip"),
    "relu6 after relu": ("r = Relu (x)  y = Clip (r, , six)", "Clip"),
    "relu twice": ("r = Relu (x)  y = Relu (r)", "Relu"),
    "clip by nothing": ("c = Clip (x)  y = Sigmoid (c)", "Sigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_arithmetic_becomes_one_operator(name: str) -> None:
    body, expected = WRITTEN_OUT[name]
    model = network(body, SHAPE, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == [expected]
    assert computes_the_same(result.graph, model)


def test_what_was_recognised_is_said() -> None:
    body, _ = WRITTEN_OUT["silu"]
    assert canonical(network(body, SHAPE, CONSTANTS)).changes == ("recognised as one operator each: 1 Swish",)


def test_parameters_of_activations_are_kept() -> None:
    quick = canonical(network(WRITTEN_OUT["quick gelu"][0], SHAPE, CONSTANTS)).graph.nodes[0]
    assert quick.attributes["alpha"] == pytest.approx(1.702)
    tanh = canonical(network(WRITTEN_OUT["tanh gelu"][0], SHAPE, CONSTANTS)).graph.nodes[0]
    assert tanh.attributes["approximate"] == "tanh"


def test_old_clip_has_its_bounds_in_attributes() -> None:
    model = network("y = Clip <min = 0.0> (x)", SHAPE, opset=6)
    assert operators(canonical(model).graph) == ["Relu"]


def test_a_gate_that_others_read_stays_for_them() -> None:
    model = network("s = Sigmoid (x)  p = Mul (x, s)  y = Add (p, s)", SHAPE)
    result = canonical(model)
    assert operators(result.graph) == ["Sigmoid", "Swish", "Add"]
    assert computes_the_same(result.graph, model)


def test_a_protected_tensor_keeps_its_name() -> None:
    model = network("s = Sigmoid (x)  p = Mul (x, s)  y = Neg (p)", SHAPE)
    assert "s" in {name for node in canonical(model, protected=("s",)).graph.nodes for name in node.outputs}


@pytest.mark.parametrize(
    ("body", "attempt", "operator", "reason"),
    [
        ("t = Tanh (x)  y = Mul (x, t)", activations._tanh_gelu, "Tanh", "argument"),
        ("t = Tanh (x)  y = Mul (x, t)", activations._mish, "Tanh", "argument"),
        ("z = Neg (x)  s = Sigmoid (z)  y = Mul (x, s)", activations._swish, "Sigmoid", "argument"),
        ("y = Clip (x, zero, three)", activations._hard_sigmoid, "Clip", "bounds"),
        ("y = Clip (x, zero, six)", activations._hard_sigmoid, "Clip", "argument"),
        ("c = Clip (x, zero, six)  y = Mul (x, c)", activations._hard_swish_of_clip, "Clip", "argument"),
        ("s = HardSigmoid (x)  z = Abs (s)  y = Mul (z, s)", activations._hard_swish, "HardSigmoid", "not multiplied"),
        ("y = Clip (x, zero, six)", activations._clip, "Clip", "canonical"),
        ("y = Max (x, x)", activations._clip, "Max", "does not clip"),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, attempt: Attempt, operator: str, reason: str) -> None:
    declined = outcome(network(body, SHAPE, CONSTANTS), attempt, operator)
    assert declined is not None
    assert reason in declined
    assert near_miss(network(body, SHAPE, CONSTANTS), attempt, operator) is None


@pytest.mark.parametrize(
    ("body", "attempt", "operator", "reason"),
    [
        (
            "s = Div (x, two)  t = Erf (s)  u = Add (t, one)  y = Mul (x, u)",
            activations._erf_gelu, "Erf", "its argument is 0.5 x, not 0.7071 x",
        ),
        (
            "s = Div (x, root_2)  t = Erf (s)  y = Mul (x, t)",
            activations._erf_gelu, "Erf", "no node after it makes 0.5 x + 0.5 x Erf",
        ),
        (
            "q = Mul (x, x)  c = Mul (q, x)  u = Add (x, c)  t = Tanh (u)  v = Add (t, one)  y = Mul (x, v)",
            activations._tanh_gelu, "Tanh", "its argument is x + x^3, not 0.7979 x + 0.03568 x^3",
        ),
        (
            "s = Sigmoid (x)  z = Neg (x)  y = Mul (z, s)",
            activations._swish, "Sigmoid", "the result is -1 x Sigmoid, not x Sigmoid",
        ),
        ("s = Softplus (x)  t = Tanh (s)  y = Add (x, t)", activations._mish, "Tanh", "no node after it makes x Tanh"),
        (
            "p = Add (x, two)  c = Clip (p, zero, six)  y = Mul (x, c)",
            activations._hard_swish_of_clip, "Clip", "its argument is 2 + x, not 3 + x",
        ),
        (
            "p = Add (x, three)  c = Clip (p, zero, six)  y = Add (x, c)",
            activations._hard_swish_of_clip, "Clip", "no node after it makes 0.1667 x Clip",
        ),
        (
            "s = HardSigmoid (x)  y = Mul (x, s)",
            activations._hard_swish, "HardSigmoid", "its slope and offset are 0.2 and 0.5, not 1/6 and 1/2",
        ),
    ],
)  # fmt: skip
def test_what_is_nearly_an_activation(body: str, attempt: Attempt, operator: str, reason: str) -> None:
    assert near_miss(network(body, SHAPE, CONSTANTS), attempt, operator) == reason
