from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.blocks import find_blocks
from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare
from tests.blocks.sketch import Sketch, found
from tests.graph.builders import network, weights


def test_nodes_are_those_between_a_block_and_the_ones_before() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(3):
        x = net.residual(x)
    model = net.classify(x)
    blocks = found(model)
    listed = [name for block in blocks for name in block.nodes]
    assert len(listed) == len(set(listed))
    order = {node.name: at for at, node in enumerate(model.graph.nodes)}
    for block in blocks:
        assert [order[name] for name in block.nodes] == sorted(order[name] for name in block.nodes)
        assert block.output in model.graph.producers
        assert model.graph.producers[block.output].name == block.nodes[-1]
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert len({block.name for block in blocks}) == len(blocks)
    assert all(block.reason for block in blocks)


def test_a_block_without_elements_is_refused() -> None:
    proto = network(
        "z = Slice (x, three, three, two)  y = Relu (z)", constants={"three": np.array([3]), "two": np.array([2])}
    )
    with pytest.raises(ModelError, match=r"block 'network' ends in tensor 'y' of shape .*, which has no elements"):
        find_blocks(prepare(proto))


def test_a_block_of_integers_is_refused() -> None:
    body = "y = QuantizeLinear (x, scale, zero)"
    proto = network(body, constants={"scale": np.float32(0.1), "zero": np.int8(0)})
    with pytest.raises(ModelError, match="ends in tensor 'y' of type int8; only floats can be scored"):
        find_blocks(prepare(proto))


def test_blocks_are_named_after_the_modules_of_their_weights() -> None:
    body = "a = Conv (x, stem)  b = Relu (a)  c = Conv (b, first)  d = Relu (c)  e = Conv (d, second)  f = Add (b, e)"
    constants = {
        "stem": weights(4, 3, 1, 1),
        "first": weights(4, 4, 1, 1, seed=1),
        "second": weights(4, 4, 1, 1, seed=2),
    }
    called = {"stem": "conv1.weight", "first": "layer1.0.conv1.weight", "second": "layer1.0.conv2.weight"}
    proto = network(body, constants=constants, outputs=("f",))
    for tensor in proto.graph.initializer:
        tensor.name = called[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [called.get(name, name) for name in node.input]
    names = [block.name for block in found(prepare(proto, keep_graph=True))]
    assert names[1] == "layer1.0"


def test_a_region_that_holds_most_of_the_network_is_doubted() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    ends = [net.conv(net.conv(net.conv(x, 8), 8), 8) for _ in range(4)]
    result = find_blocks(net.classify(net.residual(net.concat(*ends))))
    assert any("could not be divided" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Relu (x)", {}),
        ("f = Flatten (x)  y = Gemm (f, w)", {"w": weights(192, 4)}),
        ("y = GlobalAveragePool (x)", {}),
        ("a = Relu (x)  y = ArgMax (a)", {}),
        ("y = Conv (x, w)", {"w": weights(2, 3, 3, 3)}),
    ],
)
def test_there_is_always_a_block(body: str, constants: dict[str, np.ndarray]) -> None:
    result = find_blocks(prepare(network(body, constants=constants)))
    assert len(result.blocks) == 1
    assert result.warnings
