from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.blocks import BlockKind, find_blocks
from aznas_onnx.graph import Model, prepare
from tests.blocks.sketch import Sketch, found, kinds
from tests.graph.builders import network, weights

# -- residual blocks


def test_a_residual_block_ends_after_its_relu_and_the_stem_after_its_pooling() -> None:
    net = Sketch()
    x = net.pool(net.conv(net.input, 8))
    x = net.residual(x, name="first")
    x = net.residual(x, 16, s=2, name="second")
    blocks = found(net.classify(x))
    assert [block.kind for block in blocks] == [BlockKind.STEM, BlockKind.RESIDUAL, BlockKind.RESIDUAL]
    assert [block.output for block in blocks[1:]] == ["first", "second"]
    assert blocks[0].output.startswith("maxpool")
    assert "one of them is the identity" in blocks[1].reason
    assert "one of them projects the input" in blocks[2].reason


def test_a_linear_bottleneck_is_not_activated_by_what_comes_after_it() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(3):
        x = net.add(x, net.conv(net.conv(x, 8), 8, act=False))
    last = x
    x = net.relu(x)
    assert found(net.classify(x))[-1].output == last


def test_pre_activation_belongs_to_the_next_block() -> None:
    net = Sketch()
    x = net.conv(net.input, 8, act=False, bn=False)
    sums = []
    for width in (8, 16, 16):  # the second activates before its paths part, as ResNet v2 does where it projects
        if width != net.width[x]:
            x = net.relu(net.bn(x))
            branch, skip = net.conv(x, width), net.conv(x, width, 1, act=False, bn=False)
        else:
            branch, skip = net.conv(net.relu(net.bn(x)), width), x
        x = net.add(skip, net.conv(branch, width, act=False, bn=False))
        sums.append(x)
    x = net.relu(net.bn(x))
    assert [block.output for block in found(net.classify(x))[1:]] == sums


def test_a_post_norm_belongs_to_its_block() -> None:
    net = Sketch()
    x = net.patches(8)
    ends = []
    for _ in range(2):
        x = net.ln(net.add(x, net.attention(x)))
        ends.append(x)
        x = net.ln(net.add(x, net.linear(net.relu(net.linear(x, 16)), 8)))
        ends.append(x)
    blocks = found(net.average_tokens(x))
    assert [block.output for block in blocks[1:]] == ends


def test_pooling_behind_a_block_is_part_of_it() -> None:
    net = Sketch()
    x = net.residual(net.conv(net.input, 8))
    x = net.pool(x)
    pooled = x
    assert found(net.classify(net.residual(x)))[1].output == pooled


# -- inverted residuals and separable convolutions


def test_inverted_residuals_with_and_without_skip_are_one_block_each() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    x = net.inverted(x, 8, expand=1, skip=False)
    x = net.inverted(x, 12, s=2, skip=False)
    x = net.inverted(x, 12)
    x = net.conv(x, 32, 1)
    blocks = find_blocks(net.classify(x))
    assert kinds(blocks) == {"stem": 1, "inverted residual": 3, "head": 1}
    widths = [8, 8, 12, 12, 32]
    assert [net.width[block.output] for block in blocks.blocks] == widths


def test_squeeze_and_excitation_is_a_gate_inside_of_a_block() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    wide = net.squeeze_excite(net.depthwise(net.conv(x, 32, 1), s=2))
    x = net.conv(wide, 12, 1, act=False)
    x = net.add(x, net.conv(net.squeeze_excite(net.depthwise(net.conv(x, 48, 1))), 12, 1, act=False))
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "inverted residual": 2}


def test_a_fused_inverted_residual_has_no_depthwise_convolution() -> None:
    net = Sketch()
    x = net.residual(net.conv(net.input, 8))
    x = net.conv(net.conv(x, 32, s=2), 12, 1, act=False)
    x = net.add(x, net.conv(net.conv(x, 48), 12, 1, act=False))
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "residual": 1, "inverted residual": 2}


def test_depthwise_and_activated_pointwise_are_one_separable_block() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for width in (16, 32, 32):
        x = net.conv(net.depthwise(x), width, 1)
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "separable": 3}


def test_a_depthwise_residual_joins_the_pointwise_convolution_behind_it() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(2):
        x = net.conv(net.add(x, net.depthwise(x)), 8, 1)
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "separable": 2}


def test_a_convolution_written_group_by_group_is_one_convolution() -> None:
    net = Sketch()
    x = net.residual(net.conv(net.input, 8))
    net.net.constant("starts", np.array([0]))
    parts = []
    for part in range(2):
        net.net.constant(f"from{part}", np.array([4 * part]))
        net.net.constant(f"to{part}", np.array([4 * part + 4]))
        net.net.constant(f"axis{part}", np.array([1]))
        piece = net.op("Slice", x, f"from{part}", f"to{part}", f"axis{part}", width=4)
        parts.append(net.conv(piece, 4, act=False, bn=False))
    x = net.relu(net.concat(*parts))
    blocks = found(net.classify(net.residual(x)))
    assert [block.kind for block in blocks] == [BlockKind.STEM, BlockKind.RESIDUAL, BlockKind.CONV, BlockKind.RESIDUAL]


# -- concatenations and cells


def test_a_fire_module_includes_its_squeeze() -> None:
    net = Sketch()
    x = net.pool(net.conv(net.input, 16, bn=False))
    for _ in range(3):
        squeezed = net.conv(x, 4, 1, bn=False)
        x = net.concat(net.conv(squeezed, 8, 1, bn=False), net.conv(squeezed, 8, bn=False))
    x = net.conv(x, 10, 1, bn=False)  # the classifier
    pooled = net.net.node("GlobalAveragePool", x, name="pool")
    model = prepare(net.net.model(net.net.node("Flatten", pooled, name="logits")), keep_graph=True)
    blocks = find_blocks(model)
    assert kinds(blocks) == {"stem": 1, "inception": 3}
    assert sum(node.startswith("conv") and not node.endswith(".act") for node in blocks.blocks[1].nodes) == 3


@pytest.mark.parametrize("nested", [True, False])
def test_dense_layers_follow_each_other_however_the_features_are_concatenated(nested: bool) -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(2):
        features = [x]
        for _ in range(3):
            stacked = features[0] if len(features) == 1 else net.concat(*features)
            new = net.conv(net.conv(net.relu(net.bn(stacked)), 16, 1), 4, act=False, bn=False)
            features = [stacked, new] if nested else [*features, new]
        x = net.conv(net.relu(net.bn(net.concat(*features))), 10, 1, act=False, bn=False)
        x = net.pool(x, "AveragePool")
    blocks = found(net.classify(x))
    assert kinds(blocks) == {"stem": 1, "dense": 6, "transition": 1, "head": 1}
    assert [net.width[block.output] for block in blocks[1:4]] == [12, 16, 20]


def test_a_convolution_that_gathers_a_concatenation_belongs_to_it() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(2):
        first = net.conv(x, 8)
        x = net.conv(net.concat(x, first, net.conv(first, 8)), 12, 1)
    blocks = found(net.classify(x))
    assert [block.kind for block in blocks] == [BlockKind.STEM, BlockKind.DENSE, BlockKind.DENSE]
    assert [net.width[block.output] for block in blocks] == [8, 12, 12]


def cell(net: Sketch, x: str) -> str:
    """|conv~0|+|conv~0|conv~1|+|skip~0|conv~1|conv~2| of NAS-Bench-201."""
    one = net.conv(x, 8)
    two = net.add(net.conv(x, 8, 1), net.conv(one, 8))
    return net.add(x, net.add(net.conv(one, 8), net.conv(two, 8)))


def test_a_cell_with_sums_inside_is_one_block() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    ends = []
    for _ in range(3):
        x = cell(net, x)
        ends.append(x)
    blocks = found(net.classify(x))
    assert kinds(blocks) == {"stem": 1, "cell": 3}
    assert [block.output for block in blocks[1:]] == ends


def test_cells_that_read_two_predecessors_are_told_apart() -> None:
    net = Sketch()
    before = x = net.conv(net.input, 8)
    ends = []
    for _ in range(4):
        near, far = net.conv(x, 8, 1), net.conv(before, 8, 1)
        sums = [net.add(net.conv(net.conv(near, 8), 8), net.conv(net.conv(far, 8), 8)), net.add(near, net.conv(far, 8))]
        before, x = x, net.concat(*sums)
        ends.append(x)
    blocks = found(net.classify(x))
    assert [block.output for block in blocks[1:]] == ends
    assert {block.kind for block in blocks[1:]} == {BlockKind.CELL}


# -- tokens


def test_a_transformer_has_an_attention_and_an_mlp_block_a_layer() -> None:
    net = Sketch()
    x = net.patches(16)
    for _ in range(3):
        x = net.encoder(x)
    result = find_blocks(net.average_tokens(net.ln(x)))
    assert kinds(result) == {"stem": 1, "attention": 3, "mlp": 3}
    assert result.is_transformer
    assert {block.channel_axis for block in result.blocks} == {2}


def test_a_token_mixing_mlp_is_an_mlp_block() -> None:
    net = Sketch(resolution=16)
    x = net.patches(12)
    for _ in range(2):
        turned = net.op("Transpose", net.ln(x), perm=(0, 2, 1), width=16)
        mixed = net.linear(net.op("Gelu", net.linear(turned, 24)), 16)
        x = net.add(x, net.op("Transpose", mixed, perm=(0, 2, 1), width=12))
        x = net.add(x, net.linear(net.op("Gelu", net.linear(net.ln(x), 24)), 12))
    result = find_blocks(net.average_tokens(x))
    assert kinds(result) == {"stem": 1, "mlp": 4}
    assert result.is_transformer
    assert {net.width[block.output] for block in result.blocks} == {12}


def test_a_hybrid_of_convolutions_and_attention_is_no_transformer() -> None:
    net = Sketch()
    x = net.conv(net.input, 16)
    for _ in range(4):
        x = net.residual(x)
    assert not find_blocks(net.average_tokens(net.encoder(net.tokens(x)))).is_transformer


def test_the_choice_of_the_class_token_ends_the_feature_maps() -> None:
    net = Sketch()
    x = net.patches(16)
    x = net.encoder(x)
    net.net.constant("first", np.array(0))
    token = net.op("Gather", net.ln(x), "first", axis=1)
    hidden = net.relu(net.linear(token, 32))
    model = prepare(net.net.model(net.net.gemm(hidden, "head", 32, 10)), keep_graph=True)
    assert found(model)[-1].output == x


# -- chains


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
    ends = []
    for _ in range(2):
        x = net.concat(net.conv(x, 4), net.conv(net.conv(x, 4), 4))
        parts = net.net.reshape(x, f"parts{len(ends)}", (0, 2, 4, 32, 32))
        net.width[parts] = 8
        turned = net.op("Transpose", parts, perm=(0, 2, 1, 3, 4))
        x = net.net.reshape(turned, f"shuffled{len(ends)}", (0, 8, 32, 32))
        net.width[x] = 8
        ends.append(x)
    assert [block.output for block in found(net.classify(x))[1:]] == ends


# -- long skips


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


# -- what every block says


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
