from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx.graph import prepare
from aznas_onnx.graph.facts import Fact, Facts
from aznas_onnx.graph.roles import Role, roles, uses
from tests.graph.builders import network, weights


def roles_of(model: onnx.ModelProto) -> dict[str, Role]:
    prepared = prepare(model, keep_graph=True)
    return dict(roles(prepared.graph, prepared.facts))


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
        "conv_w": Role.CONV_WEIGHT,
        "conv_b": Role.BIAS,
        "scale": Role.NORM_SCALE,
        "shift": Role.NORM_SHIFT,
        "mean": Role.NORM_MEAN,
        "variance": Role.NORM_VARIANCE,
        "slope": Role.SLOPE,
        "fc_w": Role.LINEAR_WEIGHT,
        "fc_b": Role.BIAS,
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
        "w": Role.RECURRENT_WEIGHT,
        "r": Role.RECURRENT_WEIGHT,
        "b": Role.BIAS,
        "h0": Role.FIXED,
        "p": Role.RECURRENT_WEIGHT,
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
        "cls": Role.POSITION,
        "position": Role.POSITION,
        "scale": Role.NORM_SCALE,
        "shift": Role.NORM_SHIFT,
        "w": Role.LINEAR_WEIGHT,
        "bias": Role.BIAS,
        "layer_scale": Role.SCALE,
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
    assert roles_of(model)["cls"] is Role.POSITION


def test_an_embedding_is_a_table_that_data_indexes() -> None:
    model = network(
        "i = Cast <to = 7> (x)  e = Gather (table, i)  y = MatMul (e, w)",
        {"x": (1, 6)},
        {"table": weights(50, 8), "w": weights(8, 8)},
    )
    assert roles_of(model)["table"] is Role.EMBEDDING


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
    kinds = [found[name] for name in ("mean", "deviation", "factor", "offset")]
    assert kinds == [Role.FIXED, Role.FIXED, Role.SCALE, Role.BIAS]


def test_a_mask_is_fixed_and_a_blank_table_is_not() -> None:
    mask = np.zeros((1, 2, 8, 8), dtype=np.float32)
    mask[..., 4:] = -100
    body = "a = Conv (x, w)  y = Add (a, table)"
    constants = {"w": weights(2, 3, 1, 1), "table": mask}
    assert roles_of(network(body, constants=constants))["table"] is Role.FIXED
    blank = {**constants, "table": np.zeros_like(mask)}
    assert roles_of(network(body, constants=blank))["table"] is Role.POSITION


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
    assert roles_of(model)["table"] is Role.FIXED


@pytest.mark.parametrize("channels", [4, 64])
def test_a_blur_kernel_is_fixed(channels: int) -> None:
    kernel = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
    blur = np.broadcast_to(kernel, (channels, 1, 3, 3)).copy()
    body = f"a = Conv (x, w)  y = Conv <group = {channels}> (a, blur)"
    found = roles_of(network(body, constants={"w": weights(channels, 3, 1, 1), "blur": blur}))
    assert found == {"w": Role.CONV_WEIGHT, "blur": Role.FIXED}


def test_large_factors_are_fixed() -> None:
    """The cosines of rotary positions must keep their values."""
    model = network(
        "a = MatMul (x, w)  y = Mul (a, cos)", {"x": (1, 4, 8)}, {"w": weights(8, 8), "cos": weights(1, 4, 8)}
    )
    assert roles_of(model)["cos"] is Role.FIXED


def test_a_vector_that_plays_two_roles_is_reported_per_use() -> None:
    ones = np.ones(4, dtype=np.float32)
    model = network(
        "a = Conv (x, w)  y = BatchNormalization (a, ones, shift, mean, ones)",
        constants={"w": weights(4, 3, 1, 1), "ones": ones, "shift": weights(4), "mean": weights(4, seed=1)},
    )
    prepared = prepare(model, keep_graph=True)
    assert roles(prepared.graph, prepared.facts)["ones"] is Role.NORM_SCALE
    played = [use.role for use in uses(prepared.graph, prepared.facts) if use.name == "ones"]
    assert played == [Role.NORM_SCALE, Role.NORM_VARIANCE]


def test_scalars_have_no_role() -> None:
    model = network(
        "a = Conv (x, w)  y = Mul (a, half)", constants={"w": weights(4, 3, 1, 1), "half": np.float32([0.5])}
    )
    assert "half" not in roles_of(model)


def test_what_is_known_of_values_is_asked_anew_for_each_facts() -> None:
    model = prepare(network("y = MatMul (x, m)", {"x": (1, 32)}, {"m": np.kron(np.eye(4), np.ones((8, 8))) / 8}))
    blind = Facts({name: Fact(fact.shape, fact.dtype) for name, fact in model.facts.items()}, 1)
    expected = [Role.FIXED, Role.LINEAR_WEIGHT, Role.FIXED]
    assert [roles(model.graph, facts)["m"] for facts in (model.facts, blind, model.facts)] == expected
