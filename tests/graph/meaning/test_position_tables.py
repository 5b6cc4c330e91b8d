"""Tables are drawn, and what is looked up in them follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aznas_onnx.convert import compile_program
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.meaning.position_tables import unfold_tables
from aznas_onnx.initialise import draw, plan_weights
from aznas_onnx.proxies.engine.compiled_network import RandomNetwork

INDEX = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])


def with_tables(*, moves: bool = False, size: int = 3) -> Model:
    """Add to (batch, 3, 3, 4) the sum of two tables, looked up for each pair."""
    net = GraphBuilder("tables")
    x = net.image_input(4, 3)
    x = net.transpose(x, "last", (0, 2, 3, 1))
    net.constant("index", INDEX)
    parts = [net.node("Gather", net.weight(f"table{at}", (size, 4)), "index", name=f"part{at}") for at in range(2)]
    table = net.add(parts[0], parts[1], "table")
    if moves:
        table = net.transpose(table, "moved", (1, 0, 2))
    x = net.add(x, table, "biased")
    return specialise(prepare(net.model(net.gemm(net.reshape(x, "flat", (0, 36)), "head", 36, 5))), 2)


@pytest.mark.parametrize("moves", [False, True])
def test_a_look_up_is_made_of_the_initialised_tables(moves: bool) -> None:
    model = with_tables(moves=moves)
    graph, infos = unfold_tables(model.graph, model.infos)
    assert [node.op_type for node in graph.nodes].count("Gather") == 2
    plan = plan_weights(graph, infos, is_transformer=True)
    assert {name: plan[name].shape for name in plan if name.startswith("table")} == {"table0": (3, 4), "table1": (3, 4)}
    weights = draw(plan, seed=0, device=torch.device("cpu"))
    program = compile_program(graph, infos, weights, device="cpu")
    images = torch.randn(2, 4, 3, 3)
    (biased,) = program.run({"input": images}, keep=("biased",)).values()
    index = torch.from_numpy(INDEX)
    wanted = weights["table0"][index] + weights["table1"][index]
    assert torch.equal(biased, images.permute(0, 2, 3, 1) + (wanted.transpose(0, 1) if moves else wanted))


def test_a_table_that_is_read_once_stays_folded() -> None:
    """A selection of a weight's rows is no look-up: it is a smaller weight."""
    model = with_tables(size=50)
    graph, infos = unfold_tables(model.graph, model.infos)
    assert graph is model.graph
    assert infos is model.infos


def test_a_constant_that_does_not_know_its_origin_stays_as_it_is() -> None:
    model = with_tables()
    constants = {name: replace(constant, origin=None) for name, constant in model.graph.constants.items()}
    graph = replace(model.graph, constants=constants)
    assert unfold_tables(graph, model.infos)[0] is graph


def test_a_measurement_of_the_whole_network_initialises_the_same_tables() -> None:
    network = RandomNetwork(with_tables(), is_transformer=True, batch_size=2, device=torch.device("cpu"))
    compiled = network.at()
    tables = {name: weight.shape for name, weight in compiled.plan.items() if name.startswith("table")}
    assert tables == {"table0": (3, 4), "table1": (3, 4)}
    assert [node.op_type for node in compiled.model.graph.nodes].count("Gather") == 2
