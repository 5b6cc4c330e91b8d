from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.ir.graph import Constant, Graph
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.passes import canonicalise, decompose, restore_normalisation
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import check_infos, folded, operators

MAP = {"x": ("N", 3, 4, 4)}
CHAIN = "a = Relu (x)  b = Neg (a)  c = Exp (b)  y = Abs (c)"


def editing(body: str = CHAIN, outputs: tuple[str, ...] = ("y",), protected: tuple[str, ...] = ()) -> Editor:
    graph, infos = folded(network(body, MAP, {"w": weights(3, 1, 1)}, outputs=outputs), protected)
    return Editor(graph, infos, protected)


def finished(editor: Editor) -> Graph:
    """Return the graph, after a check that its order is topological and its infos are complete."""
    graph = editor.finish()
    made = {value.name for value in graph.inputs} | set(graph.constants)
    for node in graph.nodes:
        assert {name for name in node.inputs if name} <= made
        made.update(node.outputs)
    check_infos(graph, editor.infos(graph))
    return graph


def test_a_patch_takes_the_place_of_a_node_and_what_only_that_read_goes() -> None:
    editor = editing()
    node = next(editor.nodes("Exp"))
    patch = NodeBuilder(editor, node)
    half = patch.add("Mul", "x", patch.scalar(0.5))
    patch.add("Sqrt", half, output=node.outputs[0])
    patch.apply()
    assert operators(finished(editor)) == ["Mul", "Sqrt", "Abs"]
    product, root = next(editor.nodes("Mul")), next(editor.nodes("Sqrt"))
    assert editor.position(product) < editor.position(root)


def test_a_patch_in_front_of_a_node_leaves_it() -> None:
    editor = editing()
    patch = NodeBuilder(editor, next(editor.nodes("Exp")))
    made = patch.add("Sqrt", "b")
    patch.insert()
    editor.update(next(editor.nodes("Exp")), inputs=(made,))
    assert operators(finished(editor)) == ["Relu", "Neg", "Sqrt", "Exp", "Abs"]


def test_substitution_renames_where_an_output_must_keep_its_name() -> None:
    editor = editing()
    assert editor.substitute(next(editor.nodes("Abs")), "c")
    graph = finished(editor)
    assert [node.outputs for node in graph.nodes] == [("a",), ("b",), ("y",)]


@pytest.mark.parametrize(("source", "body"), [("x", "y = Relu (x)"), ("a", "a = Relu (x)  y = Neg (a)")])
def test_substitution_is_refused_where_neither_can_give_up_its_name(source: str, body: str) -> None:
    editor = editing(body, ("a", "y") if source == "a" else ("y",))
    assert not editor.substitute(list(editor.nodes())[-1], source)
    assert not editor.modified


def test_protected_tensors_are_not_private() -> None:
    editor = editing(protected=("b",))
    assert not editor.is_private("b")
    assert editor.is_private("a")
    assert editor.is_protected("y")
    assert editor.sole_reader("y") is None


def test_nodes_are_looked_up_as_they_are_now() -> None:
    editor = editing("a = Identity (x)  b = Identity (a)  y = Neg (b)")
    for node in editor.nodes("Identity"):
        assert editor.substitute(node, node.inputs[0])
    assert operators(finished(editor)) == ["Neg"]


def test_what_a_graph_has_is_answered_from_the_graph_as_it_is() -> None:
    editor = editing()
    producer = editor.producer("c")
    assert producer is not None
    assert editor.position(producer) == (2, 0)
    assert editor.has("Exp")
    assert editor.substitute(producer, "b")
    assert not editor.has("Exp")
    assert editor.producer("c") is None
    assert editor.current(producer) is None


def test_constants() -> None:
    editor = editing("y = Mul (x, w)")
    assert editor.array("w") is not None
    assert editor.scalar("w") is None
    assert editor.scalar(editor.add_array(np.array([2.0], np.float32), "two")) == 2.0
    assert editor.integers(editor.add_integers((1, 2), "axes")) == (1, 2)
    assert editor.scalar("x") is None
    without_data = Constant(shape=(2,), dtype=np.dtype(np.float32))
    assert editor.array(editor.add_constant(without_data, "shape_only")) is None
    assert editor.rank("w") == 3
    assert editor.shape("nothing") is None


def test_names_are_made_unique() -> None:
    editor = editing()
    assert editor.unique("a") == "a#2"
    assert editor.unique("a") == "a#3"
    assert editor.unique("new") == "new"


def test_a_graph_without_anything_to_do_is_returned_as_it_is() -> None:
    graph, infos = folded(network("y = Exp (x)", MAP))
    assert decompose(graph)[0] is graph
    for done in (canonicalise(graph, infos), restore_normalisation(graph, infos)):
        assert done.graph is graph
        assert done.infos is infos


def test_roots_of_constants_stay() -> None:
    """A folded constant says what it was made from, and counting parameters looks there."""
    model = network(
        "t = Transpose (w)  s = Sigmoid (x)  m = Mul (x, s)  y = Add (m, t)", MAP, {"w": weights(4, 4, 3, 1)}
    )
    done = canonicalise(*folded(model))
    assert "w" in done.graph.constants
    assert "w" in done.infos
