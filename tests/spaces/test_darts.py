from __future__ import annotations

import csv
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from aznas_onnx.costs import count
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building.builder import weight_shapes
from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.darts import Darts
from aznas_onnx.spaces.darts_genotype import CellPair, DartsCell, DartsOperation
from tests.spaces.darts_module import DartsNetwork
from tests.spaces.torch_modules import counted_operations, parameters
from tests.spaces.torch_reference import Weights, largest_difference

SECOND_ORDER = (  # DARTS_V2 of the authors' code
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
EVERY_OPERATION = (  # at stride 1 and at stride 2
    "Genotype(normal=[('sep_conv_3x3', 0), ('none', 1), ('sep_conv_5x5', 2), ('dil_conv_3x3', 1), "
    "('dil_conv_5x5', 3), ('max_pool_3x3', 0), ('avg_pool_3x3', 4), ('skip_connect', 0)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), "
    "('dil_conv_5x5', 1), ('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('skip_connect', 1), ('none', 0)], "
    "reduce_concat=[2, 3, 4, 5])"
)
OLDER_INPUT_ALONE = DartsCell(edges=((DartsOperation.SEPARABLE_3X3, 0),) * 8)

# Parameters and FLOPs of two rows of NAS-Bench-301's surrogate.
SURROGATE = [
    (
        "[[(0, 1), (1, 3), (2, 6), (0, 0), (1, 1), (0, 2), (3, 5), (0, 2)], "
        "[(0, 5), (1, 2), (2, 3), (1, 5), (0, 0), (2, 6), (2, 4), (1, 1)]]",
        *(772_906, 137_704_960),
    ),
    (
        "[[(1, 3), (0, 2), (0, 5), (1, 6), (3, 3), (0, 1), (2, 0), (1, 5)], "
        "[(1, 0), (0, 3), (0, 4), (2, 3), (3, 4), (2, 2), (2, 5), (0, 3)]]",
        *(985_450, 166_688_256),
    ),
]


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "truth" / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("text", "params", "flops"), SURROGATE)
def test_counts_of_nas_bench_301(text: str, params: int, flops: int) -> None:
    space = Darts()
    genotype = space.parse(text)
    assert (space.paper_params(genotype), space.paper_flops(genotype)) == (params, flops)


def test_every_count_of_nas_bench_301(shared: Path) -> None:
    space = Darts()
    found = rows(shared, "nasbench301_surrogate_500.csv")
    assert len(found) > 300
    for row in found:
        genotype = space.parse(row["arch"])
        assert space.paper_params(genotype) == round(float(row["params_m"]) * 1e6)
        assert space.paper_flops(genotype) == round(float(row["flops_m"]) * 1e6)


def test_every_genotype_of_swap_is_read_and_written(shared: Path) -> None:
    space = Darts()
    texts = [row["arch"] for row in rows(shared, "darts_swap_cifar10_1000.csv")]
    assert len(texts) > 500
    assert [space.format(space.parse(text)) for text in texts] == texts
    # Where a cell reads its older input alone, every second cell is on no path to the output.
    assert {space.layers(space.parse(text)) for text in texts} == {9, 5}


def test_parameters_of_the_authors_code() -> None:
    cifar, imagenet = Darts(cells=20, channels=36), Darts(resolution=224)
    genotype = cifar.parse(SECOND_ORDER)
    assert cifar.params(genotype) == 3_349_342
    assert imagenet.params(genotype) == 4_718_752
    assert (imagenet.cells, imagenet.channels, imagenet.num_classes) == (14, 48, 1000)


@pytest.mark.parametrize("options", [{}, {"cells": 20, "channels": 36}, {"cells": 2}, {"resolution": 224}])
def test_counts_are_what_torch_counts(options: dict[str, Any]) -> None:
    space, rng = Darts(**options), np.random.default_rng(3)
    for genotype in [space.parse(EVERY_OPERATION), *(space.sample(rng) for _ in range(3))]:
        with torch.device("meta"):
            network = module(space, genotype).eval()
        assert space.params(genotype) == parameters(network)
        assert space.macs(genotype) == counted_operations(network, space.resolution)[0]


@pytest.mark.parametrize("shape", ["cifar", "imagenet"])
@pytest.mark.parametrize("text", [SECOND_ORDER, EVERY_OPERATION])
def test_the_network_computes_what_the_paper_defines(text: str, shape: str) -> None:
    space = Darts(shape=shape, resolution=32 if shape == "imagenet" else 16, cells=5, channels=8, num_classes=5)
    genotype = space.parse(text)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        network = module(space, genotype).eval()
        missing = network.load_state_dict(weights, strict=False).missing_keys
        assert all(name.endswith("num_batches_tracked") for name in missing)
        return network(image)

    assert largest_difference(space.build(genotype), forward) < 1e-4


@pytest.mark.parametrize("shape", ["cifar", "imagenet"])
@pytest.mark.parametrize("cells", [1, 2, 3, 8])
def test_what_the_output_does_not_depend_on_is_not_built(shape: str, cells: int) -> None:
    space = Darts(shape=shape, resolution=32, cells=cells, channels=4, num_classes=3)
    genotype = CellPair(normal=OLDER_INPUT_ALONE, reduce=OLDER_INPUT_ALONE)
    network = module(space, genotype)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    model = space.build(genotype)
    weights = weight_shapes(model)
    assert {name for name in weights if "running" not in name} == trained
    costs = count(prepare(model))
    assert (space.macs(genotype), space.params(genotype)) == (costs.macs, costs.params)
    assert space.layers(genotype) == 1 + math.ceil(cells / 2)


def test_a_cell_of_fewer_nodes_has_a_narrower_output() -> None:
    space = Darts(channels=4, cells=5)
    genotype = space.parse(SECOND_ORDER.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 5]"))
    model = space.build(genotype)
    costs = count(prepare(model))
    assert (space.macs(genotype), space.params(genotype)) == (costs.macs, costs.params)
    shapes = weight_shapes(model)
    assert shapes["classifier.weight"] == (10, 2 * 16)  # the last cell is a normal one
    assert shapes["cells.1.preprocess1.conv.weight"] == (8, 2 * 4, 1, 1)
    assert shapes["cells.2.preprocess1.conv.weight"] == (8, 4 * 8, 1, 1)  # of a reduction, which joins four nodes
    assert "cells.2.edges.3.0.0.conv.weight" not in shapes  # nothing reads node 3


@pytest.mark.parametrize(
    "text",
    [
        SECOND_ORDER.replace("[2, 3, 4, 5]", "range(2, 6)"),
        SECOND_ORDER.replace("[2, 3, 4, 5]", "(2, 3, 4, 5)"),
        SECOND_ORDER.replace("[(", "((").replace(")]", "))"),
        SECOND_ORDER.replace("('", "['").replace("), [", "], [").replace(")]", "]]"),
        SECOND_ORDER.replace("'", '"').replace(")]", "),]"),
        f"DARTS_V2 = {SECOND_ORDER}",
        SECOND_ORDER.replace("), ", "),\n    ").replace("Genotype", "genotypes.Genotype"),
        "[[(0, 3), (1, 3), (0, 3), (1, 3), (1, 3), (0, 2), (0, 2), (2, 5)], "
        "[(0, 0), (1, 0), (2, 2), (1, 0), (0, 0), (2, 2), (2, 2), (1, 0)]]",
        "(((0,3),(1,3),(0,3),(1,3),(1,3),(0,2),(0,2),(2,5)),((0,0),(1,0),(2,2),(1,0),(0,0),(2,2),(2,2),(1,0)))",
    ],
)
def test_the_notations_of_one_genotype(text: str) -> None:
    space = Darts()
    assert space.parse(text) == space.parse(SECOND_ORDER)
    assert space.format(space.parse(text)) == SECOND_ORDER


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SECOND_ORDER.replace("dil_conv_3x3", "sep_conv_7x7"), "'sep_conv_7x7' is not an operation of DARTS; accepted"),
        (SECOND_ORDER.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"), "node 5 reads 5; accepted are 0 to 4"),
        (SECOND_ORDER.replace(", ('dil_conv_3x3', 2)", ""), "has 8 edges, two for each node, not 7"),
        (SECOND_ORDER.replace("[2, 3, 4, 5]", "range(2, 7)"), "concatenates [2, 3, 4, 5, 6]; accepted are one or more"),
        (SECOND_ORDER.replace("[2, 3, 4, 5]", "[]"), "concatenates []"),
        (SECOND_ORDER.replace("[2, 3, 4, 5]", "[2.0]"), "is not a genotype of DARTS such as Genotype(normal=[("),
        (SECOND_ORDER.replace("reduce_concat", "concat"), "is not a genotype of DARTS"),
        (SECOND_ORDER.replace("[2, 3, 4, 5]", "__import__('os').getpid()"), "is not a genotype of DARTS"),
        (SECOND_ORDER.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"), "is not a genotype of DARTS"),
        (SECOND_ORDER.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', true)"), "an edge of node 5 reads True"),
        (SURROGATE[0][0].replace("(0, 1)", "(0, 7)"), "is not a genotype of DARTS"),
        ("[" * 3000, "is not a genotype of DARTS"),
        (SECOND_ORDER + " " * 10 + SECOND_ORDER * 20, "is not a genotype of DARTS"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Darts().parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_isomorphic_cells_have_one_canonical_text() -> None:
    space, rng = Darts(), np.random.default_rng(5)
    genotypes = [space.sample(rng) for _ in range(40)] + [space.parse(EVERY_OPERATION)]
    texts = set()
    for genotype in genotypes:
        text = space.canonical(genotype)
        texts.add(text)
        assert space.canonical(space.parse(text)) == text
        pairs = [CellPair(normal=cell, reduce=genotype.reduce) for cell in renamed(genotype.normal)]
        assert {space.canonical(pair) for pair in pairs} == {text}
        assert {space.params(pair) for pair in pairs} == {space.params(genotype)}
    assert len(texts) == len(genotypes)


@pytest.mark.parametrize(
    ("edges", "concat", "same"),
    [
        # operation and source of the edges of nodes 2, 3, 4, 5
        ("C0 n1 C0 C1 C0 C1 C0 C1", "2345", "n0 C0 C0 C1 C0 C1 C0 C1"),  # what a `none` reads is nothing
        ("n0 n1 C2 C1 C0 C1 C0 C1", "2345", "n0 n0 n0 C1 C0 C1 C0 C1"),  # node 2 is zero
        ("C0 C1 C2 C1 C0 C1 C0 C1", "45", "n0 n0 n0 n0 C0 C1 C0 C1"),  # nodes 2 and 3 have no reader
    ],
)
def test_edges_without_an_effect_are_void(edges: str, concat: str, same: str) -> None:
    space = Darts()
    first, second = (
        space.canonical(CellPair(normal=cell(text, concat), reduce=OLDER_INPUT_ALONE)) for text in (edges, same)
    )
    assert first == second


@pytest.mark.parametrize(
    ("edges", "others"),
    [
        ("C0 C1 s2 C1 C0 C1 C0 C1", "C0 C1 s0 C1 C0 C1 C0 C1"),
        ("C0 C0 s2 C1 C0 C1 C0 C1", "C0 n0 s2 C1 C0 C1 C0 C1"),  # two of one kind add up
        ("C0 C1 C0 C1 C0 C1 n0 n1", "C0 C1 C0 C1 C0 C1 C0 C1"),
        ("C0 C1 C2 C1 C3 C1 C0 C1", "C0 C1 C2 C1 C2 C1 C0 C1"),  # a chain, and a fork
    ],
)
def test_other_networks_keep_other_texts(edges: str, others: str) -> None:
    space = Darts()
    first, second = (
        space.canonical(CellPair(normal=cell(text, "2345"), reduce=OLDER_INPUT_ALONE)) for text in (edges, others)
    )
    assert first != second


def test_a_change_gives_one_edge_another_operation_or_another_input() -> None:
    space, rng = Darts(), np.random.default_rng(0)
    genotype = space.parse(SECOND_ORDER)
    kinds = set()
    for _ in range(200):
        child = space.mutate(genotype, rng)
        pairs = [*zip(genotype.normal.edges, child.normal.edges, strict=True)]
        pairs += zip(genotype.reduce.edges, child.reduce.edges, strict=True)
        ((before, after),) = [(one, other) for one, other in pairs if one != other]
        kinds.add((before[0] is after[0], before[1] == after[1]))
        assert all(one[1] != other[1] for one, other in twos(child))
    assert kinds == {(True, False), (False, True)}


def test_a_sampled_node_has_two_inputs_and_no_none() -> None:
    space, rng = Darts(), np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        genotype = space.sample(rng)
        assert all(one[1] != other[1] for one, other in twos(genotype))
        seen |= {operation for operation, _ in (*genotype.normal.edges, *genotype.reduce.edges)}
    assert seen == set(DartsOperation) - {DartsOperation.NONE}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "mnist"}, "shape is 'mnist'; accepted are cifar, imagenet"),
        ({"resolution": 30}, "resolution is 30; a multiple of 4 is needed"),
        ({"resolution": 200}, "resolution is 200; a multiple of 32 is needed"),
        ({"cells": 0}, "cells is 0; a positive integer is needed"),
        ({"channels": 7}, "channels is 7; an even number is needed"),
        ({"shape": ["cifar"]}, "shape is ['cifar']"),
        ({"resolution": "32"}, "resolution is '32'; a positive integer is needed"),
    ],
)
def test_options_that_are_not_accepted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        get("darts", **options)
    assert message in str(caught.value)


def test_a_shape_keeps_its_stem_at_another_resolution() -> None:
    space = Darts(shape="imagenet", resolution=64)
    model = space.build(space.parse(SECOND_ORDER))
    assert (space.cells, space.channels, space.num_classes) == (14, 48, 1000)
    onnx.checker.check_model(model, full_check=True)
    assert weight_shapes(model)["stem.0.conv.weight"] == (24, 3, 3, 3)


def module(space: Darts, genotype: CellPair) -> DartsNetwork:
    text = space.format(genotype)
    return DartsNetwork(text, space.cells, space.channels, space.num_classes, imagenet=space.shape == "imagenet")


def cell(text: str, concat: str) -> DartsCell:
    names = {"n": DartsOperation.NONE, "C": DartsOperation.SEPARABLE_3X3, "s": DartsOperation.SKIP}
    return DartsCell(
        edges=tuple((names[edge[0]], int(edge[1])) for edge in text.split()), concat=tuple(map(int, concat))
    )


def twos(genotype: CellPair) -> list[tuple[Any, Any]]:
    edges = (*genotype.normal.edges, *genotype.reduce.edges)
    return list(zip(edges[::2], edges[1::2], strict=True))


def renamed(cell: DartsCell) -> list[DartsCell]:
    """Return the cell with its nodes in every possible order, and the edges of each node exchanged."""
    found = []
    for order in permutations((2, 3, 4, 5)):
        place = {0: 0, 1: 1, **{node: 2 + order.index(node) for node in order}}
        edges = [
            (operation, place[source])
            for node in order
            for operation, source in reversed(cell.edges[2 * node - 4 : 2 * node - 2])
        ]
        if all(source < 2 + index // 2 for index, (_, source) in enumerate(edges)):
            found.append(DartsCell(edges=tuple(edges), concat=cell.concat))
    return found
