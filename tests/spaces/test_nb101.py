from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.nb101 import NasBench101, VertexOperation, WiredCell
from tests.spaces import torch_modules
from tests.spaces.torch_reference import Weights, batch_norm, largest_difference

# The benchmark's example, its 3x3 convolutions written as 4.
INCEPTION = (
    "(0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, "
    "0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 4, 4, 2, 1)"
)
RESIDUAL = "(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 4, 1)"
PROJECTION = "(0, 1, 0, 0, 0, 1)"
# Channels that do not divide (43, 43, 42), and inner vertices with more channels than those that they feed.
UNEVEN = "(0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, "
UNEVEN += "0, 2, 3, 4, 4, 1)"
# A vertex that leads nowhere and one that gets nothing.
DEAD_ENDS = "(0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1)"


def count(text: str) -> tuple[int, int, int]:
    space = NasBench101()
    genotype = space.parse(text)
    return space.params(genotype), space.macs(genotype), space.paper_flops(genotype)


def test_counts_of_a_projection_alone_by_hand() -> None:
    pairs = ((128, 128), (128, 256), (256, 512))  # of the first cells of the stacks
    sizes = (32, 16, 8)
    weights = [before * after + 2 * after * after for before, after in pairs]
    macs = 27 * 128 * 32**2 + 512 * 10 + sum(w * size**2 for w, size in zip(weights, sizes, strict=True))
    norms = 128 + 3 * (128 + 256 + 512)
    params = 27 * 128 + sum(weights) + 2 * norms + 512 * 10 + 10
    elements = 128 * 32**2 + 3 * sum(after * size**2 for (_, after), size in zip(pairs, sizes, strict=True))
    pooled = 4 * (128 * 16**2 + 256 * 8**2)
    assert count(PROJECTION) == (params, macs, macs + 3 * elements + pooled)


def test_parameters_are_those_of_the_benchmark() -> None:
    assert count(INCEPTION)[0] == 2_694_282


@pytest.mark.parametrize(
    ("matrix", "operations", "params", "flops"),
    [
        ("0010000 0000011 0001001 0000101 0000010 0000000 0000000", "0322331", 445_706, 78_468_096),
        ("0000011 0010011 0001000 0000111 0000000 0000001 0000000", "0432431", 2_793_866, 429_757_440),
        ("0011000 0000101 0001010 0000110 0000010 0000001 0000000", "0334441", 30_679_178, 4_512_814_080),
    ],
)
def test_counts_of_published_tables(matrix: str, operations: str, params: int, flops: int) -> None:
    text = f"({','.join(matrix.replace(' ', '') + operations)})"
    assert (count(text)[0], count(text)[2]) == (params, flops)


def test_counts_are_what_torch_counts() -> None:
    space, rng = get("nb101", num_classes=120, resolution=16), np.random.default_rng(11)
    texts = [PROJECTION, RESIDUAL, UNEVEN, DEAD_ENDS, *(space.format(space.sample(rng)) for _ in range(15))]
    for text in texts:
        genotype = space.parse(text)
        with torch.device("meta"):
            network = torch_modules.NasBench101(text, 120)
        assert space.params(genotype) == torch_modules.parameters(network)
        assert space.macs(genotype) == torch_modules.counted_operations(network, 16)[0]


def test_counts_are_those_of_all_published_rows(shared: Path) -> None:
    space = NasBench101()
    with (shared / "truth" / "nasbench101_500.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 315
    for row in rows:
        genotype = space.parse(row["arch"])
        assert space.format(genotype) == row["arch"]
        assert space.params(genotype) / 1e6 == float(row["params_m"])
        assert space.paper_flops(genotype) / 1e6 == float(row["flops_m"])


@pytest.mark.parametrize(("vertices", "cells"), [(2, 1), (3, 6), (4, 84), (5, 2_441)])
def test_as_many_different_cells_as_the_benchmark_has(vertices: int, cells: int) -> None:
    space = NasBench101()
    places = list(itertools.combinations(range(vertices), 2))
    texts = set()
    for ones in itertools.product((0, 1), repeat=len(places)):
        edge = dict(zip(places, ones, strict=True))
        matrix = tuple(tuple(edge.get((a, b), 0) for b in range(vertices)) for a in range(vertices))
        for operations in itertools.product(VertexOperation, repeat=vertices - 2):
            try:
                cell = WiredCell(matrix=matrix, operations=operations)
            except GenotypeError:
                continue
            if len(cell.pruned().matrix) == vertices:
                texts.add(space.canonical(cell))
    assert len(texts) == cells
    assert {space.canonical(space.parse(text)) for text in texts} == texts


def test_what_no_path_meets_is_not_in_the_network() -> None:
    space = NasBench101()
    assert count(DEAD_ENDS) == count("(0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 1)")
    assert space.canonical(space.parse(DEAD_ENDS)) == "(0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 1)"


def test_the_order_of_the_vertices_does_not_matter() -> None:
    space = NasBench101()
    text = "(0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, {}, {}, 1)"
    one, other = (space.parse(text.format(*operations)) for operations in ((4, 2), (2, 4)))
    assert one != other
    assert space.canonical(one) == space.canonical(other)


@pytest.mark.parametrize(
    ("matrix", "outputs", "channels"),
    [  # the cases of the benchmark's own tests
        ("0100 0010 0001 0000", 16, (0, 16, 16, 16)),
        ("01 00", 5, (0, 5)),
        ("01100 00010 00010 00001 00000", 8, (0, 8, 8, 8, 8)),
        ("0110 0001 0001 0000", 15, (0, 8, 7, 15)),
        ("01110 00001 00001 00001 00000", 8, (0, 3, 3, 2, 8)),
        ("01000 00110 00001 00001 00000", 9, (0, 5, 5, 4, 9)),
        ("01010 00101 00010 00001 00000", 15, (0, 8, 7, 7, 15)),
    ],
)
def test_channels_of_vertices(matrix: str, outputs: int, channels: tuple[int, ...]) -> None:
    rows = tuple(tuple(map(int, row)) for row in matrix.split())
    cell = WiredCell(matrix=rows, operations=(VertexOperation.CONV_1X1,) * (len(rows) - 2))
    assert cell.channels(outputs) == channels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(0, 1, 0)", "is not a NAS-Bench-101 cell: 49 numbers .* such as"),
        (INCEPTION[1:-1], "is not a NAS-Bench-101 cell"),
        (RESIDUAL.replace("4, 1)", "5, 1)"), r"the operations .* not \[0, 5, 1\]"),
        (RESIDUAL.replace("4, 1)", "4, 4)"), "the operations"),
        ("(0, 2, 0, 0, 0, 1)", "ones and zeros above its diagonal"),
        ("(0, 1, 1, 0, 0, 1)", "zeros elsewhere"),
        ("(0, 0, 0, 0, 0, 1)", "this one has none"),
        ("(" + "0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 4, 4, 1)", "has 10"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        NasBench101().parse(text)


@pytest.mark.parametrize("text", [INCEPTION, RESIDUAL, PROJECTION, DEAD_ENDS])
def test_a_mutation_gives_another_network(text: str) -> None:
    space, rng = NasBench101(), np.random.default_rng(0)
    genotype = space.parse(text)
    for changes in (1, 2, 40):
        for _ in range(20):
            child = space.mutate(genotype, rng, changes)
            space.validate(child)
            assert len(child.matrix) == 7
            assert child.pruned() != genotype.pruned()


@pytest.mark.parametrize("text", [INCEPTION, RESIDUAL, PROJECTION, UNEVEN, DEAD_ENDS])
def test_the_network_computes_what_the_benchmark_defines(text: str) -> None:
    space = NasBench101(resolution=8)

    def run(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return forward(image, weights, text)

    assert largest_difference(space.build(space.parse(text)), run) < 1e-4


def test_blocks_are_the_stem_and_the_nine_cells() -> None:
    space = NasBench101()
    model = space.build(space.parse(INCEPTION))
    blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
    assert len(blocks) == 10
    assert blocks[:2] == ("stem.relu", "cells.0.concat")


def test_samples_have_any_number_of_edges_and_all_operations() -> None:
    space, rng = NasBench101(), np.random.default_rng(0)
    cells = [space.sample(rng).pruned() for _ in range(300)]
    assert {sum(map(sum, cell.matrix)) for cell in cells} == set(range(1, 10))
    operations = [operation for cell in cells for operation in cell.operations]
    assert all(0.28 < operations.count(operation) / len(operations) < 0.39 for operation in VertexOperation)


def forward(x: torch.Tensor, weights: Weights, text: str) -> torch.Tensor:
    """The benchmark's network, written from its paper with torch."""
    matrix, operations = torch_modules.pruned_cell(text)
    last = len(matrix) - 1

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = weights[f"{name}.conv.weight"]
        return F.relu(batch_norm(F.conv2d(x, weight, padding=weight.shape[-1] // 2), weights, f"{name}.bn"))

    x = conv(x, "stem")
    for index in range(9):
        if index in (3, 6):
            x = F.max_pool2d(x, 2)
        name = f"cells.{index}"
        widths = torch_modules.vertex_channels(matrix, (128, 256, 512)[index // 3])
        values = [x]
        for vertex in range(1, last):
            total: torch.Tensor | float = 0.0
            for source in range(1, vertex):
                if matrix[source, vertex]:
                    total = total + values[source][:, : widths[vertex]]
            if matrix[0, vertex]:
                total = total + conv(x, f"{name}.{vertex}.projection")
            assert isinstance(total, torch.Tensor)
            pools = operations[vertex] == 2
            values.append(F.max_pool2d(total, 3, 1, 1) if pools else conv(total, f"{name}.{vertex}"))
        ends = [values[vertex] for vertex in range(1, last) if matrix[vertex, last]]
        if matrix[0, last]:
            projected = conv(x, f"{name}.projection")
            x = torch.cat(ends, 1) + projected if ends else projected
        else:
            x = torch.cat(ends, 1)
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
