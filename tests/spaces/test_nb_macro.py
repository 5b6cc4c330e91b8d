from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError
from aznas_onnx.spaces.nb_macro import MacroLayer, MacroLayers, NasBenchMacro
from tests.spaces.torch_reference import Weights, largest_difference

# Parameters and FLOPs of the benchmark's own file.
PUBLISHED = [
    ("01120212", 2_185_002, 61_383_168),
    ("12212122", 2_638_730, 87_665_152),
    ("10011012", 1_838_602, 44_753_408),
    ("11201101", 1_127_114, 45_554_176),
]


def every_genotype() -> list[MacroLayers]:
    return [MacroLayers(layers=layers) for layers in product(MacroLayer, repeat=8)]


@pytest.mark.parametrize(("text", "params", "flops"), PUBLISHED)
def test_counts_are_those_that_the_benchmark_publishes(text: str, params: int, flops: int) -> None:
    space = NasBenchMacro()
    genotype = space.parse(text)
    assert (space.params(genotype), space.macs(genotype), space.paper_flops(genotype)) == (params, flops, flops)


def test_counts_of_identities_by_hand() -> None:
    space = NasBenchMacro(num_classes=100)
    genotype = space.parse("00000000")
    macs = 32 * 27 * 32**2 + 32 * 64 * 16**2 + 64 * 128 * 8**2 + (128 + 1280) * 256 * 4**2 + 1280 * 100
    assert space.macs(genotype) == macs
    weights = 32 * 27 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 1280 + 1280 * 100
    assert space.params(genotype) == weights + 2 * (32 + 64 + 128 + 256 + 1280) + 100
    assert space.layers(genotype) == 5


def test_counts_are_those_of_every_row_of_the_benchmark(shared: Path) -> None:
    space = NasBenchMacro()
    with (shared / "truth" / "nasbench_macro_cifar10.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 1_500
    for row in rows:
        genotype = space.parse(row["arch"])
        assert space.format(genotype) == row["arch"]
        assert (space.params(genotype), space.macs(genotype)) == (int(row["params"]), int(row["flops"])), row["arch"]


@pytest.mark.parametrize("resolution", [8, 31, 50])
def test_macs_at_resolutions_that_do_not_divide(resolution: int) -> None:
    from aznas_onnx.costs import count
    from aznas_onnx.graph import prepare

    space = NasBenchMacro(resolution=resolution)
    for text in ("01120212", "20010001"):
        genotype = space.parse(text)
        assert space.macs(genotype) == count(prepare(space.build(genotype))).macs


def test_four_thousand_networks_are_left_without_the_places_of_identities() -> None:
    space = NasBenchMacro()
    texts = {space.canonical(genotype) for genotype in every_genotype()}
    assert len(texts) == 3_969  # that the authors trained
    assert {space.canonical(space.parse(text)) for text in texts} == texts


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("01120212", "01120212"), ("00101002", "00110020"), ("20002201", "20020210"), ("10001001", "10010010")],
)
def test_genotypes_of_one_canonical_text_are_one_network(text: str, canonical: str) -> None:
    space = NasBenchMacro()
    genotype, other = space.parse(text), space.parse(canonical)
    assert space.canonical(genotype) == canonical
    shapes = [[node.op_type for node in space.build(one).graph.node] for one in (genotype, other)]
    assert shapes[0] == shapes[1]
    assert (space.macs(genotype), space.params(genotype)) == (space.macs(other), space.params(other))


@pytest.mark.parametrize("text", ["0112021", "011202120", "01120213", "0112021a", "0 1120212", "[0,1,1,2,0,2,1,2]"])
def test_bad_notation(text: str) -> None:
    with pytest.raises(GenotypeError, match="is not a NAS-Bench-Macro network: eight digits 0, 1, 2 as in 01120212"):
        NasBenchMacro().parse(text)


def test_a_genotype_has_eight_layers() -> None:
    with pytest.raises(GenotypeError, match="has 8 layers"):
        MacroLayers(layers=(MacroLayer.IDENTITY,) * 7)


def test_a_mutation_changes_the_given_number_of_layers() -> None:
    space, rng = NasBenchMacro(), np.random.default_rng(0)
    genotype = space.parse("01120212")
    for changes in (1, 2, 8, 11):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            differ = sum(a is not b for a, b in zip(genotype.layers, child.layers, strict=True))
            assert differ == min(changes, 8)


def test_blocks_are_what_is_more_than_its_input() -> None:
    space = NasBenchMacro()
    genotype = space.parse("01120212")
    model = space.build(genotype)
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    bottlenecks = {"features.1.add", "features.2.project.bn", "features.3.add", "features.6.add", "features.7.add"}
    downsamplings = {"features.0.downsample.bn"}
    assert set(blocks) == {"stem.relu", *downsamplings, *bottlenecks, "features.5.project.bn", "head.relu"}
    assert space.layers(genotype) == len(blocks) == 9


@pytest.mark.parametrize("text", ["01120212", "12012100", "00000000"])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = NasBenchMacro(resolution=16)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return reference(image, weights, text)

    assert largest_difference(space.build(space.parse(text)), forward) < 1e-4


def reference(x: torch.Tensor, weights: Weights, text: str) -> torch.Tensor:
    """The benchmark's network, written from its paper with torch."""

    def conv_bn(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        groups = 1 if weight.shape[1] > 1 else len(weight)
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift)

    x = F.relu(conv_bn(x, "stem"))
    for index, digit in enumerate(text):
        name, stride = f"features.{index}", 2 if index in (0, 2, 5) else 1
        if digit == "0":
            x = conv_bn(x, f"{name}.downsample", stride) if stride == 2 else x
            continue
        y = F.relu(conv_bn(x, f"{name}.expand"))
        assert y.shape[1] == x.shape[1] * {"1": 3, "2": 6}[digit]
        assert weights[f"{name}.depthwise.conv.weight"].shape[-1] == {"1": 3, "2": 5}[digit]
        y = conv_bn(F.relu(conv_bn(y, f"{name}.depthwise", stride)), f"{name}.project")
        x = y if stride == 2 else x + y
    x = F.relu(conv_bn(x, "head")).mean((2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]
