"""Why paths that meet make no block of their own."""

from __future__ import annotations

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
    assert [miss.reason for miss in found.near_misses] == ["no path that meets there has weights"]
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
    assert [miss.reason for miss in found.near_misses] == [
        "a long skip: it spans several blocks, which are blocks of their own"
    ]


def test_a_chain_has_nothing_to_say() -> None:
    body = f"a = Conv {CONV} (x, k)  r = Relu (a)  b = Conv {CONV} (r, k)  y = Relu (b)"
    assert find_blocks(prepare(network(body, MAP, KERNEL))).near_misses == ()
