from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError
from aznas_onnx.spaces.mbv2 import Backbone, ConvBlock, InvertedBlock, MobileNetV2
from tests.spaces.torch_reference import Weights, largest_difference

STEM, HEAD = "SuperConvK3BNRELU(3,8,2,1)", "SuperConvK1BNRELU(32,2048,1,1)"
SMALL = f"{STEM}SuperResIDWE6K3(8,32,2,8,1){HEAD}"
# Pairs, a stride, an identity shortcut in second residuals, and a first pair that projects although shapes agree.
VARIED = (
    "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE2K5(16,24,2,16,2)SuperResIDWE1K7(24,24,1,24,2)"
    "SuperResIDWE4K3(24,40,2,16,1)SuperConvK1BNRELU(40,2048,1,1)"
)


def test_counts_by_hand() -> None:
    space = MobileNetV2(resolution=32, num_classes=10)
    genotype = space.parse(SMALL)
    # Stem at 16x16; the first residual expands at 16x16 and goes on at 8x8; its shortcut projects.
    stem = 27 * 8
    first = (8 * 48, 48 * 9, 48 * 8, 8 * 8)
    second = (8 * 192, 192 * 9, 192 * 32, 8 * 32)
    head = 32 * 2048
    macs = (stem + first[0]) * 16**2 + (sum(first[1:]) + sum(second) + head) * 8**2 + 2048 * 10
    assert space.macs(genotype) == macs
    norms = 2 * (8 + 48 + 48 + 8 + 8 + 192 + 192 + 32 + 32 + 2048)
    biases = 8 + 32  # of the shortcuts
    assert space.params(genotype) == stem + sum(first) + sum(second) + head + norms + biases + 2048 * 10 + 10
    outputs = (8 + 48) * 16**2 + (48 + 8 + 192 + 192 + 32 + 32 + 2048) * 8**2  # of BatchNorm, but the first shortcut's
    quirk = (8 * 8 + 8) * 8**2 // 4 - 8 * 8 * 8**2  # that shortcut counts a quarter
    assert space.paper_flops(genotype) == macs + outputs + quirk
    assert space.layers(genotype) == 3


def test_counts_are_those_of_the_reference(shared: Path) -> None:
    space = MobileNetV2()
    for line in (shared / "reference" / "mbv2_reference_counts.jsonl").read_text().splitlines():
        row = json.loads(line)
        genotype = space.parse(row["arch"])
        assert space.format(genotype) == row["arch"]
        assert space.params(genotype) == row["params_torch"]
        assert space.paper_flops(genotype) == row["flops_conv_bn_fc"]
        assert space.layers(genotype) == row["layers"]


@pytest.mark.parametrize("resolution", [32, 33, 50])
def test_macs_at_resolutions_that_do_not_divide(resolution: int) -> None:
    from aznas_onnx.costs import count
    from aznas_onnx.graph import prepare

    space = MobileNetV2(resolution=resolution)
    genotype = space.parse(VARIED)
    assert space.macs(genotype) == count(prepare(space.build(genotype))).macs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STEM, "has a SuperConv (the stem), one or more SuperResIDW, and a SuperConv (the head)"),
        (f"{SMALL}rest", "no super-block of the mbv2 space begins at 'rest' (after 83 characters)"),
        (f"{STEM}{STEM.replace('3,8', '8,32')}{HEAD}", "SuperResIDW only"),
        (SMALL.replace("(8,32", "(16,32"), "takes 16 channels, but what is before it gives 8"),
        (SMALL.replace("32,2,8,1", "32,2,12,1"), "has width 12; accepted are multiples of 8"),
        (SMALL.replace("32,2,8,1", "32,2,0,1"), "has width 0"),
        (SMALL.replace("32,2,8,1", "32,3,8,1"), "has stride 3; accepted are 1, 2"),
        (SMALL.replace("32,2,8,1", "32,2,8,0"), "is repeated 0 times"),
        (SMALL.replace("32,2,8,1", "32,2,8,99999999999"), "99999999999... is too large"),
        (SMALL.replace("E6", "E5"), "has expansion 5; accepted are 1, 2, 4, 6"),
        (SMALL.replace("E6K3", "E6K4"), "has kernel 4; accepted are 3, 5, 7"),
        (SMALL.replace("2048", "1280"), "is not the head of the mbv2 space, which never changes"),
        (SMALL.replace("SuperConvK3", "SuperConvK4"), "is no stem of the mbv2 space"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        MobileNetV2().parse(text)
    assert message in str(caught.value)


def test_blanks_do_not_matter() -> None:
    space = MobileNetV2()
    assert space.parse(SMALL.replace(",", ", ").replace(")", ")\n")) == space.parse(SMALL)


def mutations(text: str, changes: int, number: int = 4000) -> list[Backbone]:
    space, rng = MobileNetV2(), np.random.default_rng(0)
    genotype = space.parse(text)
    return [space.mutate(genotype, rng, changes) for _ in range(number)]


def test_a_mutation_samples_as_zennas_does() -> None:
    start = MobileNetV2().start(np.random.default_rng(0))
    children = mutations(MobileNetV2().format(start), changes=1)
    drawn = [child.blocks[4] for child in children if len(child.blocks) == 6 and child.blocks[4] != start.blocks[4]]
    blocks = [block for block in drawn if isinstance(block, InvertedBlock)]
    assert {block.expansion for block in blocks} == {1, 2, 4, 6}
    assert {block.kernel for block in blocks} == {3, 5, 7}
    assert {block.repeats for block in blocks} == {1, 2, 3}
    # 128 and 96 times or divided by 2.5, 2, 1.5, 1.25, to the nearest multiple of 8, halves to the even one
    assert {block.out_channels for block in blocks} == {48, 64, 88, 104, 128, 160, 192, 256, 320}
    assert {block.bottleneck for block in blocks} == {40, 48, 64, 80, 96, 120, 144, 192, 240}
    assert {child.blocks[0].out_channels for child in children} == {8, 16}  # 20 rounds to 16, 12 to 16, 10 to 8
    assert {(child.blocks[0].kernel, child.blocks[0].stride, child.blocks[0].repeats) for child in children} == {
        (3, 2, 1)
    }
    assert {str(child.blocks[-1])[-10:] for child in children} == {",2048,1,1)"}


def test_at_most_the_given_number_of_blocks_changes() -> None:
    start = MobileNetV2().start(np.random.default_rng(0))
    for changes in (1, 2):
        differ = set()
        for child in mutations(MobileNetV2().format(start), changes, number=300):
            own = [(type(b), b.kernel, b.out_channels, b.stride, b.repeats) for b in child.blocks]
            old = [(type(b), b.kernel, b.out_channels, b.stride, b.repeats) for b in start.blocks]
            differ.add(sum(a != b for a, b in zip(own, old, strict=True)))
        assert max(differ) == changes


def test_six_pairs_or_more_are_split_into_two_of_three() -> None:
    deep = SMALL.replace("8,32,2,8,1", "8,32,2,8,5")
    seen: dict[tuple[int, ...], list[InvertedBlock]] = {}
    for child in mutations(deep, changes=1):
        inner = [block for block in child.blocks if isinstance(block, InvertedBlock)]
        seen.setdefault(tuple(block.repeats for block in inner), inner)
    assert set(seen) == {(3,), (4,), (5,), (3, 3)}
    first, second = seen[3, 3]
    assert (first.stride, second.stride) == (2, 1)
    assert second.in_channels == second.out_channels == first.out_channels
    assert (second.kernel, second.expansion, second.bottleneck) == (first.kernel, first.expansion, first.bottleneck)


def test_a_walk_of_mutations_never_leaves_the_space() -> None:
    space, rng = MobileNetV2(), np.random.default_rng(3)
    genotype = space.start(rng)
    for _ in range(500):
        genotype = space.mutate(genotype, rng, changes=2)
        assert space.parse(space.format(genotype)) == genotype


def test_random_samples_meet_the_published_budgets() -> None:
    space, rng = MobileNetV2(), np.random.default_rng(0)
    macs = np.array([space.macs(space.sample(rng)) for _ in range(500)])
    for budget in (450e6, 600e6, 1000e6):
        assert 0.25 < np.mean(macs <= budget) < 0.75
        assert np.mean((macs <= budget) & (macs > 0.5 * budget)) > 0.1


def test_blocks_are_the_stem_every_residual_and_the_head() -> None:
    model = MobileNetV2(resolution=32).build(MobileNetV2().parse(VARIED))
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    assert len(blocks) == 1 + 2 * (2 + 2 + 1) + 1
    assert {node.op_type for node in model.graph.node if node.output[0] in blocks} == {"Relu"}


@pytest.mark.parametrize("text", [SMALL, VARIED])
def test_the_network_computes_what_zennas_defines(text: str) -> None:
    space = MobileNetV2(resolution=40)
    genotype = space.parse(text)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return reference(image, weights, genotype)

    assert largest_difference(space.build(genotype), forward) < 1e-4


def reference(x: torch.Tensor, weights: Weights, genotype: Backbone) -> torch.Tensor:
    """ZenNAS's network, written from its description with torch."""

    def conv_bn(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, weights.get(f"{name}.conv.bias"), stride, weight.shape[-1] // 2, groups=groups)
        parameters = [weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = parameters
        return F.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    def residual(x: torch.Tensor, name: str, stride: int, projects: bool) -> torch.Tensor:
        y = F.relu(conv_bn(x, f"{name}.expand"))
        y = F.relu(conv_bn(y, f"{name}.depthwise", stride))
        y = conv_bn(y, f"{name}.project")
        assert y.shape == x.shape or projects
        return F.relu(y + (conv_bn(x, f"{name}.shortcut", stride) if projects else x))

    for index, block in enumerate(genotype.blocks):
        name = f"blocks.{index}"
        if isinstance(block, ConvBlock):
            for repeat in range(block.repeats):
                x = F.relu(conv_bn(x, f"{name}.{repeat}", block.stride if repeat == 0 else 1))
            continue
        for pair in range(block.repeats):
            projects = pair == 0 or x.shape[1] != block.bottleneck
            x = residual(x, f"{name}.{2 * pair}", block.stride if pair == 0 else 1, projects)
            x = residual(x, f"{name}.{2 * pair + 1}", 1, block.bottleneck != block.out_channels)
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
