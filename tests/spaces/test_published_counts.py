"""Counts that no one here chose: the papers' own, and those of networks written in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aznas_onnx.spaces import get
from aznas_onnx.spaces.layerwise_transformers import VisionTransformer
from tests.spaces import torch_modules

# Parameters and FLOPs of the authors' own code.
MOBILENETS = [
    (
        "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperResIDWE6K3(32,48,2,32,1)"
        "SuperResIDWE6K3(48,96,2,48,1)SuperResIDWE6K3(96,128,2,96,1)SuperConvK1BNRELU(128,2048,1,1)",
        *(2_824_264, 162_396_776, 6),
    ),
    (
        "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE6K3(16,32,2,8,1)SuperResIDWE6K3(32,48,2,32,1)"
        "SuperResIDWE6K7(48,240,2,40,2)SuperResIDWE6K3(240,128,2,96,1)SuperConvK1BNRELU(128,2048,1,1)",
        *(3_898_576, 375_417_024, 7),
    ),
    (
        "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperResIDWE1K3(32,72,2,40,3)"
        "SuperResIDWE6K3(72,96,2,48,1)SuperResIDWE2K3(96,160,2,144,3)SuperConvK1BNRELU(160,2048,1,1)",
        *(3_281_736, 182_863_684, 10),
    ),
]

# The winners of the paper's Table 3: width, heads, ratios, parameters, the authors' FLOPs, and the MACs of the graph
# without the products with the relative position tables, which the paper does not count (in billions).
TRANSFORMERS: dict[str, list[Any]] = {
    "autoformer-tiny": [
        (
            192,
            (4, 3, 4, 4, 4, 4, 4, 3, 3, 4, 4, 4),
            (3.5, 3.5, 3.5, 4, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 4, 4),
            *(5_921_032, 1_380_128_376, 1.3202),
        ),
        (
            192,
            (3, 4, 4, 3, 4, 4, 3, 4, 3, 4, 4, 3, 3),
            (3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 4, 3.5),
            *(6_164_008, 1_432_573_626, 1.3711),
        ),
    ],
    "autoformer-small": [
        (
            384,
            (7, 7, 6, 6, 5, 6, 6, 6, 7, 7, 5, 5, 6, 7),
            (3, 3, 3, 4, 3.5, 3, 3, 3.5, 4, 3, 3, 3, 3, 4),
            *(22_951_144, 4_943_341_788, 4.8234),
        ),
        (
            384,
            (7, 6, 7, 7, 6, 5, 7, 6, 7, 7, 7, 7, 6, 5),
            (3, 3, 3, 3, 4, 3.5, 3, 3.5, 3, 4, 3.5, 3.5, 3.5, 4),
            *(23_788_072, 5_128_885_212, 5.0078),
        ),
    ],
    "autoformer-base": [
        (
            528,
            (10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 9, 10, 10, 10, 10),
            (3, 3.5, 3.5, 3.5, 3, 3.5, 3, 4, 4, 3, 3, 4, 3.5, 3, 4, 4),
            *(53_710_768, 11_386_130_712, 11.1999),
        ),
        (
            528,
            (10, 10, 10, 10, 10, 9, 10, 10, 10, 10, 9, 10, 10, 10, 10, 10),
            (3, 3, 3.5, 4, 4, 3, 3, 3, 4, 3, 3, 4, 4, 4, 4, 4),
            *(54_133_504, 11_464_741_464, 11.2781),
        ),
    ],
}


@pytest.mark.parametrize(("text", "params", "flops", "layers"), MOBILENETS)
def test_counts_of_zennas(text: str, params: int, flops: int, layers: int) -> None:
    space = get("mbv2")
    genotype = space.parse(text)
    assert (space.params(genotype), space.paper_flops(genotype), space.layers(genotype)) == (params, flops, layers)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_counts_of_the_winners_of_the_paper(name: str) -> None:
    space = get(name)
    for width, heads, ratios, params, flops, giga_macs in TRANSFORMERS[name]:
        genotype = VisionTransformer(embed_dim=width, num_heads=heads, mlp_ratio=tuple(map(float, ratios)))
        assert (space.params(genotype), space.paper_flops(genotype)) == (params, flops)
        products = 2 * 197 * 197 * 64 * sum(heads)
        assert round((space.macs(genotype) - products) / 1e9, 4) == giga_macs


@pytest.mark.parametrize("num_classes", [10, 1000])
def test_mbv2_counts_what_torch_counts(num_classes: int) -> None:
    space, rng = get("mbv2", num_classes=num_classes), np.random.default_rng(11)
    for _ in range(15):
        genotype = space.sample(rng)
        with torch.device("meta"):
            network = torch_modules.MobileNetV2(space.format(genotype), num_classes)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert (space.macs(genotype), space.paper_flops(genotype)) == torch_modules.counted_operations(network, 224)


def test_nb201_counts_what_torch_counts() -> None:
    space, rng = get("nb201", num_classes=120, resolution=16), np.random.default_rng(11)
    for _ in range(15):
        genotype = space.sample(rng)
        with torch.device("meta"):
            network = torch_modules.NasBench201(space.format(genotype), 120)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert space.macs(genotype) == torch_modules.counted_operations(network, 16)[0]
        assert space.paper_flops(genotype) == space.macs(genotype) + 120


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_autoformer_has_the_parameters_that_torch_counts(name: str) -> None:
    space, rng = get(name, resolution=160), np.random.default_rng(11)
    for _ in range(10):
        genotype = space.sample(rng)
        with torch.device("meta"):
            network = torch_modules.AutoFormer(space.format(genotype), 160, 1000)
        assert space.params(genotype) == torch_modules.parameters(network)
