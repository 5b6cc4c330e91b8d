from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.graph import prepare
from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, roles
from tests.graph.builders import network, weights


def roles_of(model: onnx.ModelProto) -> dict[str, ConstantRole]:
    prepared = prepare(model, keep_graph=True)
    return dict(roles(prepared.graph))


def test_operands_by_position() -> None:
    model = network(
        """
        a = Conv (x, conv_w, conv_b)
        b = BatchNormalization (a, scale, shift, mean, variance)
        c = PRelu (b, slope)
        d = GlobalAveragePool (c)
        e = Flatten (d)
        y = Gemm (e, fc_w, fc_b)
        """,
        constants={
            "conv_w": weights(4, 3, 3, 3), "conv_b": weights(4), "scale": weights(4), "shift": weights(4, seed=1),
            "mean": weights(4, seed=2), "variance": np.abs(weights(4, seed=3)), "slope": weights(4, 1, 1),
            "fc_w": weights(4, 10), "fc_b": weights(10),
        },
    )  # fmt: skip
    assert roles_of(model) == {
        "conv_w": ConstantRole.CONV_WEIGHT,
        "conv_b": ConstantRole.BIAS,
        "scale": ConstantRole.NORM_SCALE,
        "shift": ConstantRole.NORM_SHIFT,
        "mean": ConstantRole.NORM_MEAN,
        "variance": ConstantRole.NORM_VARIANCE,
        "slope": ConstantRole.SLOPE,
        "fc_w": ConstantRole.LINEAR_WEIGHT,
        "fc_b": ConstantRole.BIAS,
    }


def test_recurrent_weights() -> None:
    model = network(
        "y = LSTM <hidden_size = 5> (x, w, r, b, , h0, , p)",
        {"x": (7, 1, 3)},
        {
            "w": weights(1, 20, 3),
            "r": weights(1, 20, 5),
            "b": weights(1, 40),
            "h0": weights(1, 1, 5),
            "p": weights(1, 15),
        },
    )
    assert roles_of(model) == {
        "w": ConstantRole.RECURRENT_WEIGHT,
        "r": ConstantRole.RECURRENT_WEIGHT,
        "b": ConstantRole.BIAS,
        "h0": ConstantRole.FIXED,
        "p": ConstantRole.RECURRENT_WEIGHT,
    }


def test_transformer_constants_by_use() -> None:
    model = network(
        """
        tokens = Concat <axis = 1> (cls, x)
        a = Add (tokens, position)
        b = LayerNormalization (a, scale, shift)
        c = MatMul (b, w)
        d = Add (c, bias)
        e = Mul (d, layer_scale)
        y = Add (a, e)
        """,
        {"x": (1, 4, 8)},
        {
            "cls": weights(1, 1, 8), "position": weights(1, 5, 8), "scale": weights(8), "shift": weights(8, seed=1),
            "w": weights(8, 8), "bias": weights(8, seed=2), "layer_scale": weights(8, seed=3),
        },
    )  # fmt: skip
    assert roles_of(model) == {
        "cls": ConstantRole.POSITION,
        "position": ConstantRole.POSITION,
        "scale": ConstantRole.NORM_SCALE,
        "shift": ConstantRole.NORM_SHIFT,
        "w": ConstantRole.LINEAR_WEIGHT,
        "bias": ConstantRole.BIAS,
        "layer_scale": ConstantRole.SCALE,
    }


def test_a_class_token_is_followed_through_what_only_moves_it() -> None:
    model = network(
        """
        shape = Shape (x)
        zero = Constant <value_ints = [0]> ()
        batch = Gather (shape, zero)
        rest = Constant <value_ints = [-1, -1]> ()
        minus = Constant <value_ints = [1, 8]> ()
        target = Concat <axis = 0> (batch, minus)
        expanded = Expand (cls, target)
        y = Concat <axis = 1> (expanded, x)
        """,
        {"x": ("N", 4, 8)},
        {"cls": weights(1, 1, 8)},
    )
    assert roles_of(model)["cls"] is ConstantRole.POSITION


def test_an_embedding_is_a_table_that_data_indexes() -> None:
    model = network(
        "r = Relu (x)  i = Cast <to = 7> (r)  e = Gather (table, i)  y = MatMul (e, w)",
        {"x": (1, 6)},
        {"table": weights(50, 8), "w": weights(8, 8)},
    )
    assert roles_of(model)["table"] is ConstantRole.EMBEDDING


def test_preprocessing_is_fixed_but_the_same_operators_further_on_are_not() -> None:
    model = network(
        """
        a = Sub (x, mean)
        b = Div (a, deviation)
        c = Conv (b, w)
        d = Mul (c, factor)
        e = Relu (d)
        y = Add (e, offset)
        """,
        constants={
            "mean": weights(1, 3, 1, 1), "deviation": np.abs(weights(1, 3, 1, 1, seed=1)), "w": weights(4, 3, 1, 1),
            "factor": weights(1, 4, 1, 1), "offset": weights(1, 4, 1, 1, seed=1),
        },
    )  # fmt: skip
    found = roles_of(model)
    roles = [found[name] for name in ("mean", "deviation", "factor", "offset")]
    assert roles == [ConstantRole.FIXED, ConstantRole.FIXED, ConstantRole.SCALE, ConstantRole.BIAS]


def test_a_mask_is_fixed_and_a_blank_table_is_not() -> None:
    mask = np.zeros((1, 2, 8, 8), dtype=np.float32)
    mask[..., 4:] = -100
    body = "a = Conv (x, w)  y = Add (a, table)"
    constants = {"w": weights(2, 3, 1, 1), "table": mask}
    assert roles_of(network(body, constants=constants))["table"] is ConstantRole.FIXED
    blank = {**constants, "table": np.zeros_like(mask)}
    assert roles_of(network(body, constants=blank))["table"] is ConstantRole.POSITION


def test_a_table_made_from_shapes_is_fixed() -> None:
    model = network(
        """
        start = Constant <value_int = 0> ()
        end = Constant <value_int = 64> ()
        step = Constant <value_int = 1> ()
        range = Range (start, end, step)
        float = Cast <to = 1> (range)
        target = Constant <value_ints = [1, 1, 8, 8]> ()
        table = Reshape (float, target)
        a = Conv (x, w)
        y = Add (a, table)
        """,
        constants={"w": weights(1, 3, 1, 1)},
    )
    assert roles_of(model)["table"] is ConstantRole.FIXED


@pytest.mark.parametrize("channels", [4, 64])
def test_a_blur_kernel_is_fixed(channels: int) -> None:
    kernel = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
    blur = np.broadcast_to(kernel, (channels, 1, 3, 3)).copy()
    body = f"a = Conv (x, w)  y = Conv <group = {channels}> (a, blur)"
    found = roles_of(network(body, constants={"w": weights(channels, 3, 1, 1), "blur": blur}))
    assert found == {"w": ConstantRole.CONV_WEIGHT, "blur": ConstantRole.FIXED}


def test_rotary_factors_are_fixed_and_other_factors_of_two_axes_are_trained() -> None:
    """The cosines of rotary positions must keep their values."""
    angles = np.arange(16)[:, None] * 100.0 ** (-np.arange(8) / 8)
    model = network(
        "a = MatMul (x, w)  b = Mul (a, cos)  y = Mul (b, factor)",
        {"x": (1, 16, 8)},
        {"w": weights(8, 8), "cos": np.cos(angles)[None].astype(np.float32), "factor": weights(16, 8, seed=1)},
    )
    assert roles_of(model) == {"w": ConstantRole.LINEAR_WEIGHT, "cos": ConstantRole.FIXED, "factor": ConstantRole.SCALE}


def test_a_vector_that_plays_two_roles_becomes_two() -> None:
    ones = np.ones(4, dtype=np.float32)
    model = network(
        "a = Conv (x, w)  y = BatchNormalization (a, ones, shift, mean, ones)",
        constants={"w": weights(4, 3, 1, 1), "ones": ones, "shift": weights(4), "mean": weights(4, seed=1)},
    )
    found = roles_of(model)
    assert (found["ones"], found["ones/running variance"]) == (ConstantRole.NORM_SCALE, ConstantRole.NORM_VARIANCE)


def test_scalars_have_no_role() -> None:
    model = network(
        "a = Conv (x, w)  y = Mul (a, half)", constants={"w": weights(4, 3, 1, 1), "half": np.array([0.5], np.float32)}
    )
    assert "half" not in roles_of(model)


# ---- Trained, or computed, or written by the exporter ----------------------------------------------------------------
SIGNATURE = "p_a: PARAMETER target='conv_w'\n{}"


def role_of(
    body: str, name: str, value: np.ndarray, *, declared: str = "", **constants: np.ndarray
) -> ConstantRole | None:
    """Return the role of one constant of a network that begins with a convolution."""
    metadata = {SIGNATURE_KEY: SIGNATURE.format(declared)} if declared else None
    model = network(
        f"c = Conv (x, conv_w) {body}", {"x": (1, 3, 8, 8)}, {"conv_w": weights(4, 3, 1, 1), name: value, **constants},
        metadata=metadata,
    )  # fmt: skip
    return roles_of(model).get(name)


def test_an_identity_that_is_added_is_fixed_and_a_bias_is_none() -> None:
    eye = np.eye(8, dtype=np.float32)
    assert role_of("y = Add (c, eye)", "eye", eye) is ConstantRole.FIXED
    assert role_of("y = Add (c, table)", "table", weights(8, 8)) is ConstantRole.POSITION
    flat = np.eye(2, dtype=np.float32).reshape(1, 4)
    body = "p = GlobalAveragePool (c)  f = Flatten (p)  y = Gemm (f, w, {})"
    assert role_of(body.format("flat"), "flat", flat[0], w=weights(4, 4)) is ConstantRole.BIAS
    body = "p = GlobalAveragePool (c)  f = Flatten (p)  g = Gemm (f, w, b)  y = Add (g, flat)"
    assert role_of(body, "flat", flat, w=weights(4, 4), b=weights(4)) is ConstantRole.FIXED


def test_a_quantised_depthwise_kernel_is_trained_though_its_numbers_repeat() -> None:
    kernel = np.round(weights(960, 1, 3, 3) * 40) * np.float32(0.0013)
    body = "d = Conv (x, spread)  y = Conv <group = 960> (d, kernel)"
    assert role_of(body, "kernel", kernel, spread=weights(960, 3, 1, 1)) is ConstantRole.CONV_WEIGHT


@pytest.mark.parametrize("size", [4, 16])
def test_strides_and_anchors_are_fixed_at_any_size_of_the_image(size: int) -> None:
    cells = size * size
    centres = np.stack([np.tile(np.arange(size) + 0.5, size), np.repeat(np.arange(size) + 0.5, size)])[None]
    strides = np.concatenate([np.full(3 * cells // 4, 8), np.full(cells // 4, 16)])[None]
    model = network(
        "c = Conv (x, w)  s = Constant <value_ints = [0, 4, -1]> ()  r = Reshape (c, s)  i = Identity (r)"
        "  b, d = Split <axis = 1, num_outputs = 2> (r)  e = Add (b, centres)  y = Mul (e, strides)",
        {"x": (1, 3, size, size)},
        {"w": weights(4, 3, 1, 1), "centres": centres.astype(np.float32), "strides": strides.astype(np.float32)},
    )
    assert roles_of(model) == {
        "w": ConstantRole.CONV_WEIGHT,
        "centres": ConstantRole.FIXED,
        "strides": ConstantRole.FIXED,
    }


def test_matrices_of_a_transform_are_fixed() -> None:
    n = np.arange(8)
    dct = np.cos(np.pi / 8 * (n + 0.5) * n[:, None]).astype(np.float32)
    assert role_of("y = MatMul (c, dct)", "dct", dct) is ConstantRole.FIXED
    assert role_of("y = MatMul (c, hot)", "hot", np.eye(8, dtype=np.float32)[:, [1, 3]]) is ConstantRole.FIXED
    assert role_of("y = MatMul (c, w)", "w", weights(8, 8)) is ConstantRole.LINEAR_WEIGHT


def test_kernels_that_are_the_same_from_both_sides_are_fixed() -> None:
    blur = np.outer([1, 2.5, 1], [1, 2.5, 1]).astype(np.float32)[None, None]
    pool = "p = ReduceMean <keepdims = 1> (c, one)  y = Conv (p, {})"
    assert role_of(pool.format("blur"), "blur", blur, one=np.array([1])) is ConstantRole.FIXED
    assert role_of(pool.format("w"), "w", weights(1, 1, 3, 3), one=np.array([1])) is ConstantRole.CONV_WEIGHT
    bins = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)  # YOLO's expectation over a distribution
    assert role_of("s = Softmax <axis = 1> (c)  y = Conv (s, bins)", "bins", bins) is ConstantRole.FIXED


SCORES = "q = Transpose <perm = [0, 1, 3, 2]> (c)  s = MatMul (c, q)  m = Add (s, table)  y = Softmax (m)"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (np.zeros((1, 1, 8, 8)), ConstantRole.FIXED),
        (np.zeros((8, 8)), ConstantRole.FIXED),
        (np.triu(np.full((8, 8), -1e9), 1), ConstantRole.FIXED),
        (np.triu(np.full((8, 8), -np.inf), 1), ConstantRole.FIXED),
        (0.5 ** np.arange(1, 5).reshape(4, 1, 1) * -np.abs(np.arange(8) - np.arange(8)[:, None]), ConstantRole.FIXED),
        (np.zeros((1, 4, 8, 8)), ConstantRole.POSITION),  # relative positions for each head, before training
        (weights(1, 4, 8, 8), ConstantRole.POSITION),
        (weights(8, 8), ConstantRole.POSITION),
        (weights(4, 15)[:, np.arange(8) - np.arange(8)[:, None]], ConstantRole.POSITION),
    ],
)
def test_masks_of_attention_are_fixed_and_tables_of_relative_positions_are_none(
    table: np.ndarray, expected: ConstantRole
) -> None:
    assert role_of(SCORES, "table", table.astype(np.float32)) is expected


def test_a_mask_of_zeros_is_a_doubt() -> None:
    constants = {"conv_w": weights(4, 3, 1, 1), "table": np.zeros((8, 8), np.float32)}
    warnings = prepare(network(f"c = Conv (x, conv_w) {SCORES}", constants=constants)).warnings
    assert warnings == (
        "constants of one value (1 of them) are added to attention scores for all heads alike, and taken for masks",
    )


def test_a_factor_in_an_exponent_is_a_decay() -> None:
    """Mamba's state matrix is negative; before training it holds whole numbers."""
    body = "u = Unsqueeze (c, last)  m = Mul (u, a)  y = Exp (m)"
    for a in (-np.exp(weights(8, 5)), np.broadcast_to(-np.arange(1.0, 6.0), (8, 5))):
        assert role_of(body, "a", a.astype(np.float32), last=np.array([4])) is ConstantRole.DECAY
    body = 'm = Einsum <equation = "nchw,ws->nchws"> (c, a)  y = Exp (m)'
    assert role_of(body, "a", weights(8, 5)) is ConstantRole.DECAY


def test_parameters_that_the_file_lists_are_trained_but_for_sinusoids() -> None:
    eye, listed = np.eye(8, dtype=np.float32), "p_t: PARAMETER target='table'\n"
    assert role_of("y = MatMul (c, table)", "table", eye, declared=listed) is ConstantRole.LINEAR_WEIGHT
    sines = np.sin(np.arange(8)[:, None] * 10.0 ** (-np.arange(8) / 8)).astype(np.float32)
    assert role_of("y = Add (c, table)", "table", sines, declared=listed) is ConstantRole.FIXED
    buffer = listed.replace("PARAMETER", "BUFFER")
    assert role_of("y = Add (c, table)", "table", weights(8, 8), declared=buffer) is ConstantRole.FIXED


def test_what_a_file_keeps_as_nodes_beside_its_weights_was_written() -> None:
    body = "{}  y = Add (c, t)"
    text = "t = Constant <value = float[1, 1, 2, 4] {0.1, 0.7, 0.3, 0.9, 0.2, 0.4, 0.6, 0.8}> ()"
    model = network(f"c = Conv (x, w) {body.format(text)}", {"x": (1, 3, 2, 4)}, {"w": weights(4, 3, 1, 1)})
    assert roles_of(model) == {"w": ConstantRole.CONV_WEIGHT, "t": ConstantRole.FIXED}
    nodes = f"w = Constant <value = float[1, 3, 1, 1] {{0.1, 0.7, 0.3}}> ()  c = Conv (x, w) {body.format(text)}"
    assert roles_of(network(nodes, {"x": (1, 3, 2, 4)})) == {"w": ConstantRole.CONV_WEIGHT, "t": ConstantRole.POSITION}


def test_numbers_are_trained_where_the_file_says_so() -> None:
    gate = {"gate": np.float32(0.37)}
    listed = "p_t: PARAMETER target='gate'\n"
    assert role_of("y = Mul (c, gate)", "gate", gate["gate"]) is None
    assert role_of("y = Mul (c, gate)", "gate", gate["gate"], declared=listed) is ConstantRole.SCALE
    beside_nodes = "two = Constant <value_float = 2.0> ()  d = Mul (c, two)  y = Mul (d, gate)"
    assert role_of(beside_nodes, "gate", gate["gate"]) is ConstantRole.SCALE


def test_numbers_are_trained_where_an_operator_takes_parameters() -> None:
    model = network(
        "f = Flatten (x)  g = Gemm (f, w, b)  p = PRelu (g, slope)  q = Gemm (p, v)  r = Unsqueeze (q, axis)"
        "  s = MatMul (r, u)  y = Add (s, shift)",
        constants={
            "w": weights(192, 1), "b": weights(1), "slope": weights(1, seed=1), "v": weights(1, 4), "u": weights(4, 1),
            "shift": weights(1, seed=2), "axis": np.array([1]),
        },
    )  # fmt: skip
    found = roles_of(model)
    assert [found[name] for name in ("b", "slope", "shift")] == [
        ConstantRole.BIAS,
        ConstantRole.SLOPE,
        ConstantRole.BIAS,
    ]


NORMALISED = "d = {} (c, scale, shift{})  y = Relu (d)"
ONES, ZEROS = np.ones(4, np.float32), np.zeros(4, np.float32)


def idle(operator: str, *, more: str = "", declared: str = "", **constants: np.ndarray) -> ConstantRole | None:
    return role_of(NORMALISED.format(operator, more), "scale", ONES, declared=declared, shift=ZEROS, **constants)


def test_ones_and_zeros_of_an_instance_normalisation_are_the_exporters() -> None:
    assert idle("InstanceNormalization") is ConstantRole.FIXED
    listed = "p_t: PARAMETER target='scale'\np_u: PARAMETER target='shift'\n"
    assert idle("InstanceNormalization", declared=listed) is ConstantRole.NORM_SCALE
    assert (
        role_of(NORMALISED.format("InstanceNormalization", ""), "scale", weights(4), shift=ZEROS)
        is ConstantRole.NORM_SCALE
    )


def test_ones_and_zeros_of_other_normalisations_are_trained_unless_something_speaks_against() -> None:
    statistics: dict[str, Any] = {"mean": weights(4), "variance": np.abs(weights(4, seed=1))}
    batch_norm = ("BatchNormalization", ", mean, variance")
    assert idle(batch_norm[0], more=batch_norm[1], **statistics) is ConstantRole.NORM_SCALE
    others = "b_m: BUFFER target='mean'\nb_v: BUFFER target='variance'\n"
    assert idle(batch_norm[0], more=batch_norm[1], declared=others, **statistics) is ConstantRole.FIXED
    operator = "BatchNormalization ({}, {}, shift, mean, variance)"
    body = f"d = {operator.format('c', 'scale')}  r = Relu (d)  y = {operator.format('r', 'other')}"
    assert role_of(body, "scale", ONES, shift=ZEROS, other=weights(4, seed=2), **statistics) is ConstantRole.FIXED


def test_statistics_are_neutral_whatever_keeps_them() -> None:
    assert role_of("d = Relu (c)  y = Div (d, std)", "std", np.abs(weights(1, 4, 1, 1))) is ConstantRole.NORM_VARIANCE
    assert (
        role_of("d = Relu (c)  y = Div (d, std)", "std", np.full((1, 4, 1, 1), 255, np.float32)) is ConstantRole.FIXED
    )


def test_centres_that_features_are_compared_with_are_trained_and_a_mean_image_is_not() -> None:
    model = network(
        "m = Sub (x, image)  c = Conv (m, w)  u = Unsqueeze (c, one)  y = Sub (u, centres)",
        constants={
            "image": weights(3, 8, 8), "w": weights(4, 3, 1, 1), "one": np.array([1]), "centres": weights(5, 4, 1, 1),
        },
    )  # fmt: skip
    assert roles_of(model) == {
        "image": ConstantRole.FIXED,
        "w": ConstantRole.CONV_WEIGHT,
        "centres": ConstantRole.POSITION,
    }
