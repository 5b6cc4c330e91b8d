from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.blocks import BlockKind, find_blocks, regions
from tests.blocks.sketch import Sketch, found, kinds


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


def test_beyond_the_limit_the_longest_intervals_are_long_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a lattice, which has one for every two of its nodes, does not take for ever."""
    net = Sketch()
    x = first = net.conv(net.input, 8)
    for _ in range(3):
        x = net.residual(x)
    model = net.classify(net.residual(net.add(x, first)))
    whole = found(model)
    monkeypatch.setattr(regions, "_MOST_INTERVALS", 4)
    assert found(model) == whole
    monkeypatch.setattr(regions, "_MOST_INTERVALS", 0)
    assert "residual" not in kinds(found(model))


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


def test_a_skip_of_a_part_of_the_channels_is_a_skip() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for layer in range(2):  # as in ReXNet: the branch is wider than the skip
        out = net.conv(net.depthwise(net.conv(x, 4 * net.width[x], 1)), net.width[x] + 4, 1, act=False)
        pieces = []
        for at, (start, end) in enumerate(((0, net.width[x]), (net.width[x], net.width[out]))):
            bounds = [f"{what}{layer}{at}" for what in ("start", "end", "axis")]
            for name, value in zip(bounds, (start, end, 1), strict=True):
                net.net.constant(name, np.array([value]))
            pieces.append(net.op("Slice", out, *bounds, width=end - start))
        x = net.concat(net.add(pieces[0], x), pieces[1])
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "inverted residual": 2}


def test_parallel_convolutions_that_are_summed_are_one_block() -> None:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(3):  # as in RepVGG
        x = net.relu(net.add(net.add(net.conv(x, 8, act=False), net.conv(x, 8, 1, act=False)), net.bn(x)))
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "residual": 3}
