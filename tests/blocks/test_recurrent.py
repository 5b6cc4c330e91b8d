"""Recurrent layers as blocks: operators of every layout, and their feature maps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx import inspect
from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import prepare
from tests.blocks.sketch import kinds
from tests.graph.builders import network, weights

STEPS, WIDTH = 7, 6


def lstm(name: str, features: int, directions: int = 1) -> dict[str, np.ndarray]:
    gates = 4 * WIDTH
    return {f"{name}w": weights(directions, gates, features), f"{name}r": weights(directions, gates, WIDTH, seed=1)}


def two_layers() -> onnx.ModelProto:
    body = f"""
        t = Transpose <perm = [1, 0, 2]> (x)
        a = LSTM <hidden_size = {WIDTH}> (t, aw, ar)
        s = Squeeze (a, one)
        b = LSTM <hidden_size = {WIDTH}> (s, bw, br)
        u = Squeeze (b, one)
        l = Gather <axis = 0> (u, last)
        y = Gemm (l, w)
    """
    constants = {**lstm("a", 5), **lstm("b", WIDTH), "w": weights(WIDTH, 3), "one": np.array([1])}
    return network(body, {"x": ("n", STEPS, 5)}, {**constants, "last": np.array(-1)})


def test_each_recurrent_layer_is_a_block_of_its_own_kind_with_all_steps_and_without_the_batch() -> None:
    found = inspect(two_layers())
    assert [block.block.kind.value for block in found.blocks] == ["recurrent", "recurrent"]
    assert [block.shape for block in found.blocks] == [(STEPS, 1, WIDTH)] * 2
    assert [block.channel_axis for block in found.blocks] == [2, 2]
    assert [block.block.batch_axis for block in found.blocks] == [2, 2]
    assert "runs over all steps" in found.blocks[0].block.reason


def test_a_last_state_has_the_width_alone_for_one_sample() -> None:
    body = (
        f"t = Transpose <perm = [1, 0, 2]> (x)  q, h = LSTM <hidden_size = {WIDTH}> (t, aw, ar)  y = Squeeze (h, zero)"
    )
    constants = {**lstm("a", 5), "zero": np.array([0])}
    (block,) = inspect(network(body, {"x": ("n", STEPS, 5)}, constants)).blocks
    assert block.block.kind.value == "recurrent"
    assert block.shape == (1, WIDTH)


def test_a_recurrent_layer_that_makes_the_output_is_a_block() -> None:
    body = f"t = Transpose <perm = [1, 0, 2]> (x)  a = LSTM <hidden_size = {WIDTH}> (t, aw, ar)  s = Squeeze (a, one)"
    body += f"  y = LSTM <hidden_size = {WIDTH}> (s, bw, br)"
    constants = {**lstm("a", 5), **lstm("b", WIDTH), "one": np.array([1])}
    assert kinds(find_blocks(prepare(network(body, {"x": ("n", STEPS, 5)}, constants)))) == {"recurrent": 2}


@pytest.mark.parametrize("merge", ["Add (s, v)", "Concat <axis = 2> (s, v)"])
def test_two_directions_by_an_operator_each_are_one_block(merge: str) -> None:
    body = f"""
        t = Transpose <perm = [1, 0, 2]> (x)
        a = LSTM <hidden_size = {WIDTH}> (t, aw, ar)
        s = Squeeze (a, one)
        b = LSTM <hidden_size = {WIDTH}, direction = "reverse"> (t, bw, br)
        v = Squeeze (b, one)
        m = {merge}
        l = Gather <axis = 0> (m, last)
        y = Gemm (l, w)
    """
    width = 2 * WIDTH if "Concat" in merge else WIDTH
    constants = {**lstm("a", 5), **lstm("b", 5), "w": weights(width, 3), "one": np.array([1]), "last": np.array(-1)}
    assert kinds(find_blocks(prepare(network(body, {"x": ("n", STEPS, 5)}, constants)))) == {"recurrent": 1}


def test_a_skip_around_a_recurrent_layer_belongs_to_it() -> None:
    body = "e = MatMul (x, w)"
    x = "e"
    for at in "ab":
        body += f"""
            {at}t = Transpose <perm = [1, 0, 2]> ({x})
            {at}l = LSTM <hidden_size = {WIDTH}> ({at}t, {at}w, {at}r)
            {at}s = Squeeze ({at}l, one)
            {at}u = Transpose <perm = [1, 0, 2]> ({at}s)
            {at} = Add ({x}, {at}u)
        """
        x = at
    body += "y = MatMul (b, v)"
    constants = {**lstm("a", WIDTH), **lstm("b", WIDTH), "w": weights(5, WIDTH), "v": weights(WIDTH, 3)}
    model = prepare(network(body, {"x": ("n", STEPS, 5)}, {**constants, "one": np.array([1])}))
    assert kinds(find_blocks(model)) == {"stem": 1, "recurrent": 2}
