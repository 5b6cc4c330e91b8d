"""Why paths that meet make no block of their own."""

from __future__ import annotations

import numpy as np

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

MAP = {"x": ("N", 4, 8, 8)}
KERNEL = {"k": weights(4, 4, 3, 3)}
CONV = "<pads = [1, 1, 1, 1]>"


def test_a_sum_of_paths_without_weights_is_no_block() -> None:
    """The token mixer of PoolFormer is an average."""
    body = f"""
        a = Conv {CONV} (x, k)  p = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)  s = Add (a, p)
        b = Conv {CONV} (s, k)  y = Relu (b)
    """
    found = find_blocks(prepare(network(body, MAP, KERNEL)))
    assert [miss.reason for miss in found.near_misses] == [
        "no convolution, linear or recurrent layer is on the paths that meet there (gates aside)"
    ]
    assert {miss.pattern for miss in found.near_misses} == {"block"}


def test_a_skip_over_several_blocks_is_none_itself() -> None:
    body = f"a = Conv {CONV} (x, k)  "
    for index in range(3):
        before = f"s{index - 1}" if index else "a"
        body += (
            f"c{index} = Conv {CONV} ({before}, k)  r{index} = Relu (c{index})  d{index} = Conv {CONV} (r{index}, k) "
        )
        body += f"s{index} = Add (d{index}, {before})  "
    found = find_blocks(prepare(network(f"{body} y = Add (s2, a)", MAP, KERNEL)))
    assert [miss.reason for miss in found.near_misses] == ["a long skip: it spans several blocks in a row"]


def test_a_skip_over_a_plain_network_is_no_block() -> None:
    body = f"c0 = Conv {CONV} (x, k)  "
    for index in range(1, 11):
        body += f"r{index} = Relu (c{index - 1})  c{index} = Conv {CONV} (r{index}, k)  "
    found = find_blocks(prepare(network(f"{body} s = Add (c10, c0)  y = Conv {CONV} (s, k)", MAP, KERNEL)))
    assert [miss.reason for miss in found.near_misses] == [
        "a long skip: it spans 10 layers in a row, and over half of the network's"
    ]


def test_a_skip_of_an_hourglass_is_no_block() -> None:
    down, up = "<pads = [1, 1, 1, 1], strides = [2, 2]>", '<mode = "nearest">'
    body = (
        f"c0 = Conv {CONV} (x, k)  c1 = Conv {down} (c0, k)  r1 = Relu (c1)  c2 = Conv {CONV} (r1, k)  r2 = Relu (c2)"
    )
    body += f"  c3 = Conv {CONV} (r2, k)  r3 = Relu (c3)  c4 = Conv {CONV} (r3, k)  u = Resize {up} (c4, , twice)"
    constants = KERNEL | {"twice": np.array([1, 1, 2, 2], np.float32)}
    found = find_blocks(prepare(network(f"{body}  s = Add (u, c0)  y = Conv {CONV} (s, k)", MAP, constants)))
    assert [miss.reason for miss in found.near_misses] == [
        "a long skip: the path that it spans goes down in resolution and up again"
    ]


def test_a_sum_without_positions_is_no_block() -> None:
    body = f"a = Conv {CONV} (x, k)  g = GlobalAveragePool (a)  h = Conv (g, one)  s = Add (g, h)  y = Conv (s, one)"
    found = find_blocks(prepare(network(body, MAP, KERNEL | {"one": weights(4, 4, 1, 1)})))
    assert {miss.reason for miss in found.near_misses} <= {
        "no positions are left there: they are pooled, flattened, or one of them is chosen"
    }


def test_the_sums_of_a_normalisation_that_was_not_recognised_are_not_listed() -> None:
    """TensorFlow adds x * (r * g) and b - m * (r * g)."""
    body = f"""
        a = Conv {CONV} (x, k)  m = ReduceMean <keepdims = 1> (a, axes)  d = Sub (a, m)  q = Mul (d, d)
        v = ReduceMean <keepdims = 1> (q, axes)  e = Add (v, one)  s = Sqrt (e)  r = Reciprocal (s)  p = Mul (a, r)
        t = Mul (m, r)  n = Neg (t)  sum = Add (p, n)  y = Conv {CONV} (sum, k)
    """
    constants = KERNEL | {"axes": np.array([2, 3]), "one": np.float32(1.0)}
    model = prepare(network(body, MAP, constants))
    assert [miss.pattern for miss in model.near_misses if "folded" not in miss.pattern] == ["LayerNormalization"]
    assert find_blocks(model).near_misses == ()


def test_a_chain_has_nothing_to_say() -> None:
    body = f"a = Conv {CONV} (x, k)  r = Relu (a)  b = Conv {CONV} (r, k)  y = Relu (b)"
    assert find_blocks(prepare(network(body, MAP, KERNEL))).near_misses == ()
