from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.nats_sss import LayerWidths, NatsBenchSize
from tests.spaces import torch_modules
from tests.spaces.torch_reference import Weights, batch_norm, largest_difference


@pytest.mark.parametrize(
    ("text", "params"),
    [("8:8:8:8:8", 11_714), ("8:8:16:40:40", 107_826), ("64:64:64:64:64", 713_674)],
)
def test_parameters_are_those_of_the_benchmark(text: str, params: int) -> None:
    space = NatsBenchSize()
    assert space.params(space.parse(text)) == params


def test_multiply_adds_by_hand() -> None:
    space = NatsBenchSize()
    genotype = space.parse("8:16:24:24:32")
    stem, head = 27 * 8 * 32**2, 32 * 10
    first = 9 * 5 * 8 * 8 * 32**2
    wider = (9 * 2 * 16 + 9 * 3 * 24 + 16) * 24 * 16**2  # the skip is a convolution
    last = (9 * 2 * 24 + 9 * 3 * 32 + 24) * 32 * 8**2
    reductions = (9 * 8 + 9 * 16 + 8) * 16 * 16**2 + (9 * 24 + 9 * 24 + 24) * 24 * 8**2
    assert space.macs(genotype) == stem + first + reductions + wider + last + head
    assert space.paper_flops(genotype) == space.macs(genotype) + 10


def test_counts_are_what_torch_counts() -> None:
    space, rng = get("nats-sss", num_classes=120, resolution=16), np.random.default_rng(11)
    for _ in range(15):
        genotype = space.sample(rng)
        with torch.device("meta"):
            network = torch_modules.NatsBenchSize(space.format(genotype), 120)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert space.macs(genotype) == torch_modules.counted_operations(network, 16)[0]


def test_every_network_of_the_benchmark_is_read(shared: Path) -> None:
    space = NatsBenchSize()
    with (shared / "truth" / "nats_sss_cifar10_32768.csv").open(newline="") as file:
        texts = [row["arch"] for row in csv.DictReader(file)]
    assert len(texts) == 2_000
    assert [space.format(space.parse(text)) for text in texts] == texts


@pytest.mark.parametrize(
    "text",
    ["8:16:32:48", "8:16:32:48:64:64", "8:16:32:48:65", "08:16:32:48:64", "0:8:8:8:8", "8:16:32:48:72", "8 8 8 8 8"],
)
def test_other_widths_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(GenotypeError, match="such as 8:16:32:48:64"):
        NatsBenchSize().parse(text)


def test_a_mutation_changes_the_given_number_of_layers() -> None:
    space, rng = NatsBenchSize(), np.random.default_rng(0)
    genotype = space.parse("8:16:32:48:64")
    for changes in (1, 2, 5, 9):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            differ = sum(a != b for a, b in zip(genotype.channels, child.channels, strict=True))
            assert differ == min(changes, 5)


def test_blocks_are_the_stem_and_the_five_layers() -> None:
    model = NatsBenchSize().build(LayerWidths((8, 8, 8, 8, 8)))
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    assert len(blocks) == 6
    assert blocks[0] == "stem.bn"


@pytest.mark.parametrize("text", ["8:8:8:8:8", "8:16:24:24:32", "64:8:16:48:8"])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = NatsBenchSize(resolution=16)
    assert largest_difference(space.build(space.parse(text)), forward) < 1e-4


def forward(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """The benchmark's network, written from its paper with torch."""

    def conv_bn(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        return batch_norm(F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2), weights, f"{name}.bn")

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        return conv_bn(F.relu(x), name, stride)

    x = conv_bn(x, "stem")
    for index in range(5):
        name = f"cells.{index}"
        if index in (1, 3):
            main = conv(conv(x, f"{name}.conv_a", 2), f"{name}.conv_b")
            x = F.conv2d(F.avg_pool2d(x, 2), weights[f"{name}.downsample.conv.weight"]) + main
            continue
        edges = f"{name}.edges"
        first = conv(x, f"{edges}.1_0")
        second = conv(x, f"{edges}.2_0") + conv(first, f"{edges}.2_1")
        skip = conv_bn(x, f"{edges}.3_0") if f"{edges}.3_0.conv.weight" in weights else x
        x = skip + conv(first, f"{edges}.3_1") + conv(second, f"{edges}.3_2")
    x = F.relu(batch_norm(x, weights, "lastact.bn")).mean((2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]
