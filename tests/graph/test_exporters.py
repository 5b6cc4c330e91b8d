"""One network by several exporters is one network: the same operators, blocks and costs, and scores that are alike."""

from __future__ import annotations

from collections import Counter

import pytest

import aznas_onnx as az
from aznas_onnx.graph import prepare, specialise
from tests.graph.exporters import EXPORTERS, NETWORKS, export

# Exporters that fold a bias and the normalisation after it into one: that there were two cannot be seen.
FOLDING = ("torchscript", "tf2onnx")


@pytest.mark.parametrize("network", NETWORKS)
def test_operators_blocks_and_costs(network: str) -> None:
    operators, blocks, macs, params = {}, {}, {}, {}
    for exporter in EXPORTERS:
        model = export(NETWORKS[network], exporter)
        graph = specialise(prepare(model), 2).graph
        # Where images are channels last, one Transpose remains at the input.
        operators[exporter] = Counter(node.operator for node in graph.nodes if node.op_type != "Transpose")
        assert sum(node.op_type == "Transpose" for node in graph.nodes) <= 1
        found = az.inspect(model)
        blocks[exporter] = [(block.block.kind, block.costs.macs) for block in found.blocks]
        macs[exporter], params[exporter] = found.costs.macs, found.costs.params
    expected = operators["torchscript"]
    assert operators == dict.fromkeys(EXPORTERS, expected)
    assert blocks == dict.fromkeys(EXPORTERS, blocks["torchscript"])
    assert len(set(macs.values())) == 1
    assert len({params[exporter] for exporter in EXPORTERS if exporter not in FOLDING}) == 1
    assert all(0 <= params["dynamo"] - params[exporter] <= 32 for exporter in FOLDING)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["without_normalisation", "pre_activation", "in_groups"])
def test_scores_are_alike(network: str) -> None:
    """Nodes in another order, and images in another layout, get other random numbers: means agree, not draws."""
    scores = {
        exporter: az.score(export(NETWORKS[network], exporter), seeds=4, batch_size=16).proxies
        for exporter in ("dynamo", "keras_on_torch", "flax", "tf2onnx")
    }
    for name in ("expressivity", "trainability"):
        first = scores["dynamo"][name]
        for values in scores.values():
            error = (first.stderr**2 + values[name].stderr ** 2) ** 0.5
            assert abs(values[name].mean - first.mean) < max(5 * error, 0.02 * abs(first.mean))
