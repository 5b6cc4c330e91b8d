from __future__ import annotations

import pytest

from aznas_onnx.blocks import BlockKind, find_blocks
from aznas_onnx.graph import prepare
from tests.blocks.sketch import Sketch, found, kinds


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


def test_cells_that_read_two_predecessors_are_distinguished() -> None:
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
