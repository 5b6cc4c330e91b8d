from __future__ import annotations

import json
import re

import numpy as np
import pytest

from aznas_onnx.blocks import BlockKind, find_blocks
from aznas_onnx.errors import ModelError, SettingsError, UnknownNameError
from aznas_onnx.graph import Model, prepare
from tests.blocks.sketch import Sketch, found
from tests.graph.builders import network, weights


def two_stages() -> Model:
    """A network whose nodes are named in the way of TorchScript."""
    net = Sketch()
    x = net.conv(net.input, 8, name="/stem/Conv")
    for stage in (1, 2):
        for block in (0, 1):
            scope = f"/layer{stage}/layer{stage}.{block}"
            branch = net.conv(net.conv(x, 8, name=f"{scope}/conv1/Conv"), 8, act=False, name=f"{scope}/conv2/Conv")
            x = net.op("Relu", net.add(x, branch, name=f"{scope}/Add"), name=f"{scope}/act/Relu")
    return net.classify(x)


def test_a_pattern_over_modules_makes_a_block_of_each() -> None:
    blocks = found(two_stages(), ["layer?.?"])
    ends = [f"/layer{stage}/layer{stage}.{block}/act/Relu" for stage in (1, 2) for block in (0, 1)]
    assert [block.output for block in blocks] == ends
    assert [block.name for block in blocks] == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert {block.kind for block in blocks} == {BlockKind.DECLARED}
    assert blocks[0].reason == "--blocks 'layer?.?' matches it"


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        ("/layer1/", ["/layer1/layer1.1/act/Relu"]),
        ("/layer?/*", ["/layer1/layer1.1/act/Relu", "/layer2/layer2.1/act/Relu"]),
        ("/layer1/layer1.0/*", ["/layer1/layer1.0/act/Relu"]),
        ("*/Add", [f"/layer{stage}/layer{stage}.{block}/Add" for stage in (1, 2) for block in (0, 1)]),
        ("/stem/Conv.bn", ["/stem/Conv.bn"]),
    ],
)
def test_patterns_match_modules_nodes_and_tensors(pattern: str, ends: list[str]) -> None:
    assert [block.output for block in found(two_stages(), [pattern])] == ends


def test_several_patterns_are_put_in_dataflow_order() -> None:
    blocks = found(two_stages(), ["layer2.1", "layer1.0"])
    assert [block.name for block in blocks] == ["layer1.0", "layer2.1"]


def test_a_pattern_over_the_modules_of_weights_needs_no_node_names() -> None:
    """PyTorch's default exporter names no nodes: activations and sums are where what they read is."""
    proto = network(
        "a = Conv (x, v)  b = Relu (a)  c = Conv (b, w)  y = Relu (c)",
        constants={"v": weights(4, 3, 1, 1), "w": weights(4, 4, 1, 1)},
    )
    called = {"v": "body.0.weight", "w": "body.1.weight"}
    for tensor in proto.graph.initializer:
        tensor.name = called[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [called.get(name, name) for name in node.input]
    assert [block.output for block in found(prepare(proto, keep_graph=True), ["body.?"])] == ["b", "y"]


def test_a_pattern_that_matches_nothing_names_what_is_near() -> None:
    with pytest.raises(
        UnknownNameError, match=re.escape("--blocks 'layer3.?' matches no module, node or tensor; near are ")
    ):
        find_blocks(two_stages(), ["layer1.?", "layer3.?"])


def test_a_pattern_for_something_else_than_a_feature_map_is_refused() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    net.net.constant("axes", np.array([0, 1, 2, 3]))
    net.net.node("ReduceMean", x, "axes", name="loss", keepdims=0)
    y = net.add(x, "loss")
    with pytest.raises(SettingsError, match=r"'loss'.*no feature map.*rank 2 or more"):
        find_blocks(net.finish(y), ["loss"])


def declaring(names: list[str]) -> Model:
    proto = network(
        "a = Conv (x, v)  b = Relu (a)  c = Conv (b, w)  y = Relu (c)",
        constants={"v": weights(4, 3, 1, 1), "w": weights(4, 4, 1, 1)},
        metadata={"aznas.blocks": json.dumps(names)},
    )
    return prepare(proto, keep_graph=True)


def test_declared_blocks_are_taken_in_order_with_repetitions() -> None:
    blocks = found(declaring(["b", "b", "y"]))
    assert [block.output for block in blocks] == ["b", "b", "y"]
    assert [block.name for block in blocks] == ["b", "b (2)", "y"]
    assert [len(block.nodes) for block in blocks] == [2, 0, 2]


def test_patterns_take_the_place_of_declared_blocks() -> None:
    assert [block.output for block in found(declaring(["b"]), ["c"])] == ["c"]


def test_a_declared_block_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="declares block 'z', but no node makes that tensor"):
        find_blocks(declaring(["b", "z"]))


def test_more_blocks_than_any_network_has_are_refused() -> None:
    with pytest.raises(ModelError, match=r"names 5,000 blocks, above the limit of 4,096"):
        declaring(["b"] * 5000)


def test_whether_it_is_a_transformer_does_not_depend_on_who_names_the_blocks() -> None:
    net = Sketch()
    x = net.patches(16)
    for _ in range(2):
        x = net.encoder(x)
    model = net.average_tokens(x)
    assert find_blocks(model, ["add_*"]).is_transformer
    assert not find_blocks(two_stages(), ["layer?.?"]).is_transformer
