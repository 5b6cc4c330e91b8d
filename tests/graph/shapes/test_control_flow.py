from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph import Limits, prepare, specialise
from tests.graph.builders import network, weights
from tests.graph.serialize import emit


def value(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def loop(
    trips: int | np.ndarray,
    nodes: Sequence[onnx.NodeProto] | None = None,
    *,
    operands: Sequence[str] = ("t", "c", "x"),
    scanned: Sequence[str] = (),
    condition: bool = True,
) -> onnx.ModelProto:
    """Return a model that applies `nodes` (s to so) to x `trips` times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["ci"], ["co"]), *(nodes or [helper.make_node("Relu", ["s"], ["so"])])],
        "body",
        [value("i", TensorProto.INT64, []), value("ci", TensorProto.BOOL, []), value("s")],
        [value("co", TensorProto.BOOL, []), value("so"), *(value(name) for name in scanned)],
    )
    model = network(
        "y = Relu (x)", constants={"t": np.asarray(trips, np.int64), "c": np.array(condition), "w": weights(8, 8)}
    )
    del model.graph.node[:]
    outputs = ["y", *(f"scan{i}" for i in range(len(scanned)))]
    model.graph.node.append(helper.make_node("Loop", operands, outputs, body=body))
    model.graph.output.extend(value(name, shape=None) for name in outputs[1:])
    return model


def agree(model: onnx.ModelProto) -> None:
    """Compare the resolved graph with ONNX Runtime on the file as it is."""
    import onnxruntime

    own = specialise(prepare(model, keep_graph=True), 1)
    assert not {"If", "Loop", "Scan"} & {node.op_type for node in own.graph.nodes}
    x = np.random.default_rng(0).standard_normal(own.infos.shape("x")).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    results = []
    for proto in (model, emit(own.graph, own.infos)):
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"x": x}))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_loop_of_constant_length(trips: int) -> None:
    agree(loop(trips, [helper.make_node("MatMul", ["s", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["so"])]))


def test_a_body_takes_the_types_of_its_inputs_from_outside() -> None:
    """Functions written out by onnx leave them open."""
    model = loop(3, [helper.make_node("Sigmoid", ["s"], ["so"])])
    (body,) = (attribute.g for attribute in model.graph.node[0].attribute)
    for graph_input in body.input:
        graph_input.ClearField("type")
    assert [node.op_type for node in prepare(model, keep_graph=True).graph.nodes] == ["Sigmoid"] * 3


def test_a_loop_that_never_starts() -> None:
    agree(loop(4, condition=False))


def test_a_loop_that_uses_its_counter_and_collects_outputs() -> None:
    nodes = [
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["s", "f"], ["so"]),
        helper.make_node("Identity", ["so"], ["scanned"]),
    ]
    agree(loop(3, nodes, scanned=["scanned"]))


def test_a_loop_inside_a_loop() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["cj"], ["cjo"]), helper.make_node("MatMul", ["r", "w"], ["ro"])],
        "inner",
        [value("j", TensorProto.INT64, []), value("cj", TensorProto.BOOL, []), value("r")],
        [value("cjo", TensorProto.BOOL, []), value("ro")],
    )
    nodes = [helper.make_node("Loop", ["t", "c", "s"], ["l"], body=inner), helper.make_node("Tanh", ["l"], ["so"])]
    agree(loop(2, nodes))


def scan(axis: int = 1, **changes: object) -> onnx.ModelProto:
    """Return a model whose Scan sums a running total over axis `axis`."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["so"]), helper.make_node("Relu", ["so"], ["o"])],
        "body",
        [value("s"), value("e")],
        [value("so"), value("o")],
    )
    model = network("y = Relu (x)", {"x": (1, 4, 8)}, {"s0": np.zeros((1, 8), np.float32)}, outputs=("last", "y"))
    del model.graph.node[:]
    attributes: dict[str, Any] = {
        "num_scan_inputs": 1,
        "scan_input_axes": [axis],
        "scan_output_axes": [axis],
        **changes,
    }
    model.graph.node.append(helper.make_node("Scan", ["s0", "x"], ["last", "y"], body=body, **attributes))
    return model


def test_a_scan() -> None:
    agree(scan())


def test_a_scan_backwards() -> None:
    agree(scan(scan_input_directions=[1], scan_output_directions=[1]))


@pytest.mark.parametrize("chosen", [True, False])
def test_a_branch_on_a_constant(chosen: bool) -> None:
    agree(
        network(
            """
            z = Relu (x)
            y = If (c) <
                then_branch = t () => (float[1,3,8,8] a) { b = Tanh (z)  a = Neg (b) },
                else_branch = e () => (float[1,3,8,8] d) { d = Abs (x) }
            >
            """,
            constants={"c": np.array(chosen)},
        )
    )


def test_a_branch_on_the_shape() -> None:
    agree(
        network(
            """
            shape = Shape (x)
            i = Constant <value_int = 2> ()
            h = Gather (shape, i)
            eight = Constant <value_int = 8> ()
            c = Equal (h, eight)
            y = If (c) <
                then_branch = t () => (float[1,3,8,8] a) { a = Tanh (x) },
                else_branch = e () => (float[1,3,8,8] d) { d = Abs (x) }
            >
            """
        )
    )


def test_control_flow_that_depends_on_data_is_refused() -> None:
    body = """
        m = ReduceMax <keepdims = 0> (x)
        c = Cast <to = 9> (m)
        y = If (c) <
            then_branch = t () => (float[1,3,8,8] a) { a = Tanh (x) },
            else_branch = e () => (float[1,3,8,8] d) { d = Abs (x) }
        >
    """
    with pytest.raises(UnsupportedOperatorError, match=r"\(If\): its condition depends on data"):
        prepare(network(body))


def test_a_loop_without_end_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"\(Loop\) never ends"):
        prepare(loop(3, operands=("", "c", "x")))


COUNTER = """
    one = Constant <value_int = 1> ()
    {count}
    {condition}
    ro = MatMul (r, w)
"""


def counted(count: str, condition: str, *, trips: int | None = 2**62) -> onnx.ModelProto:
    """Return a loop over x that carries a counter n from 0 on, whose condition is computed in its body."""
    body = onnx.parser.parse_graph(f"body () => () {{ {COUNTER.format(count=count, condition=condition)} }}")
    body.input.extend([value("k", TensorProto.INT64, []), value("ck", TensorProto.BOOL, []), value("n"), value("r")])
    body.output.extend([value("go", TensorProto.BOOL, []), value("no"), value("ro")])
    for entry in (body.input[2], body.output[1]):
        entry.CopyFrom(value(entry.name, TensorProto.INT64, []))
    constants = {"zero": np.array(0), "five": np.array(5), "c": np.array(True), "w": weights(8, 8)}
    model = network("y = Relu (x)", constants=constants | ({} if trips is None else {"t": np.array(trips)}))
    del model.graph.node[:]
    operands = ["" if trips is None else "t", "c", "zero", "x"]
    model.graph.node.append(helper.make_node("Loop", operands, ["last", "y"], body=body))
    return model


@pytest.mark.parametrize("trips", [None, 2**62, 3])
@pytest.mark.parametrize(
    ("count", "condition", "iterations"),
    [
        ("no = Add (n, one)", "go = Less (no, five)", 5),
        ("no = Add (n, one)", "a = Less (no, five)  b = Less (k, five)  go = And (a, b)", 5),
        ("no = Add (n, one)", "a = Equal (no, five)  go = Not (a)", 5),
        ("d = Add (n, n)  no = Add (d, one)", "go = LessOrEqual (no, five)", 3),
        ("no = Identity (n)", "f = Cast <to = 1> (k)  q = Sqrt (f)  e = Cast <to = 7> (q)  go = Less (e, one)", 2),
        ("no = Add (n, one)", "m = Mod (no, five)  go = Cast <to = 9> (m)", 5),
        ("no = Add (n, one)", "go = Less (no, zero)", 1),
    ],
)
def test_a_condition_that_counts_ends_a_loop(count: str, condition: str, iterations: int, trips: int | None) -> None:
    model = counted(count, condition, trips=trips)
    expected = min(iterations, trips or iterations)
    operators = [node.op_type for node in prepare(model, keep_graph=True).graph.nodes]
    assert operators == ["MatMul"] * expected
    agree(model)


def test_a_condition_on_data_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"\(Loop\): the number of iterations depends on data"):
        prepare(counted("no = Add (n, one)", "m = ReduceMax <keepdims = 0> (r)  go = Cast <to = 9> (m)"))


def test_a_condition_that_never_fails() -> None:
    with pytest.raises(UnsupportedOperatorError, match="more than 100 iterations"):
        prepare(counted("no = Add (n, one)", "go = Less (zero, no)"), limits=Limits(unrolled_nodes=300))


def test_a_counting_loop_inside_another() -> None:
    inner = counted("no = Add (n, one)", "go = Less (no, five)").graph.node[0]
    inner.input[:] = ["", "ci", "zero", "s"]
    inner.output[:] = ["", "so"]
    model = loop(3, [inner])
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in (("zero", 0), ("five", 5)))
    assert [node.op_type for node in prepare(model, keep_graph=True).graph.nodes] == ["MatMul"] * 15


@pytest.mark.parametrize("trips", [10**12, 30_000])
def test_a_loop_too_long_to_unroll(trips: int) -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"runs {trips:,} iterations; at most 10,000"):
        prepare(loop(trips))


def test_a_scan_too_long_to_unroll() -> None:
    model = scan()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 30_000
    with pytest.raises(UnsupportedOperatorError, match="runs 30,000 iterations"):
        prepare(model)


def test_loops_inside_loops_add_up() -> None:
    nodes: list[onnx.NodeProto] = [helper.make_node("Relu", ["s"], ["so"])]
    for depth in range(6):
        states = [(f"s{depth}", f"so{depth}"), ("s", "so")]
        inner = helper.make_graph(
            [helper.make_node("Identity", [f"c{depth}"], [f"co{depth}"]), *_renamed(nodes, states[0])],
            f"body{depth}",
            [value(f"i{depth}", TensorProto.INT64, []), value(f"c{depth}", TensorProto.BOOL, []), value(f"s{depth}")],
            [value(f"co{depth}", TensorProto.BOOL, []), value(f"so{depth}")],
        )
        nodes = [helper.make_node("Loop", ["t", "c", "s"], ["so"], body=inner)]
    with pytest.raises(ModelError, match=r"unrolling node 'Loop_0/.*gives more than 2,000 nodes"):
        prepare(loop(20, nodes), limits=Limits(unrolled_nodes=2000))


def _renamed(nodes: Sequence[onnx.NodeProto], names: tuple[str, str]) -> list[onnx.NodeProto]:
    """Return copies of the nodes that read and make other tensors than s and so."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names[0] if name == "s" else name for name in node.input]
        copy.output[:] = [names[1]]
        copies.append(copy)
    return copies


def test_a_loop_that_doubles_its_state() -> None:
    with pytest.raises(ModelError, match="above the limit"):
        prepare(loop(500, [helper.make_node("Concat", ["s", "s"], ["so"], axis=1)]))


@pytest.mark.parametrize("operands", [("t", "c"), ("t", "c", "x", "x")])
def test_a_body_of_other_arity_than_its_loop(operands: Sequence[str]) -> None:
    with pytest.raises(ModelError):
        prepare(loop(3, operands=operands))


def test_a_body_without_outputs() -> None:
    model = loop(3)
    del model.graph.node[0].attribute[0].g.output[:]
    with pytest.raises(ModelError):
        prepare(model)


def test_a_trip_count_that_is_no_number() -> None:
    with pytest.raises(ModelError, match="'t' decides on control flow but has 0 elements"):
        prepare(loop(np.zeros(0, np.int64)))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_scan_inputs": 9},
        {"num_scan_inputs": 0},
        {"num_scan_inputs": 2**60},
        {"num_scan_inputs": -1},
        {"scan_input_axes": [9]},
        {"scan_input_axes": [0, 1]},
        {"scan_output_axes": [9]},
        {"scan_output_directions": [0, 1]},
    ],
)
def test_a_scan_whose_attributes_do_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        prepare(scan(**changes))
