from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.transnas_micro import CellOperation, MicroCell, TransNasMicro
from tests.spaces import torch_modules
from tests.spaces.torch_reference import Weights, largest_difference
from tests.spaces.transnas_torch import TransNas, on_meta, suite_zero_flops

EXAMPLE = "64-41414-1_02_333"


def cell(digits: str) -> MicroCell:
    return MicroCell(operations=tuple(CellOperation(int(digit)) for digit in digits))


# Parameters and FLOPs of NAS-Bench-Suite-Zero, at 256x256: class_scene (63 classes) and class_object (100).
@pytest.mark.parametrize(
    ("digits", "num_classes", "params", "flops"),
    [
        ("100210", 63, 910_687, 263_299_072),
        ("100210", 100, 929_668, 263_318_016),
        ("100223", 63, 9_440_607, 1_946_132_480),
        ("011233", 63, 16_256_351, 3_288_309_760),
        ("110312", 63, 7_381_087, 1_600_561_152),
        ("013111", 63, 8_072_287, 1_656_496_128),
        ("012010", 63, 1_082_719, 288_235_520),
        ("133223", 63, 23_237_983, 4_744_880_128),
    ],
)
def test_counts_are_the_published_ones(digits: str, num_classes: int, params: int, flops: int) -> None:
    space = TransNasMicro(resolution=256, num_classes=num_classes)
    genotype = cell(digits)
    network = on_meta(space.format(genotype), num_classes)
    assert space.params(genotype) == params
    assert space.macs(genotype) == torch_modules.counted_operations(network, 256)[0]
    assert suite_zero_flops(network, 256) == space.paper_flops(genotype) == flops


@pytest.mark.slow
def test_every_cell_of_the_data_is_read_and_counts_what_torch_counts(shared: Path) -> None:
    space = TransNasMicro()
    with (shared / "truth" / "transnas101_micro.csv").open(newline="") as file:
        texts = [row["arch"] for row in csv.DictReader(file)]
    for text in texts:
        genotype = space.parse(text)
        assert str(tuple(map(int, genotype.operations))) == text
        official = space.format(genotype)
        assert space.parse(official) == genotype
        network = on_meta(official, 75)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert space.macs(genotype) == torch_modules.counted_operations(network, 64)[0]
        assert space.paper_flops(genotype) == suite_zero_flops(network, 64)


def test_every_cell_has_its_own_text_and_2128_differ_in_edges_that_lead_somewhere() -> None:
    space = TransNasMicro()
    cells = [MicroCell(operations=operations) for operations in product(CellOperation, repeat=6)]
    assert len({space.format(genotype) for genotype in cells}) == 4_096
    texts = {space.canonical(genotype) for genotype in cells}
    assert len(texts) == 2_128
    assert {space.canonical(space.parse(text)) for text in texts} == texts


@pytest.mark.parametrize(
    ("digits", "canonical"),
    [
        ("300300", "000300"),  # node 1 leads nowhere
        ("033033", "030003"),  # node 1 gets nothing
        ("003003", "000000"),  # node 2 gets zeros only, from node 1
        ("333333", "333333"),
        ("101001", "101001"),  # a skip is an operation, not an absence
    ],
)
def test_edges_on_no_path_from_input_to_output_are_void(digits: str, canonical: str) -> None:
    space = TransNasMicro()
    assert space.canonical(cell(digits)) == space.format(cell(canonical))


@pytest.mark.parametrize("text", [EXAMPLE, "(1, 0, 2, 3, 3, 3)", "(1,0,2,3,3,3)"])
def test_both_notations_are_read(text: str) -> None:
    space = get("transnas-micro")
    assert space.parse(text) == cell("102333")
    assert space.format(space.parse(text)) == EXAMPLE


@pytest.mark.parametrize(
    "text", ["(1, 0, 2, 3, 3)", "(1, 0, 2, 3, 3, 4)", "64-41414-1_02_33", "64-4141-1_02_333", "64-431241-basic"]
)
def test_bad_notation_shows_examples(text: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        TransNasMicro().parse(text)
    assert str(caught.value).endswith(
        "is not a cell of TransNAS-Bench-101 such as 64-41414-1_02_333 or (1, 0, 2, 3, 3, 3)"
    )


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(GenotypeError, match="has 6 operations"):
        MicroCell(operations=(CellOperation.SKIP,) * 5)
    with pytest.raises(GenotypeError, match="has 6 operations"):
        MicroCell(operations=(1,) * 6)  # type: ignore[arg-type]


def test_a_resolution_that_does_not_halve_five_times_is_refused() -> None:
    with pytest.raises(SettingsError, match="resolution is 48; a multiple of 32 is needed"):
        TransNasMicro(resolution=48)


def test_a_mutation_changes_the_given_number_of_edges() -> None:
    space, rng = TransNasMicro(), np.random.default_rng(0)
    genotype = space.parse(EXAMPLE)
    for changes in (1, 2, 6, 9):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            differ = sum(a is not b for a, b in zip(genotype.operations, child.operations, strict=True))
            assert differ == min(changes, 6)


@pytest.mark.parametrize("digits", ["102333", "111111", "010230", "000000", "001300"])
def test_the_network_computes_what_the_benchmark_defines(digits: str) -> None:
    space = TransNasMicro(resolution=32)
    genotype = cell(digits)
    network = TransNas(space.format(genotype), space.num_classes).eval()

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        network.load_state_dict(weights)
        return network(image)

    assert largest_difference(space.build(genotype), forward) < 1e-4


def test_blocks_are_the_stem_and_all_ten_cells() -> None:
    space = TransNasMicro()
    genotype = cell("111111")
    blocks = declared_blocks({entry.key: entry.value for entry in space.build(genotype).metadata_props})
    assert len(blocks) == len(set(blocks)) == space.layers(genotype) == 11
    assert blocks[0] == "stem.1.bn"
