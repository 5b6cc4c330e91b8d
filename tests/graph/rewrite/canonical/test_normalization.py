from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical import normalization
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, near_miss, operators, outcome

LAYER = partial(normalization._normalisation, "LayerNormalization")
TOKENS = {"x": ("N", 5, 8)}
CONSTANTS = {
    "last": np.array([-1]), "two": np.float32(2.0), "epsilon": np.float32(1e-5), "zero": np.float32(0.0),
    "one": np.float32(1.0), "minus_half": np.float32(-0.5), "half": np.float32(0.5), "eight": np.float32(8.0),
    "scale": weights(8), "shift": weights(8, seed=1),
}  # fmt: skip
MEAN = "m = ReduceMean <keepdims = 1> (x, last)"
TWO_PASS = f"{MEAN}  d = Sub (x, m)  q = Pow (d, two)  v = ReduceMean <keepdims = 1> (q, last)  e = Add (v, epsilon)"
ONE_PASS = (
    f"{MEAN}  q = Mul (x, x)  n = ReduceMean <keepdims = 1> (q, last)  k = Mul (m, m)  w = Sub (n, k)"
    "  v = Max (w, zero)  e = Add (v, epsilon)  d = Sub (x, m)"
)
SQUARES = "q = Mul (x, x)  v = ReduceMean <keepdims = 1> (q, last)  e = Add (v, epsilon)  s = Sqrt (e)"

WRITTEN_OUT = {
    "PyTorch": f"{TWO_PASS}  s = Sqrt (e)  n0 = Div (d, s)  n1 = Mul (n0, scale)  y = Add (n1, shift)",
    "squares by multiplication": (
        f"{TWO_PASS.replace('Pow (d, two)', 'Mul (d, d)')}  s = Sqrt (e)  n0 = Div (d, s)  n1 = Mul (scale, n0)"
        "  y = Add (shift, n1)"
    ),
    "reciprocal": (
        f"{TWO_PASS}  s = Sqrt (e)  r = Reciprocal (s)  n0 = Mul (d, r)  n1 = Mul (n0, scale)  y = Add (n1, shift)"
    ),
    "power of minus one half": (
        f"{TWO_PASS}  r = Pow (e, minus_half)  n0 = Mul (d, r)  n1 = Mul (n0, scale)  y = Add (n1, shift)"
    ),
    "TensorFlow": (
        f"{TWO_PASS}  s = Sqrt (e)  r = Reciprocal (s)  g = Mul (r, scale)  a = Mul (x, g)  b = Mul (m, g)"
        "  c = Sub (shift, b)  y = Add (a, c)"
    ),
    "Flax": f"{ONE_PASS}  s = Sqrt (e)  r = Div (one, s)  g = Mul (r, scale)  n1 = Mul (d, g)  y = Add (n1, shift)",
    "power of one half": f"{TWO_PASS}  s = Pow (e, half)  n0 = Div (d, s)  n1 = Mul (n0, scale)  y = Add (n1, shift)",
    "sums over counts": (
        "t = ReduceSum <keepdims = 1> (x, last)  m = Div (t, eight)  d = Sub (x, m)  q = Mul (d, d)"
        "  u = ReduceSum <keepdims = 1> (q, last)  v = Div (u, eight)  e = Add (v, epsilon)  s = Sqrt (e)"
        "  n0 = Div (d, s)  n1 = Mul (n0, scale)  y = Add (n1, shift)"
    ),
    "sum of squares": (
        f"{MEAN}  d = Sub (x, m)  u = ReduceSumSquare <keepdims = 1> (d, last)  v = Div (u, eight)"
        "  e = Add (v, epsilon)  s = Sqrt (e)  n0 = Div (d, s)  n1 = Mul (n0, scale)  y = Add (n1, shift)"
    ),
    "axes given back": (
        "m0 = ReduceMean <keepdims = 0> (x, last)  m = Unsqueeze (m0, last)  d = Sub (x, m)  q = Mul (x, x)"
        "  n = ReduceMean <keepdims = 0> (q, last)  k = Mul (m0, m0)  w = Sub (n, k)  v = Max (w, zero)"
        "  v1 = Unsqueeze (v, last)  e = Add (v1, epsilon)  s = Sqrt (e)  r = Div (one, s)  g = Mul (r, scale)"
        "  n1 = Mul (d, g)  y = Add (n1, shift)"
    ),
    "without scale and shift": f"{TWO_PASS}  s = Sqrt (e)  y = Div (d, s)",
    "scale alone": f"{TWO_PASS}  s = Sqrt (e)  n0 = Div (d, s)  y = Mul (n0, scale)",
}


@pytest.mark.parametrize("framework", WRITTEN_OUT)
def test_layer_normalisation_written_out(framework: str) -> None:
    model = network(WRITTEN_OUT[framework], TOKENS, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["LayerNormalization"]
    assert computes_the_same(result.graph, model)
    assert result.changes == ("recognised as one operator each: 1 LayerNormalization",)


@pytest.mark.parametrize(
    ("normalisation", "shape", "vector", "opset"),
    [
        ("LayerNormalization (x, ones)", (5, 6), (6,), 18),
        ("InstanceNormalization (x, ones, zeros)", (6, 5), (6, 1), 18),
        ("GroupNormalization <num_groups = 2> (x, ones, zeros)", (6, 5, 4), (6, 1, 1), 21),
    ],
)
def test_scale_and_shift_behind_an_operator_that_has_none(
    normalisation: str, shape: tuple[int, ...], vector: tuple[int, ...], opset: int
) -> None:
    constants = {
        "ones": np.ones(6, np.float32), "zeros": np.zeros(6, np.float32),
        "scale": weights(*vector), "shift": weights(*vector, seed=1),
    }  # fmt: skip
    body = f"n = {normalisation}  m = Mul (n, scale)  y = Add (m, shift)"
    model = network(body, {"x": ("N", *shape)}, constants, opset=opset)
    result = canonical(model)
    assert operators(result.graph) == [normalisation.partition(" ")[0]]
    assert computes_the_same(result.graph, model)
    trained = {"ones": weights(6, seed=3)}
    assert len(operators(canonical(network(body, {"x": ("N", *shape)}, constants | trained, opset=opset)).graph)) == 3


FLAX_INSTANCES = """
    c = Conv (x, k)  t = Transpose <perm = [0, 2, 3, 1]> (c)
    m0 = ReduceMean <keepdims = 0> (t, positions)  q = Mul (t, t)  n = ReduceMean <keepdims = 0> (q, positions)
    p = Mul (m0, m0)  w = Sub (n, p)  v = Max (w, zero)  m = Unsqueeze (m0, positions)  v1 = Unsqueeze (v, positions)
    d = Sub (t, m)  e = Add (v1, eps)  s = Sqrt (e)  i = Div (one, s)  g = Mul (i, scale)  z = Mul (d, g)
    a = Add (z, shift)  r = Relu (a)  u = Transpose <perm = [0, 3, 1, 2]> (r)  y = Conv (u, k)
"""


def test_instance_normalisation_of_flax_between_convolutions() -> None:
    """Statistics lose the axes of the positions and get them back, on channels-last maps that are turned."""
    constants = {
        "k": weights(8, 8, 1, 1), "positions": np.array([1, 2]), "zero": np.float32(0), "one": np.float32(1),
        "eps": np.float32(1e-6), "scale": weights(1, 1, 1, 8), "shift": weights(8, seed=1),
    }  # fmt: skip
    model = network(FLAX_INSTANCES, {"x": ("N", 8, 4, 4)}, constants)
    result = canonical(model)
    assert operators(result.graph) == ["Conv", "InstanceNormalization", "Relu", "Conv"]
    assert computes_the_same(result.graph, model)


def test_pooled_vectors_do_not_keep_axes() -> None:
    """Squeeze-and-excite gives axes back to a mean, and goes on with a layer."""
    body = """
        p = ReduceMean <keepdims = 0> (x, positions)  u = Unsqueeze (p, positions)
        c = Conv (u, w)  s = Sigmoid (c)  y = Mul (x, s)
    """
    constants = {"positions": np.array([2, 3]), "w": weights(3, 3, 1, 1)}
    model = network(body, {"x": ("N", 3, 4, 6)}, constants)
    assert outcome(model, normalization._axes_given_back, "Unsqueeze") == "what follows is no arithmetic"


@pytest.mark.parametrize("ending", ["y = Div (x, s)", "n = Div (x, s)  y = Mul (n, scale)"])
def test_root_mean_square_normalisation(ending: str) -> None:
    model = network(f"{SQUARES}  {ending}", TOKENS, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["RMSNormalization"]
    assert computes_the_same(result.graph, model)


def test_what_reads_the_statistics_elsewhere_keeps_them() -> None:
    model = network(f"{TWO_PASS}  s = Sqrt (e)  n = Div (d, s)  y = Add (n, m)", TOKENS, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["ReduceMean", "LayerNormalization", "Add"]
    assert computes_the_same(result.graph, model)


def test_over_the_channels_of_a_map_it_is_transposed() -> None:
    constants = {**CONSTANTS, "last": np.array([1]), "scale": weights(3, 1, 1), "shift": weights(1, 3, 1, 1)}
    model = network(WRITTEN_OUT["PyTorch"], {"x": ("N", 3, 4, 6)}, constants)
    result = canonical(model)
    assert operators(result.graph) == ["Transpose", "LayerNormalization", "Transpose"]
    assert computes_the_same(result.graph, model)


def test_over_several_trailing_axes() -> None:
    constants = {**CONSTANTS, "last": np.array([2, 3]), "scale": weights(4, 6), "shift": weights(4, 6, seed=1)}
    model = network(WRITTEN_OUT["PyTorch"], {"x": ("N", 3, 4, 6)}, constants)
    result = canonical(model)
    assert operators(result.graph) == ["LayerNormalization"]
    assert computes_the_same(result.graph, model)


GROUPS = """
    g = Reshape (x, groups)
    n = InstanceNormalization <epsilon = 0.001> (g, ones, zeros)
    shape = Shape (x)
    r = Reshape (n, shape)
    m = Mul (r, scale)
    y = Add (m, shift)
"""
GROUP_CONSTANTS = {
    "groups": np.array([0, 2, -1]), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32),
    "scale": weights(6, 1, 1), "shift": weights(6, 1, 1, seed=1),
}  # fmt: skip


def test_group_normalisation() -> None:
    model = network(GROUPS, {"x": ("N", 6, 4, 4)}, GROUP_CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["GroupNormalization"]
    assert result.graph.nodes[0].attributes["num_groups"] == 2
    assert computes_the_same(result.graph, model)


KERAS_GROUPS = """
    r = Reshape (x, groups)  m = ReduceMean (r, over)  d = Sub (r, m)  q = Mul (d, d)  v = ReduceMean (q, over)
    e = Add (v, eps)  s = Sqrt (e)  i = Reciprocal (s)  f = Mul (i, g5)  p = Mul (r, f)  n = Mul (m, f)
    o = Sub (b5, n)  u = Add (p, o)  y = Reshape (u, back)
"""
KERAS_CONSTANTS = {
    "groups": np.array([-1, 4, 5, 2, 3]), "over": np.array([1, 2, 4]), "back": np.array([-1, 4, 5, 6]),
    "eps": np.float32(1e-3), "g5": weights(1, 1, 1, 2, 3), "b5": weights(1, 1, 1, 2, 3, seed=1),
}  # fmt: skip


@pytest.mark.parametrize("shift", ["b5", "zero"])
def test_group_normalisation_of_keras(shift: str) -> None:
    body = KERAS_GROUPS if shift == "b5" else KERAS_GROUPS.replace("o = Sub (b5, n)", "o = Neg (n)")
    model = network(body, {"x": ("N", 4, 5, 6)}, KERAS_CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Transpose", "GroupNormalization", "Transpose"]
    assert result.graph.nodes[1].attributes["num_groups"] == 2
    assert computes_the_same(result.graph, model)


def test_group_normalisation_of_keras_between_convolutions() -> None:
    turned = KERAS_GROUPS.replace("Reshape (x", "Reshape (t").replace("y = Reshape", "w = Reshape")
    body = (
        f"c = Conv (x, k)  t = Transpose <perm = [0, 2, 3, 1]> (c)  {turned}  y = Transpose <perm = [0, 3, 1, 2]> (w)"
    )
    model = network(body, {"x": ("N", 6, 4, 5)}, {**KERAS_CONSTANTS, "k": weights(6, 6, 1, 1)})
    result = canonical(model)
    assert operators(result.graph) == ["Conv", "GroupNormalization"]
    assert computes_the_same(result.graph, model)


FLAX = """
    r = Reshape (x, groups)  m = ReduceMean (r, over)  d = Sub (r, m)  q = Mul (r, r)  n = ReduceMean (q, over)
    k = Mul (m, m)  w = Sub (n, k)  v = Max (w, zero)  e = Add (v, eps)  s = Sqrt (e)  u = Div (d, s)
"""
AFFINE = "z = Reshape (u, back)  f = Mul (z, scale)  y = Add (f, shift)"
FLAX_CONSTANTS = {
    "eps": np.float32(1e-6),
    "zero": np.float32(0),
    "scale": weights(1, 1, 6),
    "shift": weights(6, seed=1),
}


@pytest.mark.parametrize("positions", [(4,), (4, 5), (4, 5, 3)])
@pytest.mark.parametrize("affine", ["z = Reshape (u, back)", "z = Reshape (u, back)  y = Mul (z, scale)", AFFINE])
def test_group_normalisation_of_flax(positions: tuple[int, ...], affine: str) -> None:
    """Scale and shift come after the groups are joined; each counts once."""
    rank = len(positions) + 2
    constants = FLAX_CONSTANTS | {
        "groups": np.array([-1, *positions, 2, 3]), "over": np.array([*range(1, rank - 1), rank]),
        "back": np.array([-1, *positions, 6]),
    }  # fmt: skip
    body = FLAX + (affine if "y =" in affine else affine.replace("z =", "y ="))
    model = network(body, {"x": ("N", *positions, 6)}, constants)
    result = canonical(model)
    assert operators(result.graph) == ["Transpose", "GroupNormalization", "Transpose"]
    assert result.changes == ("recognised as one operator each: 1 GroupNormalization",)
    assert computes_the_same(result.graph, model)
    scale, shift = (result.graph.constants[name].sources for name in result.graph.nodes[1].inputs[1:])
    assert (scale == {"scale"}, shift == {"shift"}) == ("Mul" in affine, "Add" in affine)


@pytest.mark.parametrize("affine", ["", "m = Mul (r, one)  y = Add (m, zero)", "y = Mul (r, scale)"])
def test_group_normalisation_without_scale_or_shift(affine: str) -> None:
    """TorchScript multiplies by a one and adds a zero where there is neither."""
    body = GROUPS[: GROUPS.index("m = Mul")] + affine
    body = body if affine else body.replace("r = Reshape", "y = Reshape")
    constants = GROUP_CONSTANTS | {"one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)}
    model = network(body, {"x": ("N", 6, 4, 4)}, constants)
    result = canonical(model)
    assert operators(result.graph) == ["GroupNormalization"]
    assert computes_the_same(result.graph, model)


INSTANCES = {
    "channels first": ((6, 4, 5), (2, 3), (6, 1, 1), ["InstanceNormalization"]),
    "channels last": ((4, 5, 6), (1, 2), (6,), ["Transpose", "InstanceNormalization", "Transpose"]),
    "signal": ((6, 9), (2,), (6, 1), ["InstanceNormalization"]),
    "channels-last signal": ((9, 6), (1,), (6,), ["Transpose", "InstanceNormalization", "Transpose"]),
    "volume": ((6, 4, 5, 3), (2, 3, 4), (6, 1, 1, 1), ["InstanceNormalization"]),
}


@pytest.mark.parametrize("spelling", ["PyTorch", "TensorFlow", "Flax", "scale alone", "without scale and shift"])
@pytest.mark.parametrize("layout", INSTANCES)
def test_instance_normalisation_written_out(layout: str, spelling: str) -> None:
    shape, axes, vector, expected = INSTANCES[layout]
    constants = CONSTANTS | {"last": np.array(axes), "scale": weights(*vector), "shift": weights(*vector, seed=1)}
    model = network(WRITTEN_OUT[spelling], {"x": ("N", *shape)}, constants)
    result = canonical(model)
    if spelling != "without scale and shift" or len(shape) > 2:
        assert operators(result.graph) == expected
        assert result.changes == ("recognised as one operator each: 1 InstanceNormalization",)
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("constants", "shape", "pattern", "reason"),
    [
        (
            {"back": np.array([-1, 5, 4, 6])}, (4, 5, 6),
            "GroupNormalization", "the reshapes around it do not undo each other",
        ),
        ({"groups": np.array([-1, 4, 2, 5, 3]), "over": np.array([1, 2, 4]), "g5": weights(1, 1, 1, 5, 3),
          "b5": weights(1, 1, 1, 5, 3)}, (4, 5, 6),
         "GroupNormalization", "the reshapes around it do not undo each other"),
        (
            {"g5": weights(1, 4, 5, 2, 3), "b5": weights(1, 4, 5, 2, 3)}, (4, 5, 6),
            "GroupNormalization", "its scale or shift is not one number per channel",
        ),
        (
            {"g5": weights(1, 1, 6, 1, 1), "b5": weights(1, 1, 6, 1, 1)}, (4, 6, 6),
            "GroupNormalization", "its scale or shift is not one number per channel",
        ),
    ],
    ids=["other-positions", "positions-in-groups", "scale-per-position", "scale-per-column"],
)  # fmt: skip
def test_groups_that_are_not_those_of_keras(
    constants: dict[str, np.ndarray], shape: tuple[int, ...], pattern: str, reason: str
) -> None:
    given = {**KERAS_CONSTANTS, **constants}
    if shape[1] == 6:
        given |= {"groups": np.array([-1, 4, 6, 2, 3]), "back": np.array([-1, 4, 6, 6])}
    model = network(KERAS_GROUPS, {"x": ("N", *shape)}, given)
    result = canonical(model)
    assert "GroupNormalization" not in operators(result.graph)
    assert (pattern, reason) in {(miss.pattern, miss.reason) for miss in result.near_misses}
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Sqrt (x)", "not the root of a variance"),
        (f"{MEAN}  y = Sqrt (m)", "not the root of a variance"),
        ("t = Add (x, epsilon)  y = Sqrt (t)", "not the root of a variance"),
        (
            "q = Mul (x, x)  v = ReduceSum <keepdims = 1> (q, last)  e = Add (v, epsilon)  s = Sqrt (e)"
            "  y = Div (x, s)",
            "not the root of a variance",
        ),
    ],
)
def test_roots_of_something_else(body: str, reason: str) -> None:
    model = network(body, TOKENS, CONSTANTS)
    assert reason in str(outcome(model, LAYER, "Sqrt"))
    assert near_miss(model, LAYER, "Sqrt") is None


TWO_PASS_WITHOUT_EPSILON = TWO_PASS.partition("  e = Add")[0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{TWO_PASS}  y = Sqrt (e)", "nothing after this root divides x - mean(x) by it"),
        (f"{TWO_PASS}  s = Sqrt (e)  y = Div (x, s)", "nothing after this root divides x - mean(x) by it"),
        (f"{SQUARES}  y = Mul (x, s)", "nothing after this root divides x by it"),
        (
            f"{TWO_PASS_WITHOUT_EPSILON}  s = Sqrt (v)  t = Add (s, epsilon)  y = Div (d, t)",
            "nothing is added under its root, where an epsilon below 0.1 was expected",
        ),
        (
            f"{TWO_PASS_WITHOUT_EPSILON}  e = Add (v, half)  s = Sqrt (e)  y = Div (d, s)",
            "0.5 is added under its root, where an epsilon below 0.1 was expected",
        ),
        (
            f"{TWO_PASS_WITHOUT_EPSILON}  u = Mul (v, unbiased)  e = Add (u, epsilon)  s = Sqrt (e)  y = Div (d, s)",
            "its mean of 8 squares is multiplied by 1.1429: it divides by 7, as an unbiased variance does",
        ),
        (
            f"{TWO_PASS_WITHOUT_EPSILON}  u = Mul (v, half)  e = Add (u, epsilon)  s = Sqrt (e)  y = Div (d, s)",
            "its mean of 8 squares is multiplied by 0.5",
        ),
        (
            f"{MEAN}  d = Sub (x, m)  q = Mul (d, d)  u = ReduceSum <keepdims = 1> (q, last)  v = Div (u, seven)"
            "  e = Add (v, epsilon)  s = Sqrt (e)  y = Div (d, s)",
            "its sum of 8 squares is multiplied by 0.14286: it divides by 7, as an unbiased variance does",
        ),
        (
            "q = Mul (x, x)  v = ReduceMean <keepdims = 0> (q, last)  e = Add (v, epsilon)  s = Sqrt (e)"
            "  r = Unsqueeze (s, last)  y = Div (x, r)",
            "its mean of squares does not keep the axes that it is over (keepdims)",
        ),
    ],
)
def test_what_is_nearly_a_normalisation(body: str, reason: str) -> None:
    constants = {**CONSTANTS, "unbiased": np.float32(8 / 7), "seven": np.float32(7.0)}
    assert near_miss(network(body, TOKENS, constants), LAYER, "Sqrt") == reason


@pytest.mark.parametrize("after", ["n = Div (d, s)  y = Mul (n, scale)", "y = Div (x, s)"])
def test_a_mean_over_other_axes_than_the_variance(after: str) -> None:
    body = f"{MEAN}  d = Sub (x, m)  q = Mul (d, d)  v = ReduceMean <keepdims = 1> (q, both)  e = Add (v, epsilon)"
    model = network(f"{body}  s = Sqrt (e)  {after}", TOKENS, CONSTANTS | {"both": np.array([1, 2])})
    (miss,) = canonical(model).near_misses
    assert miss.pattern == "LayerNormalization"
    assert miss.reason == "it subtracts a mean over axes [2], and its variance is over axes [1, 2]"


def test_it_declines_a_mean_over_the_batch() -> None:
    constants = {**CONSTANTS, "last": np.array([0])}
    model = network(f"{TWO_PASS}  s = Sqrt (e)  y = Div (d, s)", TOKENS, constants)
    assert near_miss(model, LAYER, "Sqrt") == "its mean of squares is over the batch too"


def test_it_declines_a_middle_axis() -> None:
    constants = {**CONSTANTS, "last": np.array([2])}
    model = network(f"{TWO_PASS}  s = Sqrt (e)  y = Div (d, s)", {"x": ("N", 3, 4, 6)}, constants)
    declined = near_miss(model, LAYER, "Sqrt")
    assert declined == "it normalises over axes [2], which are neither the last ones nor the channels alone"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ones": np.array([1.0, 2.0], np.float32)}, "it scales or shifts each group, not each channel"),
        (
            {"groups": np.array([0, 4, -1]), "ones": np.ones(4, np.float32), "zeros": np.zeros(4, np.float32)},
            "the Reshape before it does not divide the channels into groups",
        ),
    ],
)
def test_reasons_to_decline_groups(changed: dict[str, np.ndarray], reason: str) -> None:
    model = network(GROUPS, {"x": ("N", 6, 4, 4)}, {**GROUP_CONSTANTS, **changed})
    assert near_miss(model, normalization._group_normalisation, "InstanceNormalization") == reason
