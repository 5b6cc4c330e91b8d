"""Each pass requires what an earlier one ensures, and what one ensures holds from there on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest

from aznas_onnx.graph import Graph, prepare
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.pipeline import FILE_PASSES, GRAPH_PASSES, Draft, Guarantee, ReadOptions, start
from aznas_onnx.graph.rewrite.passes import canonicalise
from tests.graph.builders import network, weights

PASSES = (*FILE_PASSES, *GRAPH_PASSES)


def has_float32(draft: Draft) -> bool:
    return all(constant.dtype == np.float32 for constant in draft.graph.constants.values() if constant.is_float)


def has_standard_operators(draft: Draft) -> bool:
    return all(not node.domain or node.unknown for node in draft.graph.nodes)


def has_complete_infos(draft: Draft) -> bool:
    graph = draft.graph
    names = {*graph.constants, *(value.name for value in graph.inputs)}
    names.update(name for node in graph.nodes for name in node.outputs if name)
    return set(draft.infos) >= names and (bool(draft.walks) or set(draft.infos) == names)


def is_folded(draft: Draft) -> bool:
    graph = draft.graph
    read = {name for node in graph.nodes for name in node.inputs} | {*graph.outputs, *draft.declared}
    fixed = {"", *graph.constants}
    return all(not fixed.issuperset(node.inputs) and not read.isdisjoint(node.outputs) for node in graph.nodes)


def is_canonical(draft: Draft) -> bool:
    return not canonicalise(draft.graph, draft.infos, protected=draft.declared).changes


HOLDS: Mapping[Guarantee, Callable[[Draft], bool]] = {
    Guarantee.FLOAT32: has_float32,
    Guarantee.STANDARD_OPERATORS: has_standard_operators,
    Guarantee.COMPLETE_INFOS: has_complete_infos,
    Guarantee.FOLDED: is_folded,
    Guarantee.CANONICAL: is_canonical,
}

BODY = """
    c = Conv (x, w, b)  s = Sigmoid (c)  m = Mul (c, s)  k = Shape (m)  u = Add (k, zero)  n = Reshape (m, u)
    h = Cast <to = 10> (n)  f = Cast <to = 1> (h)  p = GlobalAveragePool (f)  l = Flatten (p)
    t = Cast <to = 1> (fc)  z = com.microsoft.FusedMatMul (l, t)  y = Identity (z)
"""


def exported() -> onnx.ModelProto:
    constants = {
        "w": weights(4, 3, 3, 3), "b": weights(4), "zero": np.zeros(4, np.int64),
        "fc": weights(4, 2).astype(np.float64),
    }  # fmt: skip
    model = network(BODY, {"x": ("N", 3, 8, 8)}, constants)
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def built() -> Graph:
    net = GraphBuilder("net")
    x = net.relu(net.conv_bn(net.image_input(3, 8), "stem", 3, 4, kernel=3), "relu")
    net.declare_block(x)
    return net.finish(net.classifier(x, "head", 4, num_classes=2)).graph()


def test_every_pass_requires_what_an_earlier_one_ensures() -> None:
    ensured: set[Guarantee] = set()
    for one in PASSES:
        assert ensured.issuperset(one.requires), one.name
        ensured.update(one.ensures)
    assert ensured == set(Guarantee) == set(HOLDS)
    assert len({one.name for one in PASSES}) == len(PASSES)


@pytest.mark.parametrize("keep_graph", [False, True])
def test_what_a_pass_ensures_holds_after_it_and_after_every_later_one(*, keep_graph: bool) -> None:
    draft = start(exported(), "net", ReadOptions(keep_graph=keep_graph))
    ensured: set[Guarantee] = set()
    for one in PASSES:
        draft = one.run(draft)
        ensured.update(one.ensures)
        assert [guarantee for guarantee in ensured if not HOLDS[guarantee](draft)] == [], one.name
    assert [node.op_type for node in draft.graph.nodes][:2] == ["Conv", "Swish"]


def test_a_built_network_holds_what_a_file_must_be_brought_to() -> None:
    draft = start(built(), "net", ReadOptions())
    ensured = {guarantee for one in FILE_PASSES for guarantee in one.ensures}
    for one in GRAPH_PASSES:
        draft = one.run(draft)
        ensured.update(one.ensures)
        assert [guarantee for guarantee in ensured if not HOLDS[guarantee](draft)] == [], one.name


def test_the_passes_are_what_prepare_applies() -> None:
    draft = start(exported(), "net", ReadOptions())
    for one in PASSES:
        draft = one.run(draft)
    model = prepare(exported())
    assert [node.operator for node in model.graph.nodes] == [node.operator for node in draft.graph.nodes]
    assert {name: info.shape for name, info in model.infos.items()} == {
        name: info.shape for name, info in draft.infos.items()
    }
    assert model.changes == draft.changes
