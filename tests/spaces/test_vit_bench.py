"""The two spaces of ViT-Bench-101: `vit` and `pit`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aznas_onnx import score
from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces import GenotypeError, Space, get
from tests.spaces.torch_reference import Weights, largest_difference
from tests.spaces.torch_transformers import PiTModule, PlainViTModule, answer, counts

FILES = {"vit": "autoformer_vitbench_200.csv", "pit": "pit_vitbench_100.csv"}
MODULES: dict[str, type[PlainViTModule] | type[PiTModule]] = {"vit": PlainViTModule, "pit": PiTModule}

DEIT_TI = json.dumps({"hidden_dim": 192, "depth": 12, "mlp_ratio": [4] * 12, "num_heads": [3] * 12})
PIT_TI = '{"base_dim":32,"mlp_ratio":4,"depth":[2,6,4],"num_heads":[2,4,8]}'


def rows(shared: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the architecture columns of a file."""
    with (shared / "truth" / FILES[name]).open(newline="") as stream:
        for row in csv.DictReader(stream):
            yield {column: row[column] for column in get(name).columns}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_row_of_the_benchmark_is_read_and_counted_as_torch_counts(shared: Path, name: str) -> None:
    space = get(name)
    for row in rows(shared, name):
        genotype = space.parse(json.dumps(row))  # cells of a table
        written = space.format(genotype)
        assert json.loads(written) == {column: json.loads(cell) for column, cell in row.items()}
        assert space.parse(written) == genotype
        with torch.device("meta"):
            network = MODULES[name](written, 224, 100)
        assert (space.macs(genotype), space.params(genotype)) == counts(network, 224)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("resolution", "classes"), [(224, 1000), (96, 7)])
def test_samples_are_counted_as_torch_counts(name: str, resolution: int, classes: int) -> None:
    space, rng = get(name, resolution=resolution, num_classes=classes), np.random.default_rng(3)
    for _ in range(10):
        genotype = space.sample(rng)
        with torch.device("meta"):
            network = MODULES[name](space.format(genotype), resolution, classes)
        assert (space.macs(genotype), space.params(genotype)) == counts(network, resolution)


@pytest.mark.parametrize(
    ("name", "text", "params", "macs"),  # published: DeiT-Ti 5.7 M and 1.3 G, PiT-Ti 4.9 M and 0.71 G
    [
        ("vit", DEIT_TI, 5_717_416, 1_253_683_200),
        ("pit", PIT_TI, 4_847_272, 699_059_456),
    ],
)
def test_counts_of_published_networks(name: str, text: str, params: int, macs: int) -> None:
    space = get(name, num_classes=1000)
    genotype = space.parse(text)
    assert (space.params(genotype), space.macs(genotype)) == (params, macs)


def test_vit_counts_what_torchvision_counts() -> None:
    from torchvision.models import VisionTransformer

    with torch.device("meta"):
        network = VisionTransformer(224, 16, 12, 3, 192, 768)
    space = get("vit", num_classes=1000)
    assert space.params(space.parse(DEIT_TI)) == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("resolution", [64, 112])
def test_the_networks_compute_what_the_papers_define(name: str, resolution: int) -> None:
    space = get(name, resolution=resolution, num_classes=10)
    genotype = space.sample(np.random.default_rng(2))

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return answer(MODULES[name](space.format(genotype), resolution, 10), image, weights)

    assert largest_difference(space.build(genotype), forward) < 1e-4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vit", DEIT_TI.replace("192", "191"), "hidden_dim holds 191; accepted are 192, 216, 240"),
        ("vit", DEIT_TI.replace("hidden_dim", "embed_dim"), 'such as {"hidden_dim":192,"depth":12,"mlp_ratio":[4,4,'),
        ("vit", DEIT_TI.replace("[3, 3", '"[3, 3').replace("3]", '3"]'), "is JSON with hidden_dim, depth"),
        ("vit", DEIT_TI.replace("[3, 3", "[3, 5"), "num_heads holds 5; accepted are 3, 4"),
        ("pit", PIT_TI[:-1], f"is JSON with base_dim, mlp_ratio, depth, num_heads, such as {PIT_TI}"),
        ("pit", PIT_TI.replace("32", "33"), "base_dim is 33; accepted are 16, 24, 32, 40"),
        ("pit", PIT_TI.replace(":4", ":4.0"), "mlp_ratio is 4.0; accepted are 2, 4, 6, 8"),
        ("pit", PIT_TI.replace(":4", ":true"), "mlp_ratio is 'True'; a number is needed"),
        ("pit", PIT_TI.replace("[2,6,4]", "[2,6,5]"), "depth is [2, 6, 5]; accepted for the three stages are 1, 2, 3;"),
        ("pit", PIT_TI.replace("[2,6,4]", "[2,6]"), "depth is [2, 6]"),
        ("pit", PIT_TI.replace("[2,6,4]", "6"), "depth is '6'; a list of numbers is needed"),
        ("pit", PIT_TI.replace("[2,4,8]", "[8,4,8]"), "num_heads is [8, 4, 8]; accepted are three of 2, 4, 8 that"),
        ("pit", PIT_TI.replace("[2,4,8]", "[2.0,4,8]"), "num_heads is [2.0, 4, 8]"),
        ("pit", PIT_TI.replace("[2,4,8]", '"[2,4"'), "num_heads is '[2,4'; a list of numbers is needed"),
    ],
)
def test_bad_notation(name: str, text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        get(name).parse(text)
    assert message in str(caught.value)


def test_pit_samples_the_hundred_shapes_of_the_benchmark_and_accepts_other_depths() -> None:
    space, rng = get("pit"), np.random.default_rng(0)
    samples = [space.sample(rng) for _ in range(3000)]
    assert {sum(sample.depth) for sample in samples} == {12, 13, 14}
    assert len({sample.depth for sample in samples}) == len({sample.num_heads for sample in samples}) == 10
    assert len({(sample.depth, sample.num_heads) for sample in samples}) == 100
    shallow = space.parse(PIT_TI.replace("[2,6,4]", "[2,4,4]"))
    assert space.layers(shallow) == 10
    assert space.layers(space.parse(PIT_TI)) == 12


def differing(space: Space[Any], genotype: Any, other: Any) -> int:
    return sum(getattr(genotype, column) != getattr(other, column) for column in space.columns)


def test_a_change_of_pit_gives_one_of_its_columns_another_value() -> None:
    space, rng = get("pit"), np.random.default_rng(0)
    genotype = space.parse(PIT_TI)
    assert {differing(space, genotype, space.mutate(genotype, rng)) for _ in range(50)} == {1}
    assert {differing(space, genotype, space.mutate(genotype, rng, 3)) for _ in range(50)} == {3}
    assert {differing(space, genotype, space.mutate(genotype, rng, 9)) for _ in range(50)} == {4}


def test_heads_of_vit_change_no_count() -> None:
    space = get("vit")
    few, many = space.parse(DEIT_TI), space.parse(DEIT_TI.replace("[3, 3", "[4, 4"))
    assert (space.macs(few), space.params(few)) == (space.macs(many), space.params(many))
    assert few != many


def test_trainability_leaves_out_the_poolings_of_pit_and_no_block_of_vit() -> None:
    for name, left_out in (("vit", []), ("pit", ["pools.0.tokens", "pools.1.tokens"])):
        space = get(name, resolution=64)
        scores = score(space.build(space.sample(np.random.default_rng(0))), effort="fast", device="cpu")
        assert [warning.split("'")[1] for warning in scores.warnings] == left_out
        assert math.isfinite(scores.proxies["trainability"].mean or math.nan)


def test_pit_needs_one_patch() -> None:
    assert get("pit", resolution=17).resolution == 17
    with pytest.raises(SettingsError, match="resolution is 15; 16 or more is needed"):
        get("pit", resolution=15)
