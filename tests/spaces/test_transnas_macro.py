from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.transnas_backbone import BackboneModule
from aznas_onnx.spaces.transnas_macro import MacroSkeleton, TransNasMacro
from tests.spaces import torch_modules
from tests.spaces.torch_reference import Weights, largest_difference
from tests.spaces.transnas_torch import TransNas, on_meta, suite_zero_flops

EXAMPLE = "64-431241-basic"


# Parameters and FLOPs of NAS-Bench-Suite-Zero, at 256x256: class_scene (63 classes) and class_object (100).
@pytest.mark.parametrize(
    ("text", "num_classes", "params", "flops"),
    [
        ("(1, 2, 4, 2, 0, 0)", 63, 11_218_783, 13_602_455_552),
        ("(1, 2, 4, 2, 0, 0)", 100, 11_237_764, 13_602_474_496),
        ("(2, 1, 2, 4, 0, 0)", 63, 11_661_663, 21_871_001_600),
        ("(1, 2, 1, 1, 1, 3)", 63, 3_081_183, 10_743_201_792),
        ("(3, 4, 4, 3, 0, 0)", 63, 5_240_543, 556_115_968),
        ("(3, 4, 4, 2, 1, 0)", 63, 20_664_287, 1_658_986_496),
        ("(4, 4, 1, 4, 1, 0)", 63, 22_873_439, 2_915_016_704),
        ("(1, 1, 3, 1, 1, 2)", 63, 1_297_247, 2_304_655_360),
    ],
)
def test_counts_are_the_published_ones(text: str, num_classes: int, params: int, flops: int) -> None:
    space = TransNasMacro(resolution=256, num_classes=num_classes)
    genotype = space.parse(text)
    network = on_meta(space.format(genotype), num_classes)
    assert space.params(genotype) == params
    assert space.macs(genotype) == torch_modules.counted_operations(network, 256)[0]
    assert suite_zero_flops(network, 256) == space.paper_flops(genotype) == flops


@pytest.mark.parametrize("resolution", [32, 50, 64, 99])
def test_macs_at_resolutions_that_do_not_divide(resolution: int) -> None:
    space, rng = TransNasMacro(resolution=resolution, num_classes=10), np.random.default_rng(3)
    for _ in range(10):
        genotype = space.sample(rng)
        network = on_meta(space.format(genotype), 10)
        assert space.macs(genotype) == torch_modules.counted_operations(network, resolution)[0]
        assert space.paper_flops(genotype) == suite_zero_flops(network, resolution)


@pytest.mark.slow
def test_every_network_of_the_data_is_read_and_counts_what_torch_counts(shared: Path) -> None:
    space = TransNasMacro()
    with (shared / "truth" / "transnas101_macro.csv").open(newline="") as file:
        texts = [row["arch"] for row in csv.DictReader(file)]
    for text in texts:
        genotype = space.parse(text)
        assert str(tuple(map(int, genotype.modules))) == text
        official = space.format(genotype)
        assert space.parse(official) == genotype
        network = on_meta(official, 75)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert space.macs(genotype) == torch_modules.counted_operations(network, 64)[0]
        assert space.paper_flops(genotype) == suite_zero_flops(network, 64)


@pytest.mark.parametrize("text", [EXAMPLE, "(4, 3, 1, 2, 4, 1)", "(4,3,1,2,4,1)"])
def test_both_notations_are_read(text: str) -> None:
    space = get("transnas-macro")
    assert space.parse(text) == MacroSkeleton(modules=tuple(map(BackboneModule, (4, 3, 1, 2, 4, 1))))
    assert space.format(space.parse(text)) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64-441-basic", "has 4 to 6 modules"),
        ("64-4111111-basic", "has 4 to 6 modules"),
        ("64-1113-basic", "1 to 3 double the channels"),
        ("(4, 4, 4, 4)", "1 to 3 double the channels"),
        ("64-1112-basic", "1 to 4 halve the resolution"),
        ("64-343332-basic", "1 to 4 halve the resolution"),
        ("64-41414-1_02_333", "is not a network of TransNAS-Bench-101 such as"),
        ("(4, 0, 1, 2)", "is not a network of TransNAS-Bench-101 such as"),
        ("64-4312-bottleneck", "is not a network of TransNAS-Bench-101 such as"),
    ],
)
def test_bad_notation_shows_examples(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        TransNasMacro().parse(text)
    assert message in str(caught.value)
    assert str(caught.value).endswith("64-431241-basic or (4, 3, 1, 2, 4, 1)")


def test_what_is_no_network_of_the_space_is_refused() -> None:
    with pytest.raises(GenotypeError, match="4 to 6 modules"):
        MacroSkeleton(modules=(BackboneModule.PLAIN,) * 5)
    with pytest.raises(GenotypeError, match="4 to 6 modules"):
        MacroSkeleton(modules=(4, 3, 1, 2))  # type: ignore[arg-type]


def test_samples_are_the_3256_networks_of_the_benchmark() -> None:
    space, rng = TransNasMacro(), np.random.default_rng(0)
    texts = {f"64-{''.join(digits)}-basic" for length in (4, 5, 6) for digits in product("1234", repeat=length)}
    members = {text for text in texts if is_member(space, text)}
    assert len(members) == 3_256
    sampled = [space.format(space.sample(rng)) for _ in range(3_000)]
    assert set(sampled) <= members
    assert len(set(sampled)) > 1_800  # 1,960 are expected of equally probable networks
    shares = [sum(len(text) - len("64--basic") == length for text in sampled) / 3_000 for length in (4, 5, 6)]
    assert shares == pytest.approx((0.064, 0.230, 0.705), abs=0.03)


def is_member(space: TransNasMacro, text: str) -> bool:
    try:
        space.parse(text)
    except GenotypeError:
        return False
    return True


def test_a_mutation_replaces_inserts_or_removes_one_module() -> None:
    space, rng = TransNasMacro(), np.random.default_rng(0)
    genotype = space.parse("64-43124-basic")
    before = tuple(map(int, genotype.modules))
    lengths = set()
    for _ in range(200):
        after = tuple(map(int, space.mutate(genotype, rng).modules))
        lengths.add(len(after))
        shorter, longer = sorted((before, after), key=len)
        if len(before) == len(after):
            assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        else:
            assert shorter in {longer[:place] + longer[place + 1 :] for place in range(len(longer))}
    assert lengths == {4, 5, 6}


@pytest.mark.parametrize("text", ["64-1234-basic", EXAMPLE, "64-113412-basic"])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = TransNasMacro(resolution=32)
    network = TransNas(text, space.num_classes).eval()

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        network.load_state_dict(weights)
        return network(image)

    assert largest_difference(space.build(space.parse(text)), forward) < 1e-4


def test_blocks_are_the_stem_and_all_residual_blocks() -> None:
    space = TransNasMacro()
    genotype = space.parse("64-1234-basic")
    blocks = declared_blocks({entry.key: entry.value for entry in space.build(genotype).metadata_props})
    assert len(blocks) == len(set(blocks)) == space.layers(genotype) == 9
    assert blocks[0] == "stem.1.bn"
