from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError
from aznas_onnx.spaces.mnasnet import MnasNet, MobileStages
from tests.spaces.torch_reference import Weights, largest_difference

# Parameters and "MACs" in millions, of the benchmark's own file.
PUBLISHED = [
    ("e4k5l3s1_e4k3l2s0_e6k5l1s1_e1k3l3s1_e1k3l2s1_e6k5l1s1_e6k5l1s1", 2.797948, 400.948632),
    ("e4k5l3s1_e6k5l3s0_e1k5l1s1_e6k5l2s1_e1k5l2s0_e1k5l1s1_e1k5l1s1", 2.042088, 431.67068),
    ("e1k3l1s1_e4k3l2s1_e6k5l3s0_e6k3l3s0_e4k3l1s0_e6k3l4s0_e1k3l1s0", 3.687754, 307.070304),
]
VARIED = "e1k3l1s1_e4k3l2s1_e6k5l2s0_e1k3l2s1_e4k5l1s0_e6k3l4s1_e1k5l1s0"
EFFICIENTNET_B0 = "e1k3l1s1_e6k3l2s1_e6k5l2s1_e6k3l3s1_e6k5l3s1_e6k5l4s1_e6k3l1s1"


@pytest.mark.parametrize(("text", "params", "flops"), PUBLISHED)
def test_counts_are_those_that_the_benchmark_publishes(text: str, params: float, flops: float) -> None:
    space = MnasNet()
    genotype = space.parse(text)
    assert (space.params(genotype) / 1e6, space.paper_flops(genotype) / 1e6) == (params, flops)


def test_efficientnet_b0_has_its_parameters() -> None:
    space = MnasNet()
    genotype = space.parse(EFFICIENTNET_B0)
    assert space.params(genotype) == 5_288_548  # as torchvision has
    assert 380e6 < space.macs(genotype) < 390e6  # the paper: 0.39 billion
    assert space.layers(genotype) == 18


def test_counts_are_those_of_every_row_of_the_benchmark(shared: Path) -> None:
    space = MnasNet()
    with (shared / "truth" / "accel_nasbench_mnasnet_imagenet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 1_500
    for row in rows:
        genotype = space.parse(row["arch"])
        assert space.format(genotype) == row["arch"]
        found = (space.params(genotype), space.paper_flops(genotype))
        assert found == (millions(row["params_m"]), millions(row["macs_m"])), row["arch"]


def millions(text: str) -> int:
    return round(float(text) * 1e6)


@pytest.mark.parametrize("resolution", [32, 37, 100])
def test_macs_at_resolutions_that_do_not_divide(resolution: int) -> None:
    from aznas_onnx.costs import count
    from aznas_onnx.graph import prepare

    space = MnasNet(resolution=resolution)
    genotype = space.parse(VARIED)
    assert space.macs(genotype) == count(prepare(space.build(genotype))).macs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not seven stages of mnasnet such as e1k3l1s0_"),
        (VARIED[:-9], "is not seven stages"),
        (f"{VARIED}_e1k3l1s0", "is not seven stages"),
        (VARIED.replace("s1", "s2"), "is not seven stages"),
        (VARIED.replace("_", ","), "is not seven stages"),
        (VARIED.replace("e4k3", "e3k3"), "stage 2 of mnasnet has expansion 3; accepted are 1, 4, 6"),
        (VARIED.replace("e6k5", "e6k7"), "stage 3 of mnasnet has kernel 7; accepted are 3, 5"),
        (VARIED.replace("e1k5l1", "e1k5l4"), "stage 7 of mnasnet has layers 4; accepted are 1, 2, 3"),
        (VARIED.replace("l4", "l5"), "stage 6 of mnasnet has layers 5; accepted are 1, 2, 3, 4"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        MnasNet().parse(text)
    assert message in str(caught.value)


def test_values_of_another_kind_are_refused() -> None:
    first, *others = MnasNet().parse(VARIED).stages
    with pytest.raises(GenotypeError, match=r"stage 1 of mnasnet has kernel 3\.0; accepted are 3, 5"):
        MobileStages(stages=(replace(first, kernel=3.0), *others))  # type: ignore[arg-type]
    with pytest.raises(GenotypeError, match="stage 1 of mnasnet has squeeze_excitation 1; accepted are False, True"):
        MobileStages(stages=(replace(first, squeeze_excitation=1), *others))  # type: ignore[arg-type]
    with pytest.raises(GenotypeError, match="has 7 stages"):
        MobileStages(stages=(first,))


def test_a_mutation_changes_the_given_number_of_values() -> None:
    space, rng = MnasNet(), np.random.default_rng(0)
    genotype = space.parse(VARIED)
    for changes in (1, 2, 28, 40):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            texts = zip(space.format(genotype), space.format(child), strict=True)
            assert sum(before != after for before, after in texts) == min(changes, 28)


def test_a_search_starts_at_a_network_like_mnasnet_a1() -> None:
    space = MnasNet()
    genotype = space.start(np.random.default_rng(0))
    assert 3.9e6 < space.params(genotype) < 5.2e6  # MnasNet-A1: 3.9 million, 312 million
    assert 312e6 < space.macs(genotype) < 360e6


def test_a_network_of_the_sixth_stage_can_have_four_layers() -> None:
    space, rng = MnasNet(), np.random.default_rng(0)
    layers = {tuple(stage.layers for stage in space.sample(rng).stages) for _ in range(200)}
    assert [max(column) for column in zip(*layers, strict=True)] == [3, 3, 3, 3, 3, 4, 3]


def test_blocks_are_stem_bottlenecks_and_head() -> None:
    space = MnasNet()
    genotype = space.parse(VARIED)
    model = space.build(genotype)
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    assert blocks[:4] == ("stem.relu", "stages.0.0.project.bn", "stages.1.0.project.bn", "stages.1.1.add")
    assert blocks[-1] == "head.relu"
    assert space.layers(genotype) == len(blocks) == 15


@pytest.mark.parametrize("text", [VARIED, "e4k5l2s0_e1k5l1s0_e4k3l3s1_e6k5l1s0_e1k3l3s1_e4k5l2s0_e6k3l2s1"])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = MnasNet(resolution=32)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return reference(image, weights, text)

    assert largest_difference(space.build(space.parse(text)), forward) < 1e-4


def reference(x: torch.Tensor, weights: Weights, text: str) -> torch.Tensor:
    """The benchmark's network, written with torch."""

    def conv_bn(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        groups = 1 if weight.shape[1] > 1 else len(weight)
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift)

    def excited(x: torch.Tensor, name: str) -> torch.Tensor:
        gate = x.mean((2, 3), keepdim=True)
        gate = F.relu(F.conv2d(gate, weights[f"{name}.fc1.weight"], weights[f"{name}.fc1.bias"]))
        return x * F.hardsigmoid(F.conv2d(gate, weights[f"{name}.fc2.weight"], weights[f"{name}.fc2.bias"]))

    x = F.relu(conv_bn(x, "stem", 2))
    for index, stage in enumerate(text.split("_")):
        expansion, kernel, layers, excites = [int(digit) for digit in stage[1::2]]
        for layer in range(layers):
            name, y = f"stages.{index}.{layer}", x
            stride = (1, 2, 2, 2, 1, 2, 1)[index] if layer == 0 else 1
            if expansion > 1:
                y = F.relu(conv_bn(y, f"{name}.expand"))
            assert y.shape[1] == expansion * x.shape[1]
            assert weights[f"{name}.depthwise.conv.weight"].shape[-1] == kernel
            y = F.relu(conv_bn(y, f"{name}.depthwise", stride))
            if excites:
                assert len(weights[f"{name}.se.fc1.weight"]) == x.shape[1] // 4
                y = excited(y, f"{name}.se")
            y = conv_bn(y, f"{name}.project")
            assert y.shape[1] == (16, 24, 40, 80, 112, 192, 320)[index]
            x = x + y if x.shape == y.shape else y
    x = F.relu(conv_bn(x, "head")).mean((2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]
