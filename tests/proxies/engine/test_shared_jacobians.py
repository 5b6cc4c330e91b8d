from __future__ import annotations

import numpy as np
import onnx
import torch

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.proxies.engine.blockpass import BlockPass
from aznas_onnx.proxies.engine.compiled_network import RandomNetwork
from aznas_onnx.proxies.engine.shared_jacobians import REPEATS


def stacked(
    *widths: int, kernels: dict[int, int] | None = None, ceilings: dict[int, float] | None = None
) -> onnx.ModelProto:
    """Return a network of residual blocks with ReLU6, whose bounds are constants of their own for each block."""
    net = GraphBuilder("stacked")
    x = net.conv_bn(net.image_input(3, 8), "stem", 3, widths[0], kernel=3)
    net.declare_block(x)
    before = widths[0]
    for index, width in enumerate(widths):
        inner = net.conv_bn(x, f"conv{index}", before, width, kernel=(kernels or {}).get(index, 3))
        low = net.constant(f"low{index}", np.float32(0.0))
        high = net.constant(f"high{index}", np.float32((ceilings or {}).get(index, 6.0)))
        clipped = net.node("Clip", inner, low, high, name=f"relu{index}")
        x = net.add(clipped, x, f"sum{index}") if width == before else clipped
        net.declare_block(x)
        before = width
    return net.model(net.classifier(x, "head", before, num_classes=4))


def representatives(model: onnx.ModelProto, *, share_repeats: bool = True) -> dict[int, int]:
    prepared = prepare(model)
    network = RandomNetwork(prepared, is_transformer=False, batch_size=2, device=torch.device("cpu")).at()
    return dict(BlockPass.of(network, find_blocks(prepared).blocks, share_repeats=share_repeats).representatives)


def test_equal_blocks_share_the_last_one_whatever_their_constants_are_called() -> None:
    assert representatives(stacked(8, 8, 8)) == {1: 3, 2: 3}


def test_at_most_five_share_one() -> None:
    found = representatives(stacked(*[8] * (REPEATS + 2)))
    assert found == {1: 2, **dict.fromkeys(range(3, REPEATS + 2), REPEATS + 2)}


def test_blocks_of_other_widths_kernels_or_bounds_are_measured_themselves() -> None:
    assert representatives(stacked(8, 12, 16)) == {}
    assert representatives(stacked(8, 8, kernels={1: 1})) == {}
    assert representatives(stacked(8, 8, ceilings={1: 3.0})) == {}


def test_effort_paper_measures_every_block() -> None:
    assert representatives(stacked(8, 8, 8), share_repeats=False) == {}
