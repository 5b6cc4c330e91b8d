from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import Model, Node, TensorInfos
from aznas_onnx.graph.meaning.channel_axes import layout
from tests.blocks.drawings import DRAWINGS, random_network


@cache
def drawn(name: str) -> Model:
    return DRAWINGS[name]()


def scrambled(model: Model, rng: random.Random) -> tuple[Model, Mapping[str, str], Mapping[str, str]]:
    """Return a model with other names for nodes and tensors and its nodes in another topological order."""
    graph = model.graph
    tensors = dict.fromkeys(
        [
            *(value.name for value in graph.inputs),
            *graph.constants,
            *(out for node in graph.nodes for out in node.outputs if out),
        ]
    )
    numbers = rng.sample(range(10**6), len(tensors) + len(graph.nodes))
    renamed = {name: f"t{number}" for name, number in zip(tensors, numbers, strict=False)}
    called = {node.name: f"n{number}" for node, number in zip(graph.nodes, numbers[len(tensors) :], strict=True)}
    renamed[""] = ""

    def rename(node: Node) -> Node:
        return replace(
            node,
            name=called[node.name],
            inputs=tuple(renamed[name] for name in node.inputs),
            outputs=tuple(renamed[name] for name in node.outputs),
        )

    ready = {value.name for value in graph.inputs} | set(graph.constants) | {""}
    waiting, nodes = list(graph.nodes), []
    while waiting:
        node = rng.choice([node for node in waiting if ready.issuperset(node.inputs)])
        waiting.remove(node)
        ready.update(node.outputs)
        nodes.append(rename(node))
    new = replace(
        graph,
        nodes=tuple(nodes),
        inputs=tuple(replace(value, name=renamed[value.name]) for value in graph.inputs),
        outputs=tuple(renamed[name] for name in graph.outputs),
        constants=MappingProxyType({renamed[name]: constant for name, constant in graph.constants.items()}),
    )
    infos = TensorInfos({renamed.get(name, name): info for name, info in model.infos.items()}, model.infos.batch_size)
    plan = replace(
        model.inputs,
        primary=renamed[model.inputs.primary],
        sample_shapes={renamed[name]: shape for name, shape in model.inputs.sample_shapes.items()},
        batch_axes={renamed[name]: axis for name, axis in model.inputs.batch_axes.items()},
    )
    changed = replace(model, graph=new, infos=infos, inputs=plan, layout=layout(new, infos, plan.batch_axes))
    return changed, renamed, called


def assert_invariant(model: Model, rng: random.Random) -> None:
    other, renamed, called = scrambled(model, rng)
    expected, result = find_blocks(model), find_blocks(other)
    assert [block.kind for block in result.blocks] == [block.kind for block in expected.blocks]
    assert [block.output for block in result.blocks] == [renamed[block.output] for block in expected.blocks]
    assert [set(block.nodes) for block in result.blocks] == [
        {called[node] for node in block.nodes} for block in expected.blocks
    ]
    assert [block.channel_axis for block in result.blocks] == [block.channel_axis for block in expected.blocks]
    assert result.is_transformer == expected.is_transformer


def assert_in_sequence(model: Model, outputs: list[str]) -> None:
    depends: dict[str, set[str]] = {}
    for node in model.graph.nodes:
        above = {name for name in node.inputs if name in depends}
        reached = above.union(*(depends[name] for name in above))
        depends.update((output, reached) for output in node.outputs)
    assert all(before in depends[output] for before, output in pairwise(outputs))


@pytest.mark.parametrize("name", DRAWINGS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_names_and_the_order_of_nodes_do_not_matter(name: str, seed: int) -> None:
    assert_invariant(drawn(name), random.Random(seed))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_any_network_is_divided_in_one_way_into_a_sequence(seed: int) -> None:
    rng = random.Random(seed)
    model = random_network(rng)
    blocks = find_blocks(model).blocks
    assert_in_sequence(model, [block.output for block in blocks])
    assert len({block.name for block in blocks}) == len(blocks)
    assert_invariant(model, rng)


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_feature_map_depends_on_the_one_before(name: str) -> None:
    model = drawn(name)
    outputs = [block.output for block in find_blocks(model).blocks]
    assert len(outputs) > 2
    assert_in_sequence(model, outputs)


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_feature_map_has_samples_first_and_channels_elsewhere(name: str) -> None:
    model = drawn(name)
    for block in find_blocks(model).blocks:
        shape = model.infos.shape(block.output)
        assert shape[0] == model.infos.batch_size
        assert 1 <= block.channel_axis < len(shape)
