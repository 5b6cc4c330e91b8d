from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.nb201 import Cell, NasBench201, Operation
from tests.spaces.torch_reference import Weights, batch_norm, largest_difference

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
ALL_FIVE = "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"


def cell(*names: str) -> Cell:
    return Cell(operations=tuple(Operation(name) for name in names))


def test_counts_of_the_best_cell_are_those_of_nats_bench() -> None:
    space = NasBench201()
    genotype = space.parse(BEST)
    assert space.paper_flops(genotype) == 153_272_970
    assert space.macs(genotype) == 153_272_960
    assert space.params(genotype) == 1_073_466


def test_counts_of_a_cell_without_weights_by_hand() -> None:
    space = NasBench201()
    genotype = cell(*["skip_connect"] * 6)
    stem, head = 16 * 27 * 32**2, 64 * 10
    reductions = (16 * 9 + 32 * 9 + 16) * 32 * 16**2 + (32 * 9 + 64 * 9 + 32) * 64 * 8**2
    assert space.macs(genotype) == stem + reductions + head
    norms = 2 * (16 + 2 * 32 + 2 * 64 + 64)
    weights = 16 * 27 + (16 * 9 + 32 * 9 + 16) * 32 + (32 * 9 + 64 * 9 + 32) * 64
    assert space.params(genotype) == weights + norms + head + 10


def test_every_cell_has_its_own_text() -> None:
    space = NasBench201()
    cells = [Cell(operations=operations) for operations in product(Operation, repeat=6)]
    assert len({space.format(genotype) for genotype in cells}) == 15_625


def test_nine_thousand_cells_are_left_without_edges_that_lead_nowhere() -> None:
    space = NasBench201()
    cells = [Cell(operations=operations) for operations in product(Operation, repeat=6)]
    texts = {space.canonical(genotype) for genotype in cells}
    assert len(texts) == 9_445
    assert {space.canonical(space.parse(text)) for text in texts} == texts


@pytest.mark.parametrize(
    ("operations", "canonical"),
    [
        # 0-1, 0-2, 1-2, 0-3, 1-3, 2-3
        ("C n n C n n", "n n n C n n"),  # node 1 leads nowhere
        ("n C C n C C", "n C n n n C"),  # node 1 gets nothing
        ("n n C n n C", "n n n n n n"),  # node 2 gets zeros only, from node 1
        ("C n C n n n", "n n n n n n"),  # nothing reaches the output
        ("C C C C C C", "C C C C C C"),
        ("s n s n n s", "s n s n n s"),  # a skip is an operation, not an absence
    ],
)
def test_edges_on_no_path_from_input_to_output_are_void(operations: str, canonical: str) -> None:
    names = {"n": "none", "C": "nor_conv_3x3", "s": "skip_connect"}
    space = NasBench201()
    genotype, expected = (cell(*(names[letter] for letter in text.split())) for text in (operations, canonical))
    assert space.canonical(genotype) == space.format(expected)


def test_the_notation_names_the_edges_in_order() -> None:
    genotype = get("nb201").parse(ALL_FIVE)
    assert genotype == cell("avg_pool_3x3", "none", "nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|nor_conv_3x3~0|", "does not have the edges"),
        (BEST.replace("~2", "~1"), "does not have the edges"),
        (
            BEST.replace("nor_conv_1x1", "dil_conv_3x3"),
            "'dil_conv_3x3' is not an operation of NAS-Bench-201; accepted are none,",
        ),
        (BEST[:-1], "is not a NAS-Bench-201 cell such as"),
        (BEST + "+|none~0|", "does not have the edges"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        NasBench201().parse(text)
    assert message in str(caught.value)


def test_a_mutation_changes_the_given_number_of_edges() -> None:
    space, rng = NasBench201(), np.random.default_rng(0)
    genotype = space.parse(BEST)
    for changes in (1, 2, 6, 9):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            differ = sum(a is not b for a, b in zip(genotype.operations, child.operations, strict=True))
            assert differ == min(changes, 6)


@pytest.mark.parametrize("text", [BEST, ALL_FIVE, "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = NasBench201(resolution=16)
    genotype = space.parse(text)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return reference(image, weights, genotype)

    assert largest_difference(space.build(genotype), forward) < 1e-4


def test_blocks_are_the_stem_and_all_seventeen_cells() -> None:
    from aznas_onnx.graph.ir.declared_blocks import declared_blocks

    model = NasBench201().build(cell(*["skip_connect"] * 6))
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    assert len(blocks) == len(set(blocks)) == 18
    assert blocks[0] == "stem.bn"


def test_every_cell_of_the_benchmark_is_read(shared: Path) -> None:
    space = NasBench201()
    with (shared / "reference" / "nb201_accuracy_dev.csv").open(newline="") as file:
        texts = [row["arch"] for row in csv.DictReader(file)]
    assert [space.format(space.parse(text)) for text in texts] == texts


def reference(x: torch.Tensor, weights: Weights, genotype: Cell) -> torch.Tensor:
    """The benchmark's network, written from its paper with torch."""

    def relu_conv_bn(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        x = F.conv2d(F.relu(x), weight, stride=stride, padding=weight.shape[-1] // 2)
        return batch_norm(x, weights, f"{name}.bn")

    def edge(x: torch.Tensor, name: str, operation: Operation) -> torch.Tensor:
        if operation is Operation.NONE:
            return torch.zeros_like(x)
        if operation is Operation.SKIP:
            return x
        if operation is Operation.AVERAGE_POOL:
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return relu_conv_bn(x, name)

    x = batch_norm(F.conv2d(x, weights["stem.conv.weight"], padding=1), weights, "stem.bn")
    for index in range(17):
        name = f"cells.{index}"
        if index in (5, 11):
            main = relu_conv_bn(relu_conv_bn(x, f"{name}.conv_a", stride=2), f"{name}.conv_b")
            x = F.conv2d(F.avg_pool2d(x, 2), weights[f"{name}.downsample.conv.weight"]) + main
            continue
        on = dict(zip(((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)), genotype.operations, strict=True))
        nodes = [x]
        for to in (1, 2, 3):
            nodes.append(
                sum(edge(nodes[i], f"{name}.edges.{to}_{i}", on[to, i]) for i in range(to))  # type: ignore[arg-type]
            )
        x = nodes[3]
    x = F.relu(batch_norm(x, weights, "lastact.bn")).mean((2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]
