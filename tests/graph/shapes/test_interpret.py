"""Shapes and values, and what a small file may not ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph import Limits, prepare, specialise
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.constant_evaluation import Deferred, is_cheap
from aznas_onnx.graph.shapes.interpret import interpret
from tests.graph.builders import network, weights

Values = Mapping[str, npt.NDArray[Any]]


def vector(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def small(body: str, constants: Values, **options: Any) -> onnx.ModelProto:
    """Return a model that adds the scalar `r`, computed from constants by `body`, to its input."""
    return network(f"{body}  y = Add (x, r)", constants=constants, **options)


def test_shape_arithmetic_is_folded_for_each_batch() -> None:
    model = prepare(
        network(
            """
            shape = Shape (x)
            i = Constant <value_ints = [0]> ()
            n = Gather (shape, i)
            rest = Constant <value_ints = [-1, 4]> ()
            target = Concat <axis = 0> (n, rest)
            y = Reshape (x, target)
            """,
            {"x": ("N", 3, 8)},
        ),
    )
    for batch in (1, 5):
        special = specialise(model, batch)
        assert [node.op_type for node in special.graph.nodes] == ["Reshape"]
        value = special.infos.value(special.graph.nodes[0].inputs[1])
        assert value is not None
        assert special.infos.shape("y") == (batch, 6, 4)


ONE = np.array([1], np.float32)
HUGE: dict[str, tuple[str, dict[str, npt.NDArray[Any]]]] = {
    "ConstantOfShape": (
        "c = ConstantOfShape (s)  r = ReduceSum <keepdims = 0> (c)",
        {"s": vector(2**20, 2**20, 2**20)},
    ),
    "Expand": (
        "c = Expand (one, s)  r = ReduceSum <keepdims = 0> (c)",
        {"one": ONE, "s": vector(2**40)},
    ),
    "Tile": (
        "c = Tile (one, s)  r = ReduceSum <keepdims = 0> (c)",
        {"one": ONE, "s": vector(2**50)},
    ),
    "Range": (
        "c = Range (a, b, d)  f = Cast <to = 1> (c)  r = ReduceSum <keepdims = 0> (f)",
        {"a": np.array(0), "b": np.array(2**60), "d": np.array(1)},
    ),
    "Pad": (
        "c = Pad (one, s)  r = ReduceSum <keepdims = 0> (c)",
        {"one": ONE, "s": vector(2**40, 2**40)},
    ),
    "OneHot": (
        "c = OneHot (i, d, v)  r = ReduceSum <keepdims = 0> (c)",
        {"i": vector(1, 2), "d": np.array(2**40), "v": np.array([0, 1], np.float32)},
    ),
    "Resize": (
        "c = Resize (k, , s)  r = ReduceMax <keepdims = 0> (c)",
        {"k": weights(1, 1, 4, 4), "s": np.array([1, 1, 1e9, 1e9], np.float32)},
    ),
    "a chain of Tile": (
        "c0 = Tile (one, s)  "
        + "  ".join(f"c{i + 1} = Tile (c{i}, s)" for i in range(40))
        + "  r = ReduceMax <keepdims = 0> (c40)",
        {"one": ONE, "s": vector(8)},
    ),
    "a chain of Concat": (
        "c0 = Concat <axis = 0> (one, one)  "
        + "  ".join(f"c{i + 1} = Concat <axis = 0> (c{i}, c{i})" for i in range(60))
        + "  m = ReduceMax <keepdims = 0> (c60)  r = Cast <to = 1> (m)",
        {"one": vector(1)},
    ),
    "an outer product": (
        "c = Mul (a, b)  d = Mul (c, e)  r = ReduceMax <keepdims = 0> (d)",
        {
            "a": np.zeros((4000, 1, 1), np.float32),
            "b": np.zeros((1, 4000, 1), np.float32),
            "e": np.zeros((1, 1, 4000), np.float32),
        },
    ),
    "an outer comparison": (
        "c = Equal (a, b)  f = Cast <to = 1> (c)  r = ReduceMax <keepdims = 0> (f)",
        {"a": np.zeros((400000, 1), np.int64), "b": np.zeros((1, 400000), np.int64)},
    ),
    "GatherND": (
        "c = GatherND (a, i)  r = ReduceMax <keepdims = 0> (c)",
        {"a": np.zeros((4, 100000), np.float32), "i": np.zeros((100000, 1), np.int64)},
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_constant_above_all_bounds_is_refused(name: str) -> None:
    body, constants = HUGE[name]
    with pytest.raises(ModelError, match="above the limit of 2,147,483,648 elements"):
        prepare(small(body, constants))


LARGE: dict[str, tuple[str, dict[str, npt.NDArray[Any]]]] = {
    "ConstantOfShape": ("c = ConstantOfShape (s)  r = ReduceSum <keepdims = 0> (c)", {"s": vector(2**30)}),
    "MatMul": (
        "c = MatMul (a, b)  r = ReduceMax <keepdims = 0> (c)",
        {"a": np.zeros((4096, 1), np.float32), "b": np.zeros((1, 4096), np.float32)},
    ),
    "Conv": (
        "c = Conv <pads = [900, 900, 900, 900]> (a, w)  r = ReduceMax <keepdims = 0> (c)",
        {"a": weights(1, 4, 4, 4), "w": weights(4, 4, 3, 3)},
    ),
    "Einsum": (
        'r = Einsum <equation = "ab,cd,ef,gh,ace,bdfh->"> (a, a, a, a, b, c)',
        {
            "a": np.zeros((30, 30), np.float32),
            "b": np.zeros((30, 30, 30), np.float32),
            "c": np.zeros((30, 30, 30, 30), np.float32),
        },
    ),
    "HannWindow": ("c = HannWindow (n)  r = ReduceMax <keepdims = 0> (c)", {"n": np.array(2**30)}),
    "CenterCropPad": (
        "c = CenterCropPad (a, s)  r = ReduceMax <keepdims = 0> (c)",
        {"a": weights(8, 8), "s": vector(2**15, 2**15)},
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_constant_that_takes_long_is_not_computed_while_reading(name: str) -> None:
    body, constants = LARGE[name]
    model = prepare(small(body, constants))
    constant = model.graph.constants["r"]
    assert constant.shape == ()
    assert isinstance(constant.read, Deferred)
    assert not is_cheap(constant)
    assert model.infos.value("r") is None


def test_a_pattern_that_backtracks_for_ever_is_not_matched() -> None:
    body = 'm = RegexFullMatch <pattern = "(a+)+$"> (t)  r = Cast <to = 1> (m)'
    model = prepare(small(body, {"t": np.array(["a" * 60 + "!"], dtype=object)}, opset=20))
    read = model.graph.constants["r"].read
    assert read is not None
    with pytest.raises(ModelError, match="too large to compute"):
        read()


def test_values_are_remembered_up_to_a_total() -> None:
    """A thousand tables of four million elements each would not fit into memory."""
    count = 40
    body = "c0 = Expand (one, s)  " + "  ".join(f"c{i + 1} = Add (c{i}, one)" for i in range(count))
    model = small(
        f"{body}  m = ReduceMax <keepdims = 0> (c{count})  r = Cast <to = 1> (m)", {"one": vector(1), "s": vector(1000)}
    )
    limits = Limits(folded_elements=1200)  # nine of the tables
    read = prepare(model, limits=limits).graph.constants["r"].read
    assert isinstance(read, Deferred)
    assert read() == count + 1
    assert not isinstance(prepare(model).graph.constants["r"].read, Deferred)  # 40 small tables are no matter


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        (
            "c = Range (a, b, d)  r = ReduceMax <keepdims = 0> (c)",
            {"a": np.float32(0), "b": np.float32("nan"), "d": np.float32(1)},
        ),
        (
            "c = Range (a, b, d)  r = ReduceMax <keepdims = 0> (c)",
            {"a": np.float32(0), "b": np.float32("inf"), "d": np.float32(1)},
        ),
        (
            "c = Range (a, b, d)  r = ReduceMax <keepdims = 0> (c)",
            {"a": np.float32(0), "b": np.float32(1), "d": np.float32(0)},
        ),
        (
            "c = Range (a, b, d)  r = ReduceMax <keepdims = 0> (c)",
            {"a": np.array([0, 1], np.float32), "b": np.float32(1), "d": np.float32(1)},
        ),
        ("r = Gather (a, i)", {"a": weights(2), "i": np.array(7)}),
        ("c = ConstantOfShape (s)  r = ReduceSum <keepdims = 0> (c)", {"s": vector(-5)}),
        (
            "c = Slice (a, s, e, z, z)  r = ReduceSum <keepdims = 0> (c)",
            {"a": weights(8), "s": vector(0), "e": vector(5), "z": vector(0)},
        ),
        ("c = Slice (a, s, e)  r = ReduceSum <keepdims = 0> (c)", {"a": weights(8), "s": vector(0, 1), "e": vector(5)}),
        ("c = Transpose <perm = [5, 6]> (a)  r = ReduceSum <keepdims = 0> (c)", {"a": weights(8, 8)}),
        (
            "c = ScatterND (a, i, u)  r = ReduceSum <keepdims = 0> (c)",
            {"a": weights(8), "i": np.array([[99]]), "u": weights(1)},
        ),
        ("r = Cast <to = 1> (t)", {"t": np.array("abc", dtype=object)}),
        ("c = Squeeze (a, i)  r = ReduceSum <keepdims = 0> (c)", {"a": weights(8, 8), "i": vector(0)}),
        ("c = CumSum (a, i)  r = ReduceSum <keepdims = 0> (c)", {"a": weights(8), "i": np.array(9)}),
    ],
)
def test_constants_that_do_not_fit_their_operator(body: str, constants: Values) -> None:
    with pytest.raises(ModelError, match=r"^g: node '"):
        prepare(small(body, constants))


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Reshape (x, s)", {"s": vector(7, -1)}),
        ("y = Reshape (x, s)", {"s": vector(-1, -1)}),
        ("y = Reshape (x, s)", {"s": vector(-5, 3)}),
        ("y = Reshape (x, s)", {"s": vector(0, 0, 0, 0, 0, 0)}),
        ("y = Reshape (x, s)", {"s": vector(2**62, 2**62, -1)}),
        ("y = Reshape (x, s)", {"s": np.array([1, -1], np.float32)}),
        (
            "n = Constant <value_float = 0.0> ()  m = Log (n)  i = Cast <to = 7> (m)"
            "s = Unsqueeze (i, z)  y = Reshape (x, s)",
            {"z": vector(0)},
        ),
        ("y = Pad (x, s)", {"s": vector(0, 0, 0, 0, 0, 0, 2**60, 2**60)}),
        ("y = Pad (x, s)", {"s": vector(0, 0, 0, 0, 0, 0, -100, -100)}),
        ("y = Resize (x, , s)", {"s": np.array([1, 1, -1, -1], np.float32)}),
        ("y = Resize (x, , s)", {"s": np.array([1, 1, np.nan, np.nan], np.float32)}),
        ("y = Expand (x, s)", {"s": vector(2**20, 2**20, 3, 8, 8)}),
        ("y = Concat <axis = 9> (x, x)", {}),
        ("y = Softmax <axis = 9> (x)", {}),
        ("y = Transpose <perm = [0, 0, 1, 2]> (x)", {}),
        ("y = Conv <strides = [0, 0]> (x, w)", {"w": weights(4, 3, 3, 3)}),
        ("y = Conv <pads = [1000000000, 1000000000, 1000000000, 1000000000]> (x, w)", {"w": weights(4, 3, 3, 3)}),
        ("y = Add (x, i)", {"i": vector(1)}),
        ("y = Add (x, w)", {"w": weights(5)}),
        ("y = Cast <to = 99> (x)", {}),
        ('y = Einsum <equation = "ij,jk"> (x)', {}),
    ],
)
def test_operands_that_do_not_fit(body: str, constants: Values) -> None:
    with pytest.raises(ModelError, match=r"^g: node '"):
        prepare(network(body, constants=constants))


@pytest.mark.parametrize("shape", [(1, 2**40, 2**20, 8), (2**62, 3, 8, 8)])
def test_an_input_of_absurd_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="above the limit"):
        prepare(network("y = Relu (x)", {"x": shape}))


def test_a_tensor_that_doubles_a_hundred_times() -> None:
    body = "c0 = Concat <axis = 1> (x, x)  " + "  ".join(
        f"c{i + 1} = Concat <axis = 1> (c{i}, c{i})" for i in range(100)
    )
    with pytest.raises(ModelError, match="above the limit"):
        prepare(network(f"{body}  y = Relu (c100)"))


def test_a_tensor_of_more_axes_than_anything_computes_with() -> None:
    with pytest.raises(ModelError, match="a tensor of 66 axes, but at most 64"):
        prepare(network("y = Unsqueeze (x, axes)", constants={"axes": np.arange(62)}))
    with pytest.raises(ModelError, match="input or output 'x' has 70 axes"):
        prepare(network("y = Relu (x)", {"x": (1,) * 70}))


def test_a_size_that_depends_on_data_is_left_open() -> None:
    model = prepare(network("n = NonZero (x)  f = Cast <to = 1> (n)  y = Relu (f)"), partial=True)
    assert model.infos["y"].shape is None
    with pytest.raises(ModelError, match="depends on data"):
        model.infos.shape("y")


def test_a_range_takes_vectors_of_one_element_as_bounds() -> None:
    body = "c = Range (zero, n, one)  y = Add (x, c)"
    constants = {"n": weights(1) * 0 + 8, "zero": weights(1)[0] * 0, "one": weights(1) * 0 + 1}
    model = prepare(network(body, {"x": (1, 8)}, constants))
    value = model.infos.value("c")
    assert value is not None
    assert value.tolist() == list(range(8))


def test_large_tables_of_floats_stay_symbolic_and_index_tables_do_not() -> None:
    body = (
        "a = Gather (table, index)  b = Gather (numbers, index)  f = Cast <to = 1> (b)"
        "  s = ReduceSum <keepdims = 0> (f)  t = Add (x, s)  u = Slice (a, zero, eight, one)  y = Add (t, u)"
    )
    constants = {
        "table": weights(64, 8),
        "numbers": np.arange(64),
        "index": np.zeros(2**17, dtype=np.int64),
        "zero": np.array([0]),
        "eight": np.array([8]),
        "one": np.array([0]),
    }
    graph = deserialize(network(body, {"x": (1, 8)}, constants), None, "m", Limits())
    _, infos = interpret(graph, 1, {"x": (1, 8)}, Limits())
    assert infos.shape("a") == (2**17, 8)
    assert infos.value("a") is None
    assert infos.value("b") is not None


@pytest.mark.parametrize(
    ("operator", "remedy"),
    [
        ("com.microsoft.QMoE", "export the float model before quantisation"),
        ("com.microsoft.MatMulBnb4", "export the float model before quantisation"),
        ("com.microsoft.BeamSearch", "as it was before ONNX Runtime's optimiser"),
        ("com.microsoft.nchwc.Conv", "up to level extended only"),
        ("org.example.Relu", "with standard ONNX operators"),
    ],
)
def test_an_operator_of_another_domain_is_named_with_a_remedy(operator: str, remedy: str) -> None:
    domain, _, op_type = operator.rpartition(".")
    model = network("y = Relu (x)")
    model.graph.node[0].domain, model.graph.node[0].op_type = domain, op_type
    model.opset_import.add(domain=domain, version=1)
    with pytest.raises(UnsupportedOperatorError, match=f"operator {domain}::{op_type}, which is not known .* {remedy}"):
        prepare(model)
