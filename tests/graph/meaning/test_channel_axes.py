from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aznas_onnx.graph import prepare
from aznas_onnx.graph.meaning.axis_factors import BATCH, CHANNEL, POSITION, UNKNOWN, axis_of, regroup
from aznas_onnx.graph.meaning.channel_axes import layout
from tests.graph.builders import network, weights


def axes(
    body: str,
    constants: Mapping[str, Any],
    shape: Sequence[int | str] = ("n", 3, 8, 8),
    outputs: Sequence[str] = ("y",),
) -> Mapping[str, int]:
    model = prepare(network(body, {"x": shape}, constants, outputs=outputs), keep_graph=True)
    return layout(model.graph, model.infos, model.inputs.batch_axes).channel_axes


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


CONV = {"w": weights(4, 3, 1, 1)}


def test_a_convolution_determines_the_channels_of_its_input_and_output() -> None:
    found = axes("a = Sigmoid (x)  y = Conv (a, w)", CONV)
    assert found == {"x": 1, "a": 1, "y": 1}


def test_channels_last_graphs_come_out_right() -> None:
    body = """t = Transpose <perm=[0,3,1,2]> (x)  c = Conv (t, w)  b = Transpose <perm=[0,2,3,1]> (c)
    s = Mul (b, scale)  y = Relu (s)"""
    found = axes(body, {**CONV, "scale": weights(4)}, ("n", 8, 8, 3))
    assert found == {"x": 3, "t": 1, "c": 1, "b": 3, "s": 3, "y": 3}


def test_tokens_have_their_channels_last() -> None:
    body = """c = Conv (x, w)  r = Reshape (c, flat)  t = Transpose <perm=[0,2,1]> (r)
    n = LayerNormalization (t, g)  y = MatMul (n, v)"""
    found = axes(body, {**CONV, "flat": ints(0, 4, 64), "g": weights(4), "v": weights(4, 6)})
    assert found == {"x": 1, "c": 1, "r": 1, "t": 2, "n": 2, "y": 2}


def test_the_first_linear_layer_decides_where_no_convolution_does() -> None:
    assert axes("a = Relu (x)  y = MatMul (a, v)", {"v": weights(5, 7)}, ("n", 9, 5)) == {"x": 2, "a": 2, "y": 2}


def test_channels_survive_being_cut_into_heads() -> None:
    body = """q = MatMul (x, v)  h = Reshape (q, heads)  t = Transpose <perm=[0,2,1,3]> (h)  m = Relu (t)
    b = Transpose <perm=[0,2,1,3]> (m)  y = Reshape (b, joined)"""
    found = axes(body, {"v": weights(6, 6), "heads": ints(0, 5, 2, 3), "joined": ints(0, 5, 6)}, ("n", 5, 6))
    assert "t" not in found
    assert found["y"] == 2


def test_channels_survive_attention() -> None:
    body = """q = MatMul (x, v)  k = MatMul (x, u)  t = Transpose <perm=[0,2,1]> (k)  s = MatMul (q, t)
    p = Softmax (s)  y = MatMul (p, q)"""
    found = axes(body, {"v": weights(6, 6), "u": weights(6, 6, seed=1)}, ("n", 5, 6))
    assert "s" not in found
    assert found["y"] == 2


def test_windows_are_cut_out_and_put_back() -> None:
    body = """c = Conv (x, w)  t = Transpose <perm=[0,2,3,1]> (c)  r = Reshape (t, cut)
    p = Transpose <perm=[0,1,3,2,4,5]> (r)  m = Reshape (p, windows)  f = MatMul (m, v)
    q = Reshape (f, apart)  o = Transpose <perm=[0,1,3,2,4,5]> (q)  y = Reshape (o, whole)"""
    shapes = {"cut": ints(1, 2, 4, 2, 4, 4), "windows": ints(4, 16, 4), "apart": ints(1, 2, 2, 4, 4, 4)}
    found = axes(body, {**CONV, **shapes, "whole": ints(1, 8, 8, 4), "v": weights(4, 4)}, (1, 3, 8, 8))
    assert found["m"] == 2
    assert found["y"] == 3


def test_token_mixing_leaves_the_channels_where_they_are() -> None:
    body = """p = Conv (x, w)  r = Reshape (p, flat)  z = Transpose <perm=[0,2,1]> (r)  c = MatMul (z, v)
    t = Transpose <perm=[0,2,1]> (c)  m = MatMul (t, u)  y = Transpose <perm=[0,2,1]> (m)"""
    mixing = {"w": weights(4, 3, 2, 2), "flat": ints(0, 4, 49), "v": weights(4, 6), "u": weights(49, 49)}
    found = axes(body, mixing)
    assert (found["t"], found["m"], found["y"]) == (1, 1, 2)


def test_a_flatten_mixes_channels_and_positions_until_a_linear_layer() -> None:
    found = axes("c = Conv (x, w)  f = Flatten (c)  y = Gemm (f, v)", {**CONV, "v": weights(256, 5)})
    assert "f" not in found
    assert found["y"] == 1


@pytest.mark.parametrize(
    ("operation", "constants", "axis"),
    [
        ("y = GlobalAveragePool (c)", {}, 1),
        ("y = MaxPool <kernel_shape=[2,2]> (c)", {}, 1),
        ("y = ReduceMean <keepdims=0> (c, a)", {"a": ints(2, 3)}, 1),
        ("y = ReduceMean <keepdims=1> (c, a)", {"a": ints(1)}, None),
        ("g = GlobalAveragePool (c)  y = Squeeze (g, a)", {"a": ints(2, 3)}, 1),
        ("y = Unsqueeze (c, a)", {"a": ints(1)}, 2),
        ("y = Concat <axis=1> (c, c)", {}, 1),
        ("y = Concat <axis=2> (c, c)", {}, 1),
        ("y = Slice (c, s, e, a)", {"s": ints(0), "e": ints(2), "a": ints(1)}, 1),
        ("y = Pad (c, a)", {"a": ints(0, 0, 1, 1, 0, 0, 1, 1)}, 1),
        ("y = Gather <axis=2> (c, a)", {"a": np.array(0)}, 1),
        ("y = Gather <axis=1> (c, a)", {"a": ints(0, 2)}, 1),
        ("y = Einsum <equation='nchw,cd->nhwd'> (c, v)", {"v": weights(4, 5)}, 3),
        ("y = SpaceToDepth <blocksize=2> (c)", {}, 1),
        ("y = Add (c, v)", {"v": weights(4, 1, 1)}, 1),
    ],
)
def test_operators(operation: str, constants: dict[str, npt.NDArray[Any]], axis: int | None) -> None:
    body = f"c = Conv (x, w)  {operation}".replace("'", '"')
    assert axes(body, {**CONV, **constants}).get("y") == axis


def test_a_recurrent_layer_has_its_features_last() -> None:
    constants = {"w": weights(1, 16, 3), "r": weights(1, 16, 4)}
    found = axes("y, h = LSTM <hidden_size=4> (x, w, r)", constants, (7, 2, 3), ("y", "h"))
    assert found["y"] == 3
    assert found["h"] == 2


def test_a_token_major_layout_is_followed() -> None:
    body = "t = Transpose <perm=[1,0,2]> (x)  m = MatMul (t, v)  y = Transpose <perm=[1,0,2]> (m)"
    assert axes(body, {"v": weights(6, 6)}, ("n", 5, 6)) == {"x": 2, "t": 2, "m": 2, "y": 2}


def b(size: int) -> tuple[str, int]:
    return BATCH, size


def c(size: int) -> tuple[str, int]:
    return CHANNEL, size


def p(size: int) -> tuple[str, int]:
    return POSITION, size


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        (((b(2),), (c(6),), (p(4),)), (2, 3, 2, 4), ((b(2),), (c(3),), (c(2),), (p(4),))),
        (((b(2),), (c(3),), (c(2),)), (2, 6), ((b(2),), (c(3), c(2)))),
        (((b(2),), (p(8),), (c(3),)), (4, 4, 3), ((b(2), p(2)), (p(4),), (c(3),))),
        (((b(1),), (p(8),), (c(3),)), (8, 3), ((b(1), p(8)), (c(3),))),
        (((p(8),), (b(1),), (c(3),)), (8, 3), ((p(8), b(1)), (c(3),))),
        (((p(8), b(1)), (c(3),)), (8, 1, 3), ((p(8),), (b(1),), (c(3),))),
        (((b(1),), (c(6),)), (1, 6, 1), ((b(1),), (c(6),), ())),
    ],
)
def test_reshaping_cuts_and_joins_factors(before: Any, shape: Sequence[int], after: Any) -> None:
    assert regroup(before, shape) == after


def test_sizes_that_do_not_divide_are_unknown() -> None:
    assert regroup(((b(2),), (c(6),), (p(4),)), (2, 4, 6)) == ((b(2),), axis_of(UNKNOWN, 4), axis_of(UNKNOWN, 6))


@pytest.mark.parametrize("axis", [1, -3])
def test_an_axis_may_be_counted_from_the_end(axis: int) -> None:
    found = axes(f"a = Conv (x, w)  b = Conv (x, w)  y = Concat <axis = {axis}> (a, b)", CONV)
    assert found["y"] == 1


def test_patches_of_a_series_are_positions_and_what_is_in_them_channels() -> None:
    body = "p = Reshape (x, shape)  a = MatMul (p, w)  y = MatMul (a, v)"
    constants = {"shape": ints(0, 8, 4), "w": weights(4, 16), "v": weights(16, 6)}
    assert axes(body, constants, ("n", 32), ("a", "y"))["a"] == 2
