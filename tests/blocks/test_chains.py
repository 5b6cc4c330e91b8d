from __future__ import annotations

import onnx

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import Model, prepare
from tests.blocks.sketch import Sketch, found, kinds
from tests.graph.builders import network, weights


def test_a_plain_chain_has_a_block_per_convolution() -> None:
    net = Sketch()
    x = net.input
    for width in (8, 8, 16):
        x = net.pool(net.conv(x, width))
    blocks = found(net.classify(x))
    assert kinds(blocks) == {"conv": 3}
    assert all(block.output.startswith("maxpool") for block in blocks)


def test_chains_between_blocks_are_transitions_where_they_change_the_shape() -> None:
    net = Sketch()
    x = net.residual(net.conv(net.input, 8))
    x = net.conv(x, 16, 2, 2, act=False)
    x = net.residual(x)
    x = net.conv(x, 16)
    x = net.residual(x)
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "residual": 3, "transition": 1, "conv": 1}


def test_a_network_of_vectors_has_a_block_per_layer_but_the_last() -> None:
    body = "a = Gemm (x, w1)  b = Relu (a)  c = Gemm (b, w2)  d = Relu (c)  y = Gemm (d, w3)"
    constants = {"w1": weights(6, 8), "w2": weights(8, 8), "w3": weights(8, 3)}
    blocks = find_blocks(prepare(network(body, {"x": ("n", 6)}, constants)))
    assert [block.output for block in blocks.blocks] == ["b", "d"]
    assert not blocks.is_transformer


def test_channel_shuffle_is_part_of_the_block_before_it() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    ends: list[str] = []
    for _ in range(2):
        x = net.concat(net.conv(x, 4), net.conv(net.conv(x, 4), 4))
        parts = net.net.reshape(x, f"parts{len(ends)}", (0, 2, 4, 32, 32))
        net.width[parts] = 8
        turned = net.op("Transpose", parts, perm=(0, 2, 1, 3, 4))
        x = net.net.reshape(turned, f"shuffled{len(ends)}", (0, 8, 32, 32))
        net.width[x] = 8
        ends.append(x)
    assert [block.output for block in found(net.classify(x))[1:]] == ends


def test_the_output_that_most_weights_lead_to_counts() -> None:
    net = Sketch()
    x = net.residual(net.conv(net.input, 8))
    early = net.net.classifier(x, "early", 8, num_classes=10)
    x = net.residual(x)
    proto = net.net.model(net.net.classifier(x, "late", 8, num_classes=10))
    proto.graph.output.insert(0, onnx.helper.make_tensor_value_info(early, 1, ("batch", 10)))
    assert found(prepare(proto, keep_graph=True))[-1].output == x


def test_a_long_chain_before_the_first_block_is_no_stem() -> None:
    net = Sketch()
    x = net.input
    for _ in range(8):
        x = net.conv(x, 8)
    assert kinds(find_blocks(net.classify(net.residual(x)))) == {"stem": 1, "conv": 7, "residual": 1}


def u_net(levels: int) -> Model:
    net = Sketch()
    x = net.conv(net.input, 8)
    skips = []
    for level in range(levels):
        x = net.conv(net.conv(x, 8 * 2**level), 8 * 2**level)
        skips.append(x)
        x = net.pool(x)
    x = net.conv(net.conv(x, 64), 64)
    for skip in reversed(skips):
        x = net.concat(net.up(x), skip)
        x = net.conv(net.conv(x, net.width[skip]), net.width[skip])
    return net.finish(net.conv(x, 2, 1, act=False, bn=False, name="segmentation"))


def test_a_u_net_is_divided_along_its_path() -> None:
    model = u_net(3)
    result = find_blocks(model)
    assert len(result.blocks) >= 8
    assert "segmentation" not in [block.output for block in result.blocks]
    assert not result.warnings


def test_a_skip_over_a_sequence_of_residual_blocks_is_no_block() -> None:
    net = Sketch()
    x = entry = net.conv(net.input, 8)
    for _ in range(3):
        x = net.residual(x)
    x = net.add(entry, net.conv(x, 8, act=False), name="long")
    blocks = found(net.classify(net.residual(x)))
    assert kinds(blocks) == {"stem": 1, "residual": 4, "conv": 1}
    assert "long" in [block.output for block in blocks]


def test_a_skip_over_a_long_plain_chain_is_no_block() -> None:
    net = Sketch()
    x = entry = net.conv(net.input, 8)
    for _ in range(10):
        x = net.conv(x, 8)
    x = net.add(entry, x)
    assert kinds(find_blocks(net.finish(net.relu(net.conv(x, 8)))))["conv"] >= 10


def test_a_cross_stage_network_is_divided_where_its_path_holds_several_blocks() -> None:
    def stage(blocks: int) -> dict[str, int]:
        net = Sketch()
        x = net.residual(net.conv(net.input, 8))
        beside = net.conv(x, 8, 1)
        inner = net.conv(x, 8, 1)
        for _ in range(blocks):
            inner = net.residual(inner)
        x = net.conv(net.concat(net.conv(inner, 8, 1), beside), 8, 1)
        return kinds(find_blocks(net.classify(net.residual(x))))

    assert stage(1)["residual"] == 2
    assert stage(3)["residual"] == 5
