"""Recurrent layers that are written out step by step, and chains of equal layers that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from aznas_onnx.blocks import Block, find_blocks
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

STEPS, FEATURES, WIDTH = 5, 6, 8
Constants = dict[str, npt.NDArray[np.generic]]
Cell = Callable[[str, str, str, str], str]
"""Text of one step: from the layer's name, the step's, its input and the state before ('' in the first step)."""


def elman(layer: str, step: str, x: str, state: str) -> str:
    """A cell whose product with the input is made for all steps at once, and that starts without a state."""
    if not state:
        return f"{step} = Tanh ({x})"
    return f"{step}r = MatMul ({state}, {layer}R)  {step}s = Add ({x}, {step}r)  {step} = Tanh ({step}s)"


def joined(layer: str, step: str, x: str, state: str) -> str:
    """A cell that multiplies its input and state, side by side, by one weight."""
    previous = state or f"{layer}h"
    text = f"{step}h = Concat <axis = 1> ({x}, {previous})  {step}p = MatMul ({step}h, {layer}V)"
    return text + f"  {step} = Tanh ({step}p)"


def gru(layer: str, step: str, x: str, state: str) -> str:
    """A cell with a weight for each gate, and products with the input in each step."""
    previous = state or f"{layer}h"
    gates = "  ".join(
        f"{step}{gate}x = MatMul ({x}, {layer}W{gate})  {step}{gate}h = MatMul ({previous}, {layer}R{gate})"
        f"  {step}{gate}s = Add ({step}{gate}x, {step}{gate}h)  {step}{gate} = Sigmoid ({step}{gate}s)"
        for gate in "zr"
    )
    return f"""{gates}
        {step}g = Mul ({step}r, {previous})
        {step}nx = MatMul ({x}, {layer}Wn)
        {step}nh = MatMul ({step}g, {layer}Rn)
        {step}ns = Add ({step}nx, {step}nh)
        {step}n = Tanh ({step}ns)
        {step}d = Sub ({previous}, {step}n)
        {step}e = Mul ({step}z, {step}d)
        {step} = Add ({step}n, {step}e)"""


def zeros(layer: str) -> str:
    """A state of zeros for each sample."""
    shape = f"{layer}hs = Shape <start = 0, end = 1> (x)  {layer}hc = Concat <axis = 0> ({layer}hs, width)"
    return f"{shape}  {layer}h = ConstantOfShape ({layer}hc)"


def layer_constants(layer: str, features: int) -> Constants:
    found: Constants = {f"{layer}R": weights(WIDTH, WIDTH), f"{layer}V": weights(features + WIDTH, WIDTH)}
    for at, gate in enumerate("zrn"):
        found |= {
            f"{layer}W{gate}": weights(features, WIDTH, seed=at),
            f"{layer}R{gate}": weights(WIDTH, WIDTH, seed=9 + at),
        }
    return found


def blocks_of(body: str, constants: Constants, features: int = FEATURES) -> Sequence[Block]:
    shared: Constants = {"one": np.array([1]), "width": np.array([WIDTH]), "out": weights(WIDTH, 3)}
    shared |= {f"at{step}": np.array(step) for step in range(STEPS)}
    return find_blocks(prepare(network(body, {"x": ("n", STEPS, features)}, {**shared, **constants}))).blocks


def layer(name: str, cell: Cell, source: str, *, hoisted: bool = False) -> str:
    """A layer over (batch, steps, features), with its states as (batch, steps, width)."""
    text = f"{zeros(name)}\n"
    if hoisted:
        text += f"{name}x = MatMul ({source}, {name}W)\n"
        source = f"{name}x"
    state = ""
    for step in range(STEPS):
        text += f"{name}i{step} = Gather <axis = 1> ({source}, at{step})\n"
        text += cell(name, f"{name}s{step}", f"{name}i{step}", state) + "\n"
        state = f"{name}s{step}"
        text += f"{name}u{step} = Unsqueeze ({state}, one)\n"
    return text + f"{name} = Concat <axis = 1> ({', '.join(f'{name}u{step}' for step in range(STEPS))})\n"


@pytest.mark.parametrize("cell", [joined, gru])
def test_a_layer_whose_steps_share_their_weights_is_one_block(cell: Cell) -> None:
    body = layer("a", cell, "x") + layer("b", cell, "a") + "l = Gather <axis = 1> (b, at4)  y = MatMul (l, out)"
    found = blocks_of(body, layer_constants("a", FEATURES) | layer_constants("b", WIDTH))
    assert [(block.kind.value, block.output) for block in found] == [("recurrent", "a"), ("recurrent", "b")]
    assert "are the steps of a recurrent layer" in found[0].reason


def test_the_product_with_the_inputs_of_all_steps_and_a_first_step_without_a_state_belong_to_the_layer() -> None:
    body = layer("a", elman, "x", hoisted=True) + layer("b", elman, "a", hoisted=True)
    body += "l = Gather <axis = 1> (b, at4)  y = MatMul (l, out)"
    constants: Constants = {"aW": weights(FEATURES, WIDTH), "bW": weights(WIDTH, WIDTH), **layer_constants("a", 6)}
    found = blocks_of(body, constants | layer_constants("b", WIDTH))
    assert [(block.kind.value, block.output) for block in found] == [("recurrent", "a"), ("recurrent", "b")]
    assert "as0" in {name for block in found[:1] for name in block.nodes} or len(found[0].nodes) > 4 * STEPS


def test_layers_that_take_turns_within_a_step_are_a_block_each_that_ends_in_the_last_state() -> None:
    text, first, second = zeros("a") + "\n" + zeros("b") + "\n", "", ""
    for step in range(STEPS):
        text += f"i{step} = Gather <axis = 1> (x, at{step})\n" + gru("a", f"as{step}", f"i{step}", first) + "\n"
        first = f"as{step}"
        text += gru("b", f"bs{step}", first, second) + "\n"
        second = f"bs{step}"
    body = text + f"y = MatMul ({second}, out)"
    found = blocks_of(body, layer_constants("a", FEATURES) | layer_constants("b", WIDTH))
    assert [(block.kind.value, block.output) for block in found] == [("recurrent", "as4"), ("recurrent", "bs4")]


def test_a_loop_over_a_cell_is_one_block() -> None:
    body = """
        e = MatMul (x, aW)
        t = Transpose <perm = [1, 0, 2]> (e)
        h0 = Gather <axis = 0> (t, at0)
        hT = Loop (count, yes, h0) <body = step (int64 i, bool c, float[n, w] h) => (bool d, float[n, w] k) {
            d = Identity (c)
            r = Gather <axis = 0> (t, i)
            p = MatMul (h, aR)
            s = Add (r, p)
            k = Tanh (s)
        }>
        y = MatMul (hT, out)
    """
    constants: Constants = {"count": np.array(STEPS), "yes": np.array(True), "aW": weights(FEATURES, WIDTH)}
    found = blocks_of(body, constants | layer_constants("a", WIDTH))
    assert [block.kind.value for block in found] == ["recurrent"]


def test_equal_layers_in_a_row_stay_a_block_each() -> None:
    body, x = "b0 = MatMul (x, aW)\n", "b0"
    for turn in range(1, 5):
        body += f"p{turn} = MatMul ({x}, up)  r{turn} = Relu (p{turn})  d{turn} = MatMul (r{turn}, down)\n"
        body += f"b{turn} = Add ({x}, d{turn})\n"
        x = f"b{turn}"
    constants: Constants = {"aW": weights(FEATURES, WIDTH), "up": weights(WIDTH, 12), "down": weights(12, WIDTH)}
    found = blocks_of(body + f"y = MatMul ({x}, out)", constants)
    assert [block.kind.value for block in found] == ["stem", "mlp", "mlp", "mlp", "mlp"]


def test_refinement_that_reads_the_same_input_in_each_turn_is_no_recurrent_layer() -> None:
    body, x = "c = MatMul (x, aW)\nb0 = Relu (c)\n", "b0"
    for turn in range(1, 5):
        body += f"p{turn} = MatMul ({x}, aR)  q{turn} = Add (p{turn}, c)  r{turn} = Tanh (q{turn})\n"
        body += f"b{turn} = Add ({x}, r{turn})\n"
        x = f"b{turn}"
    found = blocks_of(body + f"y = MatMul ({x}, out)", {"aW": weights(FEATURES, WIDTH), **layer_constants("a", WIDTH)})
    assert "recurrent" not in {block.kind.value for block in found}


def test_a_decoder_takes_the_data_of_its_steps_from_another_input() -> None:
    body = zeros("a") + "\n" + f"e, f, g = LSTM <hidden_size = {WIDTH}, layout = 0> (xt, W, R)\n"
    body = "xt = Transpose <perm = [1, 0, 2]> (x)\n" + body + "state0 = Squeeze (f, nought)\n"
    state = "state0"
    for step in range(STEPS):
        body += f"u{step} = Gather <axis = 1> (u, at{step})\n" + joined("a", f"s{step}", f"u{step}", state) + "\n"
        state = f"s{step}"
    shared: Constants = {"one": np.array([1]), "width": np.array([WIDTH]), "out": weights(WIDTH, 3)}
    shared |= {f"at{step}": np.array(step) for step in range(STEPS)}
    shared |= {"nought": np.array([0]), "W": weights(1, 4 * WIDTH, 6), "R": weights(1, 4 * WIDTH, WIDTH)}
    inputs = {"x": ("n", 9, 6), "u": ("n", STEPS, 4)}
    model = prepare(network(f"{body} y = MatMul ({state}, out)", inputs, {**shared, **layer_constants("a", 4)}))
    assert [block.kind.value for block in find_blocks(model).blocks] == ["recurrent", "recurrent"]
