from __future__ import annotations

from collections.abc import Hashable

import pytest

from aznas_onnx.graph import Node, prepare
from aznas_onnx.graph.rewrite.canonical import duplicates
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators


def test_the_same_node_twice_is_one() -> None:
    pool = "MaxPool <kernel_shape = [2, 2]> (x)"
    model = network(f"a = {pool}  b = {pool}  n = Neg (b)  y = Add (a, n)", {"x": ("N", 3, 8, 8)})
    result = canonical(model)
    assert operators(result.graph) == ["MaxPool", "Neg", "Add"]
    assert computes_the_same(result.graph, model)


def test_other_attributes_or_weights_are_another_node() -> None:
    model = network(
        "a = LeakyRelu <alpha = 0.1> (x)  b = LeakyRelu <alpha = 0.2> (x)  c = Conv (a, v)  d = Conv (a, w)"
        "  e = Add (c, d)  y = Add (e, b)",
        {"x": ("N", 3, 8, 8)},
        {"v": weights(3, 3, 1, 1), "w": weights(3, 3, 1, 1)},
    )
    assert len(canonical(model).graph.nodes) == 6


def test_two_outputs_that_are_equal_both_stay() -> None:
    model = network("y = Relu (x)  z = Relu (x)", {"x": ("N", 3)}, outputs=("y", "z"))
    result = canonical(model)
    assert [node.outputs for node in result.graph.nodes] == [("y",), ("z",)]


def test_many_nodes_on_one_tensor_are_looked_up_and_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "  ".join(f"y{at} = LeakyRelu <alpha = {at + 1}.0> (x)" for at in range(300))
    model = network(f"{body}  y = Sum ({', '.join(f'y{at}' for at in range(300))})", {"x": ("N", 3)})
    calls = 0
    plain = duplicates._key

    def counted(node: Node) -> Hashable | None:
        nonlocal calls
        calls += 1
        return plain(node)

    monkeypatch.setattr(duplicates, "_key", counted)
    prepare(model)
    assert 300 <= calls <= 3000
