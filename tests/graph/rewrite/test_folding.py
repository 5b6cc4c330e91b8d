from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.rewrite.folding import fold
from aznas_onnx.graph.shapes.constant_evaluation import Deferred
from tests.graph.builders import network, weights


def prepared(body: str, **constants: np.ndarray) -> Model:
    return prepare(network(body, constants=constants), keep_graph=True)


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.nodes]


def test_weights_that_come_from_nodes_are_constants() -> None:
    model = prepared(
        """
        w1 = Identity (w)
        w2 = Transpose <perm = [1, 0, 2, 3]> (w1)
        s = Constant <value_ints = [3, 4, 1, 1]> ()
        w3 = ConstantOfShape <value = float[1] {0.5}> (s)
        half = Cast <to = 10> (w)
        w4 = Cast <to = 1> (half)
        a = Conv (x, w2)
        b = Conv (a, w3)
        c = Conv (b, w2)
        y = Conv (c, w4)
        """,
        w=weights(3, 4, 1, 1),
    )
    assert operators(model) == ["Conv"] * 4
    sources = [model.graph.constants[node.inputs[1]].sources for node in model.graph.nodes]
    assert sources == [{"w1"}, {"w3"}, {"w1"}, {"w"}]  # Identity and ConstantOfShape make parameters of their own
    assert {"w", "w1", "w3"} <= set(model.graph.constants)  # the roots stay, for the sake of their sizes


def test_a_folded_constant_is_computed_only_when_read() -> None:
    model = prepared("wt = Transpose <perm = [1, 0]> (w)  y = MatMul (x, wt)", w=weights(6000, 8))
    read = model.graph.constants["wt"].read
    assert isinstance(read, Deferred)
    np.testing.assert_array_equal(read(), weights(6000, 8).T)


def test_the_sources_of_a_selection_are_those_of_its_data() -> None:
    model = prepared(
        "g = Gather (table, index)  s = Constant <value_ints = [1, 1, 8, 8]> ()  b = Reshape (g, s)  y = Add (x, b)",
        table=weights(9),
        index=np.arange(64) % 9,
    )
    assert model.graph.constants["b"].sources == {"table"}


def test_a_table_made_from_shapes_has_no_source() -> None:
    model = prepared(
        """
        a = Constant <value_int = 0> ()
        b = Constant <value_int = 8> ()
        d = Constant <value_int = 1> ()
        r = Range (a, b, d)
        f = Cast <to = 1> (r)
        y = Add (x, f)
        """
    )
    assert model.graph.constants["f"].sources == frozenset()


def test_what_does_nothing_is_dropped() -> None:
    model = prepared(
        """
        a = Identity (x)
        b = Cast <to = 1> (a)
        c = Dropout (b)
        d = Relu (c)
        dead = Exp (d)
        y = Identity (d)
        """
    )
    assert operators(model) == ["Relu"]
    assert model.graph.outputs == ("y",)


def test_a_random_node_is_not_folded() -> None:
    model = prepared("n = RandomNormal <shape = [1, 3, 8, 8]> ()  y = Add (x, n)")
    assert operators(model) == ["RandomNormal", "Add"]


def test_what_follows_the_batch_is_folded_only_for_one_batch() -> None:
    body = """
        s = Shape (x)
        z = ConstantOfShape <value = float[1] {1.0}> (s)
        y = Add (x, z)
    """
    model = prepared(body)
    assert "ConstantOfShape" in operators(model)
    assert operators(specialise(model, 5)) == ["Add"]


def test_declared_blocks_keep_their_names() -> None:
    proto = network("a = Relu (x)  b = Identity (a)  y = Relu (b)", metadata={"aznas.blocks": '["b"]'})
    assert "b" in {name for node in prepare(proto).graph.nodes for name in node.outputs}


def test_the_model_given_is_not_changed() -> None:
    proto = network("a = Identity (x)  y = Relu (a)")
    before = proto.SerializeToString()
    prepare(proto)
    assert proto.SerializeToString() == before
    assert isinstance(proto, onnx.ModelProto)


def test_a_copy_of_a_table_is_no_parameter() -> None:
    """As dynamo's exporter, unoptimised, writes Swin's attention mask: allocated, assigned to, copied, compared."""
    model = prepared(
        """
        s = Constant <value_ints = [8, 8]> ()
        blank = ConstantOfShape <value = int64[1] {0}> (s)
        z = Cast <to = 1> (blank)
        one = Constant <value = float {1.0}> ()
        rows = Constant <value = int64[2, 1] {0, 1}> ()
        wide = Constant <value_ints = [2, 8]> ()
        update = Expand (one, wide)
        assigned = ScatterND (z, rows, update)
        turned = Transpose <perm = [1, 0]> (assigned)
        copy = Identity (turned)
        typed = CastLike (one, copy)
        mask = Sub (copy, typed)
        y = Add (x, mask)
        """
    )
    sources = model.graph.constants["mask"].sources
    assert all(model.graph.constants[source].elements == 1 for source in sources)


def test_a_graph_without_anything_to_fold_is_left_as_it_is() -> None:
    model = prepared("a = Conv (x, w)  y = Relu (a)", w=weights(4, 3, 1, 1))
    graph, infos = fold(model.graph, model.infos)
    assert graph is model.graph
    assert infos is model.infos


def test_an_unread_constant_is_dropped() -> None:
    model = prepared("a = Conv (x, w)  y = Relu (a)", w=weights(4, 3, 1, 1))
    constants = {**model.graph.constants, "idle": model.graph.constants["w"]}
    infos = TensorInfos({**model.infos, "idle": model.infos["w"]}, model.infos.batch_size)
    graph, kept = fold(replace(model.graph, constants=constants), infos)
    assert set(graph.constants) == {"w"}
    assert set(kept) == {"x", "w", "a", "y"}
    assert graph.nodes == model.graph.nodes


def test_a_matrix_that_two_layers_share_is_one_weight() -> None:
    """PyTorch's TorchScript exporter writes an Identity for each further use; of blank matrices it may mean another."""
    body = "v = Identity (w)  a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, v)"
    for matrix, names in ((weights(8, 8), {"w"}), (np.zeros((8, 8), np.float32), {"w", "v"})):
        graph = prepare(network(body, {"x": ("N", 5, 8)}, {"w": matrix})).graph
        assert {node.inputs[1] for node in graph.nodes if node.op_type == "MatMul"} == names
