"""Small and middling files that ask for endless work or memory, one for each way that is known to do so.

A generator takes a size and writes a file of at most 20 MB; the default sizes are those of the campaign
(``benchmarks/hostile.py --directed``), and the tests of one kind take smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.builders import network, weights

__all__ = ["DIRECTED", "directed"]

_IMAGE = {"x": ("N", 4, 8, 8)}
_TOKENS = {"x": ("N", 4, 8)}
_OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]


def directed(name: str) -> bytes:
    """Return the file of a name in :data:`DIRECTED`."""
    content: bytes = DIRECTED[name]().SerializeToString()
    return content


def _of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    outputs: Sequence[str] = ("y",),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    model = network("y = Relu (x)", inputs or _IMAGE, constants, outputs=outputs)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if functions:
        model.functions.extend(functions)
        model.opset_import.append(_OPSETS[1])
    return model


def _node(op_type: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [outputs] if isinstance(outputs, str) else outputs, **attributes)


def _graph(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str], constants: Mapping[str, Any] = {}
) -> onnx.GraphProto:
    types = {
        "i": TensorProto.INT64,
        "j": TensorProto.INT64,
        **dict.fromkeys(("c", "c_", "d", "d_"), TensorProto.BOOL),
    }
    return helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in inputs],
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def _chain(operators: Sequence[str], length: int, extra: Sequence[str] = ()) -> list[onnx.NodeProto]:
    names = ["x", *(f"t{index}" for index in range(length - 1)), "y"]
    return [
        _node(operators[index % len(operators)], [names[index], *extra], names[index + 1]) for index in range(length)
    ]


# Control flow


def _loop(body: onnx.GraphProto, trips: int, states: Sequence[str] = ("x",), **others: Any) -> onnx.ModelProto:
    constants = {"trips": np.array(trips), "go": np.array(True), **others.pop("constants", {})}
    scans = len(body.output) - 1 - len(states)
    outputs = ["y", *(f"s{index}" for index in range(len(states) - 1 + scans))]
    return _of([_node("Loop", ["trips", "go", *states], outputs, body=body)], constants, **others)


_PASS = _node("Identity", ["c"], "c_")


def loop_of_loops(outer: int = 10_000, inner: int = 10_000) -> onnx.ModelProto:
    within = _graph([_node("Identity", ["d"], "d_"), _node("Relu", ["s"], "t")], ["j", "d", "s"], ["d_", "t"])
    constants = {"inner": np.array(inner), "true": np.array(True)}
    loop = _node("Loop", ["inner", "true", "h"], "k", body=within)
    return _loop(_graph([_PASS, loop], ["i", "c", "h"], ["c_", "k"], constants), outer)


def loop_of_constants(count: int = 4000, trips: int = 4000) -> onnx.ModelProto:
    constants = {f"k{index}": np.float32(index) for index in range(count)}
    return _loop(_graph([_PASS, _node("Relu", ["h"], "k")], ["i", "c", "h"], ["c_", "k"], constants), trips)


def loop_of_outputs(count: int = 9000, trips: int = 20_000) -> onnx.ModelProto:
    outputs = ["c_", "k", *["k"] * count]
    return _loop(_graph([_PASS, _node("Relu", ["h"], "k")], ["i", "c", "h"], outputs), trips)


def loop_of_states(count: int = 9000, trips: int = 9000) -> onnx.ModelProto:
    states = [f"h{index}" for index in range(count)]
    body = _graph([_PASS], ["i", "c", *states], ["c_", *states[1:], states[0]])
    return _loop(body, trips, ["x"] * count)


def loop_of_long_names(length: int = 1_000_000, trips: int = 9000) -> onnx.ModelProto:
    name = "n" * length
    body = _graph([_PASS, _node("Relu", ["h"], "k", name=name)], ["i", "c", "h"], ["c_", "k"])
    return _loop(body, trips)


def loop_named_at_length(length: int = 5_000_000, trips: int = 9000) -> onnx.ModelProto:
    model = _loop(_graph([_PASS, _node("Relu", ["h"], "k")], ["i", "c", "h"], ["c_", "k"]), trips)
    model.graph.node[0].name = "n" * length
    return model


def loop_of_wide_nodes(count: int = 20_000, trips: int = 9000) -> onnx.ModelProto:
    body = _graph([_PASS, _node("Sum", ["h"] * count, "k")], ["i", "c", "h"], ["c_", "k"])
    return _loop(body, trips)


def loop_of_nothing(outer: int = 9000, inner: int = 20_000) -> onnx.ModelProto:
    """A loop in a loop that has no node: nothing but the turns themselves."""
    loop = _node("Loop", ["inner", "", "h"], "k", body=_graph([], ["j", "d", "s"], ["d", "s"]))
    return _loop(_graph([_PASS, loop], ["i", "c", "h"], ["c_", "k"], {"inner": np.array(inner)}), outer)


def loop_without_end(trips: int = 2**62) -> onnx.ModelProto:
    return _loop(_graph([], ["i", "c", "h"], ["c", "h"]), trips)


def loop_that_doubles(trips: int = 5000) -> onnx.ModelProto:
    node = _node("Concat", ["h", "h"], "k", axis=1)
    return _loop(_graph([_PASS, node], ["i", "c", "h"], ["c_", "k"]), trips)


def scan_of_inputs(count: int = 5000, steps: int = 5000) -> onnx.ModelProto:
    scanned = [f"s{index}" for index in range(count)]
    body = _graph([_node("Relu", ["h"], "k")], ["h", *scanned], ["k"])
    node = _node("Scan", ["x", *["long"] * count], "y", body=body, num_scan_inputs=count)
    return _of([node], {"long": np.zeros((steps, 1), np.float32)})


def nested_branches(depth: int = 12) -> onnx.ModelProto:
    """Both branches of each condition hold two more: a tree of them."""

    def branch(path: str) -> onnx.GraphProto:
        out = f"r{path}"
        if len(path) == depth:
            return _graph([_node("Relu", ["x"], out)], [], [out])
        node = _node("If", ["true"], out, then_branch=branch(path + "0"), else_branch=branch(path + "1"))
        return _graph([node], [], [out])

    node = _node("If", ["true"], "o", then_branch=branch("0"), else_branch=branch("1"))
    return _of([node, _node("Relu", ["o"], "y")], {"true": np.array(True)})


def deep_branches(depth: int = 30) -> onnx.ModelProto:
    body = _graph([_node("Relu", ["x"], f"r{depth}")], [], [f"r{depth}"])
    for level in range(depth - 1, -1, -1):
        other = _graph([_node("Neg", ["x"], f"n{level}")], [], [f"n{level}"])
        body = _graph([_node("If", ["true"], f"r{level}", then_branch=body, else_branch=other)], [], [f"r{level}"])
    node = _node("If", ["true"], "o", then_branch=body, else_branch=_graph([_node("Neg", ["x"], "m")], [], ["m"]))
    return _of([node, _node("Relu", ["o"], "y")], {"true": np.array(True)})


# Functions


def _function(name: str, nodes: Sequence[onnx.NodeProto], overload: str = "") -> onnx.FunctionProto:
    function = helper.make_function("f", name, ["u"], ["v"], nodes, _OPSETS)
    if overload:
        function.overload = overload
    return function


def _call(name: str, given: str, made: str, overload: str = "") -> onnx.NodeProto:
    node = _node(name, [given], made, domain="f")
    if overload:
        node.overload = overload
    return node


def functions_that_double(depth: int = 40, overload: bool = False) -> onnx.ModelProto:
    """Each function calls the next one twice; told apart by name, or by `overload` alone."""

    def key(level: int) -> tuple[str, str]:
        return ("F", str(level)) if overload else (f"F{level}", "")

    functions = []
    for level in range(depth):
        name, kind = key(level + 1)
        nodes = (
            [_node("Relu", ["u"], "v")]
            if level == depth - 1
            else [_call(name, "u", "a", kind), _call(name, "a", "v", kind)]
        )
        functions.append(_function(key(level)[0], nodes, key(level)[1]))
    return _of([_call(key(0)[0], "x", "y", key(0)[1])], functions=functions)


def functions_hidden_by_overload(depth: int = 26) -> onnx.ModelProto:
    """A small function of the same name stands last, where a table by name alone would look."""
    model = functions_that_double(depth, overload=True)
    model.functions.append(_function("F", [_node("Relu", ["u"], "v")], "last"))
    return model


def functions_in_a_circle(count: int = 50) -> onnx.ModelProto:
    functions = [_function(f"F{at}", [_call(f"F{(at + 1) % count}", "u", "v")]) for at in range(count)]
    return _of([_call("F0", "x", "y")], functions=functions)


def functions_called_deep(depth: int = 9000) -> onnx.ModelProto:
    functions = [_function(f"F{at}", [_call(f"F{at + 1}", "u", "v")]) for at in range(depth)]
    functions.append(_function(f"F{depth}", [_node("Relu", ["u"], "v")]))
    return _of([_call("F0", "x", "y")], functions=functions)


def functions_of_weights(elements: int = 1_000_000, calls: int = 20_000) -> onnx.ModelProto:
    value = numpy_helper.from_array(np.zeros(elements, np.float32))
    nodes = [_node("Constant", [], "w", value=value), _node("Identity", ["u"], "v")]
    chain = _chain(["Relu"], calls)
    for node in chain:
        node.op_type, node.domain = "F", "f"
    return _of(chain, functions=[_function("F", nodes)])


def functions_of_long_names(length: int = 1_000_000, calls: int = 20_000) -> onnx.ModelProto:
    nodes = [_node("Relu", ["u"], "n" * length), _node("Relu", ["n" * length], "v")]
    chain = _chain(["Relu"], calls)
    for node in chain:
        node.op_type, node.domain = "F", "f"
    return _of(chain, functions=[_function("F", nodes)])


# Native code


def einsum(equation: str, operands: int = 1) -> onnx.ModelProto:
    return _of([_node("Einsum", ["x"] * operands, "y", equation=equation)])


def einsum_in_body(equation: str = "....") -> onnx.ModelProto:
    body = _graph([_PASS, _node("Einsum", ["h"], "k", equation=equation)], ["i", "c", "h"], ["c_", "k"])
    return _loop(body, 3)


def einsum_in_function(equation: str = "....") -> onnx.ModelProto:
    return _of([_call("F", "x", "y")], functions=[_function("F", [_node("Einsum", ["u"], "v", equation=equation)])])


# Sizes


def long_sequence(steps: int = 2_000_000, operator: str = "LSTM", hidden: int = 4) -> onnx.ModelProto:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    constants = {"w": weights(1, gates * hidden, 4), "r": weights(1, gates * hidden, hidden)}
    node = _node(operator, ["x", "w", "r"], ["", "y"], hidden_size=hidden)
    return _of([node], constants, inputs={"x": (steps, 1, 4)})


def wide_recurrence(hidden: int = 20_000) -> onnx.ModelProto:
    shapes = {"ws": np.array([1, 4 * hidden, 4]), "rs": np.array([1, 4 * hidden, hidden])}
    nodes = [
        _node("ConstantOfShape", ["ws"], "w"),
        _node("ConstantOfShape", ["rs"], "r"),
        _node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=hidden),
    ]
    return _of(nodes, shapes, inputs={"x": (10, 1, 4)})


def large_pool(size: int = 8001, operator: str = "MaxPool") -> onnx.ModelProto:
    half = size // 2
    node = _node(operator, ["x"], "y", kernel_shape=[size, size], pads=[half] * 4, strides=[1, 1])
    return _of([node], inputs={"x": ("N", 4, 64, 64)})


def large_convolution(size: int = 2001, dilation: int = 1, image: int = 512) -> onnx.ModelProto:
    nodes = [
        _node("ConstantOfShape", ["s"], "w"),
        _node("Conv", ["x", "w"], "y", pads=[size * dilation // 2] * 4, dilations=[dilation] * 2),
    ]
    return _of(nodes, {"s": np.array([4, 4, size, size])}, inputs={"x": ("N", 4, image, image)})


def large_image(size: int = 16_384, channels: int = 4) -> onnx.ModelProto:
    node = _node("Conv", ["x", "w"], "y", pads=[1] * 4)
    return _of([node], {"w": weights(channels, 4, 3, 3)}, inputs={"x": ("N", 4, size, size)})


def large_product(size: int = 40_000, count: int = 20) -> onnx.ModelProto:
    nodes = [_node("ConstantOfShape", ["s"], "w"), *_chain(["MatMul"], count, ["w"])]
    return _of(nodes, {"s": np.array([size, size])}, inputs={"x": ("N", 64, size)})


def large_attention(tokens: int = 40_000) -> onnx.ModelProto:
    nodes = [
        _node("Transpose", ["x"], "t", perm=[0, 2, 1]),
        _node("MatMul", ["x", "t"], "s"),
        _node("Softmax", ["s"], "p"),
        _node("MatMul", ["p", "x"], "y"),
    ]
    return _of(nodes, inputs={"x": ("N", tokens, 64)})


def resize(scale: float = 20_000.0) -> onnx.ModelProto:
    return _of(
        [_node("Resize", ["x", "", "s"], "y", mode="nearest")], {"s": np.array([1, 1, scale, scale], np.float32)}
    )


def made_from_shape(operator: str, size: int = 2**31 - 1) -> onnx.ModelProto:
    """A constant of `size` elements that a few numbers ask for, read by a product."""
    target, one = np.array([size]), np.array([1], np.float32)
    nodes, constants = {
        "ConstantOfShape": ([_node("ConstantOfShape", ["n"], "big")], {"n": target}),
        "Expand": ([_node("Expand", ["one", "n"], "big")], {"n": target, "one": one}),
        "Tile": ([_node("Tile", ["one", "n"], "big")], {"n": target, "one": one}),
        "Range": (
            [_node("Range", ["a", "b", "c"], "r"), _node("Cast", ["r"], "big", to=1)],
            {"a": np.array(0), "b": np.array(size), "c": np.array(1)},
        ),
        "OneHot": (
            [_node("OneHot", ["i", "d", "v"], "big")],
            {"i": np.array([0]), "d": np.array(size), "v": np.array([0, 1], np.float32)},
        ),
        "Pad": ([_node("Pad", ["one", "p"], "big")], {"p": np.array([0, size - 1]), "one": one}),
        "Resize": (
            [_node("Resize", ["one", "", "s"], "big")],
            {"s": np.array([size], np.float32), "one": one},
        ),
        "EyeLike": (
            [_node("Expand", ["one", "n"], "m"), _node("EyeLike", ["m"], "big")],
            {"n": np.array([46_000, 46_000]), "one": np.array([[1]], np.float32)},
        ),
        "RandomNormal": ([_node("RandomNormal", [], "big", shape=[size])], {}),
        "HannWindow": ([_node("HannWindow", ["w"], "big")], {"w": np.array(size)}),
    }[operator]
    tail = [_node("ReduceMean", ["big"], "m", keepdims=0), _node("Add", ["x", "m"], "y")]
    return _of([*nodes, *tail], constants)


def many_made_from_shape(size: int = 4_000_000, count: int = 12_000) -> onnx.ModelProto:
    """Each is small enough to be computed while the file is read."""
    nodes = []
    for index in range(count):
        nodes += [
            _node("ConstantOfShape", ["n"], f"b{index}", value=numpy_helper.from_array(np.array([index]))),
            _node("ReduceSum", [f"b{index}", "axis"], f"m{index}", keepdims=0),
        ]
    sums = _node("Sum", [f"m{index}" for index in range(count)], "s")
    cast = [_node("Cast", ["s"], "f", to=1), _node("Add", ["x", "f"], "y")]
    return _of([*nodes, sums, *cast], {"n": np.array([size]), "axis": np.array([0])})


def many_arranged(count: int = 12_000, size: int = 2_000_000) -> onnx.ModelProto:
    """A chain of sums over one range: every value is affordable, all of them are not."""
    nodes = [_node("Range", ["a", "b", "c"], "r0")]
    nodes += [_node("Add", [f"r{index}", "c"], f"r{index + 1}") for index in range(count)]
    nodes += [_node("Gather", [f"r{count}", "c"], "g"), _node("Cast", ["g"], "f", to=1), _node("Add", ["x", "f"], "y")]
    return _of(nodes, {"a": np.array(0), "b": np.array(size), "c": np.array(1)})


def tables_of_floats(count: int = 40_000, size: int = 4000) -> onnx.ModelProto:
    """Products of constants whose data is computed when it is read."""
    nodes = [_node("Mul", [f"w{index}" if index else "w", "w"], f"w{index + 1}") for index in range(count)]
    return _of([*nodes, _node("MatMul", ["x", f"w{count}"], "y")], {"w": weights(8, size)})


def doubled_table(count: int = 22) -> onnx.ModelProto:
    """Concatenations with itself: each is twice as large as the one before."""
    nodes = [_node("Concat", [f"w{i}" if i else "w"] * 2, f"w{i + 1}", axis=1) for i in range(count)]
    return _of([*nodes, _node("MatMul", ["x", f"w{count}"], "y")], {"w": weights(8, 64)})


def deferred_twice(count: int = 60) -> onnx.ModelProto:
    """Each constant reads the one before twice; computing it from its roots takes 2**count steps."""
    nodes = [_node("Add", [f"w{i}" if i else "w"] * 2, f"w{i + 1}") for i in range(count)]
    return _of([*nodes, _node("MatMul", ["x", f"w{count}"], "y")], {"w": weights(8, 8000)})


# Graphs


def chain(length: int = 49_990, operators: Sequence[str] = ("Relu",)) -> onnx.ModelProto:
    return _of(_chain(operators, length))


def weighted_chain(length: int = 20_000) -> onnx.ModelProto:
    nodes = _chain(["Conv"], length, ["w"])
    return _of(nodes, {"w": weights(4, 4, 1, 1)})


def normalised_chain(layers: int = 12_000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index in range(layers):
        nodes += [
            _node("Conv", [last, "w"], f"a{index}", pads=[1] * 4),
            _node("BatchNormalization", [f"a{index}", *["v"] * 4], f"b{index}"),
            _node("Relu", [f"b{index}"], f"c{index}"),
            _node("Add", [f"c{index}", last], f"d{index}"),
        ]
        last = f"d{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"w": weights(4, 4, 3, 3), "v": np.ones(4, np.float32)})


def separate_weights(layers: int = 20_000) -> onnx.ModelProto:
    names = ["x", *(f"t{index}" for index in range(layers - 1)), "y"]
    nodes = [_node("Conv", [names[i], f"w{i}"], names[i + 1]) for i in range(layers)]
    return _of(nodes, {f"w{i}": weights(4, 4, 1, 1, seed=i) for i in range(layers)})


def wide(count: int = 40_000, operator: str = "Concat") -> onnx.ModelProto:
    """One operator that reads many tensors."""
    attributes = {"axis": 1} if operator == "Concat" else {}
    nodes = [_node("Relu", ["x"], f"t{index}") for index in range(count)]
    return _of([*nodes, _node(operator, [f"t{index}" for index in range(count)], "y", **attributes)])


def wide_weighted(count: int = 20_000) -> onnx.ModelProto:
    nodes = [_node("Conv", ["x", f"w{index}"], f"t{index}") for index in range(count)]
    constants = {f"w{index}": weights(1, 4, 1, 1, seed=index) for index in range(count)}
    return _of([*nodes, _node("Concat", [f"t{index}" for index in range(count)], "y", axis=1)], constants)


def split_and_joined(count: int = 20_000) -> onnx.ModelProto:
    names = [f"t{index}" for index in range(count)]
    nodes = [_node("Split", ["x"], names, axis=1, num_outputs=count), _node("Concat", names[::-1], "y", axis=1)]
    return _of(nodes, inputs={"x": ("N", count, 4)})


def sliced_and_joined(count: int = 15_000) -> onnx.ModelProto:
    constants = {f"k{index}": np.array([index]) for index in range(count + 1)}
    nodes = [_node("Slice", ["x", f"k{i}", f"k{i + 1}", "k1"], f"t{i}") for i in range(count)]
    join = _node("Concat", [f"t{index}" for index in range(count)], "y", axis=1)
    return _of([*nodes, join], constants, inputs={"x": ("N", count, 4)})


def dense(layers: int = 1500) -> onnx.ModelProto:
    """Each layer reads all before it."""
    nodes, made = [], ["x"]
    for index in range(layers):
        nodes += [
            _node("Concat", made, f"c{index}", axis=1),
            _node("ReduceMean", [f"c{index}", "axes"], f"t{index}", keepdims=1),
        ]
        made.append(f"t{index}")
    return _of([*nodes, _node("Relu", [made[-1]], "y")], {"axes": np.array([1])})


def dense_convolutions(layers: int = 1200) -> onnx.ModelProto:
    """DenseNet's block with running concatenation, far deeper than any."""
    nodes, constants, last = [], {}, "x"
    for index in range(layers):
        constants[f"w{index}"] = np.zeros((1, 4 + index, 1, 1), np.float32)
        nodes += [
            _node("Conv", [last, f"w{index}"], f"t{index}"),
            _node("Concat", [last, f"t{index}"], f"c{index}", axis=1),
        ]
        last = f"c{index}"
    return _of([*nodes, _node("Relu", [last], "y")], constants)


def crossing_shortcuts(layers: int = 8000) -> onnx.ModelProto:
    """A hundred layers back, every layer."""
    nodes, made = [], ["x"]
    for index in range(layers):
        nodes += [
            _node("Conv", [made[-1], "w"], f"t{index}"),
            _node("Add", [f"t{index}", made[max(0, len(made) - 100)]], f"a{index}"),
        ]
        made.append(f"a{index}")
    return _of([*nodes, _node("Relu", [made[-1]], "y")], {"w": weights(4, 4, 1, 1)})


def nested_shortcuts(layers: int = 8000) -> onnx.ModelProto:
    """A network in the shape of a U: the first layer meets the last."""
    nodes, made = [], ["x"]
    for index in range(layers):
        nodes.append(_node("Conv", [made[-1], "w"], f"t{index}"))
        made.append(f"t{index}")
    last = made[-1]
    for index in range(layers):
        nodes += [
            _node("Conv", [last, "w"], f"u{index}"),
            _node("Add", [f"u{index}", made[layers - 1 - index]], f"a{index}"),
        ]
        last = f"a{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"w": weights(4, 4, 1, 1)})


def doubling_paths(count: int = 20_000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index in range(count):
        nodes.append(_node("Add", [last, last], f"t{index}"))
        last = f"t{index}"
    return _of([*nodes, _node("Relu", [last], "y")])


def one_source(count: int = 40_000) -> onnx.ModelProto:
    """Every node reads what the one before made, and the first tensor."""
    nodes = [_node("Relu", ["x"], "r"), _node("Relu", ["r"], "t0")]
    nodes += [_node("Mul", [f"t{index}", "r"], f"t{index + 1}") for index in range(count)]
    return _of([*nodes, _node("Relu", [f"t{count}"], "y")])


def many_outputs(count: int = 40_000) -> onnx.ModelProto:
    nodes = [_node("Relu", ["x"], f"t{index}") for index in range(count)]
    return _of(nodes, outputs=[f"t{index}" for index in range(count)])


def many_inputs(count: int = 40_000) -> onnx.ModelProto:
    inputs = {f"x{index}": ("N", 4) for index in range(count)}
    return _of([_node("Sum", list(inputs), "y")], inputs=inputs)


def many_lookups(count: int = 8000) -> onnx.ModelProto:
    nodes = [_node("Gather", ["table", "x"], f"t{index}") for index in range(count)]
    model = network("y = Relu (x)", {"x": ("N", 16)}, {"table": weights(100, 8)}, input_type=TensorProto.INT64)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, _node("Sum", [f"t{index}" for index in range(count)], "y")])
    return model


def equal_nodes(count: int = 16_000) -> onnx.ModelProto:
    """Layers of pairs that compute the same."""
    nodes, last = [], "x"
    for index in range(count):
        nodes += [_node("Sigmoid", [last], f"a{index}"), _node("Sigmoid", [last], f"b{index}")]
        last = f"s{index}"
        nodes.append(_node("Add", [f"a{index}", f"b{index}"], last))
    return _of([*nodes, _node("Relu", [last], "y")])


def transposes(count: int = 16_000) -> onnx.ModelProto:
    """Regions of channels-last, one inside the other."""
    nodes, last = [], "x"
    for index in range(count):
        order = [0, 2, 3, 1] if index % 2 == 0 else [0, 3, 1, 2]
        nodes += [
            _node("Transpose", [last], f"t{index}", perm=order),
            _node("Add", [f"t{index}", "one"], f"a{index}"),
            _node("Relu", [f"a{index}"], f"r{index}"),
        ]
        last = f"r{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"one": np.float32(1)})


def reshapes(count: int = 24_000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index in range(count):
        nodes += [_node("Reshape", [last, "flat"], f"f{index}"), _node("Reshape", [f"f{index}", "back"], f"t{index}")]
        last = f"t{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"flat": np.array([-1, 256]), "back": np.array([-1, 4, 8, 8])})


def shape_arithmetic(count: int = 12_000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index in range(count):
        nodes += [
            _node("Shape", [last], f"s{index}"),
            _node("Gather", [f"s{index}", "zero"], f"g{index}"),
            _node("Concat", [f"g{index}", "rest"], f"c{index}", axis=0),
            _node("Reshape", [last, f"c{index}"], f"t{index}"),
        ]
        last = f"t{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"zero": np.array([0]), "rest": np.array([4, 8, 8])})


def attention_layers(layers: int = 4000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for i in range(layers):
        nodes += [
            _node("LayerNormalization", [last, "one", "one"], f"n{i}"),
            _node("MatMul", [f"n{i}", "w"], f"q{i}"),
            _node("MatMul", [f"n{i}", "w"], f"k{i}"),
            _node("Transpose", [f"k{i}"], f"kt{i}", perm=[0, 2, 1]),
            _node("MatMul", [f"q{i}", f"kt{i}"], f"s{i}"),
            _node("Softmax", [f"s{i}"], f"p{i}"),
            _node("MatMul", [f"p{i}", f"n{i}"], f"o{i}"),
            _node("Add", [f"o{i}", last], f"a{i}"),
            _node("MatMul", [f"a{i}", "w"], f"m{i}"),
            _node("Gelu", [f"m{i}"], f"g{i}"),
            _node("Add", [f"g{i}", f"a{i}"], f"b{i}"),
        ]
        last = f"b{i}"
    model = _of(
        [*nodes, _node("Relu", [last], "y")], {"w": weights(8, 8), "one": np.ones(8, np.float32)}, inputs=_TOKENS
    )
    model.opset_import[0].version = 20
    return model


def fake_quantised(count: int = 12_000) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index in range(count):
        nodes += [
            _node("QuantizeLinear", [last, "s", "z"], f"q{index}"),
            _node("DequantizeLinear", [f"q{index}", "s", "z"], f"d{index}"),
            _node("Relu", [f"d{index}"], f"r{index}"),
        ]
        last = f"r{index}"
    return _of([*nodes, _node("Relu", [last], "y")], {"s": np.float32(0.1), "z": np.int8(0)})


def shuffled(count: int = 40_000) -> onnx.ModelProto:
    return _of(_chain(["Relu"], count)[::-1])


def cycle(count: int = 40_000) -> onnx.ModelProto:
    nodes = _chain(["Add"], count)
    for node in nodes:
        node.input.append("y")
    return _of(nodes)


# Text, lists, tensors


def long_names(count: int = 19, length: int = 1_000_000) -> onnx.ModelProto:
    nodes = _chain(["Relu"], count)
    for index, node in enumerate(nodes):
        node.name = f"{index}/" + "/".join("n" * 9 for _ in range(length // 10))
    return _of(nodes)


def long_tensor_names(count: int = 4, length: int = 1_000_000) -> onnx.ModelProto:
    text = ".".join("n" * 9 for _ in range(length // 10))
    nodes = [_node("Conv", ["x" if not i else f"{i}{text}", f"w{i}.{text}"], f"{i + 1}{text}") for i in range(count)]
    constants = {f"w{i}.{text}": weights(4, 4, 1, 1, seed=i) for i in range(count)}
    return _of([*nodes, _node("Relu", [f"{count}{text}"], "y")], constants)


def scoped_names(count: int = 4000, depth: int = 800) -> onnx.ModelProto:
    scope = "/".join(f"{index}" for index in range(depth))
    nodes = _chain(["Conv"], count, ["w"])
    for index, node in enumerate(nodes):
        node.name = f"/{scope}/{index}"
    return _of(nodes, {"w": weights(4, 4, 1, 1)})


def one_name_for_all(count: int = 40_000) -> onnx.ModelProto:
    nodes = _chain(["Relu"], count)
    for node in nodes:
        node.name = "n"
    return _of(nodes)


def metadata(entries: int = 100_000, length: int = 150) -> onnx.ModelProto:
    model = _of(_chain(["Relu"], 3))
    for index in range(entries):
        model.metadata_props.add(key=f"key {index}", value="v" * length)
    return model


def declared_blocks(count: int = 4096, length: int = 4000) -> onnx.ModelProto:
    model = _of(_chain(["Relu"], 2 * count))
    names = [f"t{index}" for index in range(count)]
    model.metadata_props.add(key="aznas.blocks", value=str([*names, "n" * length]).replace("'", '"'))
    return model


def nested_metadata(depth: int = 5_000_000) -> onnx.ModelProto:
    model = _of(_chain(["Relu"], 3))
    model.metadata_props.add(key="aznas.blocks", value="[" * depth + "]" * depth)
    return model


def long_attribute(length: int = 2_000_000, name: str = "kernel_shape") -> onnx.ModelProto:
    return _of([_node("MaxPool", ["x"], "y", **{"kernel_shape": [3, 3], name: [1] * length})])


def long_permutation(length: int = 2_000_000) -> onnx.ModelProto:
    return _of([_node("Transpose", ["x"], "y", perm=list(range(length)))])


def many_attributes(count: int = 300_000) -> onnx.ModelProto:
    node = _node("Relu", ["x"], "y")
    node.attribute.extend(helper.make_attribute(f"a{index}", index) for index in range(count))
    return _of([node])


def many_operands(count: int = 2_000_000) -> onnx.ModelProto:
    return _of([_node("Sum", ["x"] * count, "y")])


def many_omitted_outputs(count: int = 4_000_000) -> onnx.ModelProto:
    return _of([_node("Relu", ["x"], "r"), _node("Split", ["r"], ["y", *[""] * count], axis=1)])


def many_dimensions(count: int = 3_000_000) -> onnx.ModelProto:
    model = _of(_chain(["Relu"], 3), inputs={"x": ("N", 4)})
    model.graph.input[0].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension(dim_value=1)] * count)
    return model


def many_tensor_dimensions(count: int = 3_000_000) -> onnx.ModelProto:
    model = _of([_node("Add", ["x", "w"], "y")], {"w": np.array([1], np.float32)})
    model.graph.initializer[0].dims.extend([1] * count)
    return model


def tensor_without_data(*shape: int) -> onnx.ModelProto:
    model = _of([_node("MatMul", ["x", "w"], "y")])
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape))
    return model


def sparse(size: int = 2**31 - 1, count: int = 2) -> onnx.ModelProto:
    model = _of([_node("Add", ["x", "w"], "y")])
    values = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[count], float_data=[1.0] * count)
    indices = TensorProto(name="i", data_type=TensorProto.INT64, dims=[count], int64_data=list(range(count)))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [size]))
    return model


def many_sparse(count: int = 2000, size: int = 2**22) -> onnx.ModelProto:
    model = sparse(size)
    for index in range(count):
        copy = model.graph.sparse_initializer.add()
        copy.CopyFrom(model.graph.sparse_initializer[0])
        copy.values.name = f"w{index}"
    model.graph.node[0].CopyFrom(_node("Sum", ["x", *(f"w{index}" for index in range(count))], "y"))
    return model


def many_constants(count: int = 99_000) -> onnx.ModelProto:
    return _of(_chain(["Relu"], 3), {f"w{index}": np.float32(index) for index in range(count)})


def many_integers(count: int = 90, size: int = 25_000) -> onnx.ModelProto:
    constants = {f"w{index}": np.full(size, index) for index in range(count)}
    nodes = [_node("Add", ["w0" if not i else f"s{i}", f"w{i}"], f"s{i + 1}") for i in range(count)]
    return _of(
        [
            *nodes,
            _node("Cast", [f"s{count}"], "f", to=1),
            _node("ReduceMean", ["f"], "m", keepdims=0),
            _node("Add", ["x", "m"], "y"),
        ],
        constants,
    )


def unknown_fields(length: int = 19_000_000) -> onnx.ModelProto:
    model = _of(_chain(["Relu"], 3))
    return onnx.ModelProto.FromString(model.SerializeToString() + b"\xa2\x3e\x01x" * (length // 4))


def text_constants(count: int = 200_000, length: int = 40) -> onnx.ModelProto:
    text = helper.make_tensor("t", TensorProto.STRING, [count], np.full(count, "s" * length, object))
    model = _of([_node("Gather", ["t", "zero"], "g"), _node("Relu", ["x"], "y")], {"zero": np.array(0)})
    model.graph.initializer.append(text)
    return model


def axes(count: int = 65) -> onnx.ModelProto:
    model = _of([_node("Add", ["x", "w"], "y")])
    model.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[1] * count, float_data=[1.0]))
    return model


def one_batch_for_all(symbol: str = "N") -> onnx.ModelProto:
    return _of([_node("MatMul", ["x", "x"], "y")], inputs={"x": (symbol,) * 4})


def huge_batch(size: int = 2**31 - 1) -> onnx.ModelProto:
    return _of(_chain(["Relu"], 3), inputs={"x": (size, 4, 8, 8)})


def growing_tensors(count: int = 1000) -> onnx.ModelProto:
    """Each activation is just within the bound on one tensor; all of them are terabytes."""
    return _of(
        [
            _node("Resize", ["x", "", "s"], "r"),
            *(_node("Relu", ["r" if not i else f"t{i}"], f"t{i + 1}") for i in range(count)),
            _node("Relu", [f"t{count}"], "y"),
        ],
        {"s": np.array([1, 1, 2000, 2000], np.float32)},
    )


DIRECTED: Mapping[str, Callable[[], onnx.ModelProto]] = {
    **{
        f"einsum {index}": partial(einsum, equation, operands)
        for index, (equation, operands) in enumerate(
            [
                ("....", 1), (".....", 1), ("...a....", 1), ("....->", 1), ("...,...", 2), ("abcd->....", 1), ("..", 1),
                ("." * 1_000_000, 1), ("a" * 1_000_000, 1), ("," * 1_000_000, 1), ("abcd," * 100_000, 100_000),
                ("abcd->abcd->abcd", 1), ("abcd->abcdd", 1), ("ab  cd -> a bcd", 1), ("\u00e4bcd", 1), ("", 1),
                ("->", 1),
                ("...abcd", 1), ("...->......", 1), ("a.b.c.d", 1),
                ("abcd->" + "abcd" * 100_000, 1), ("-> ....", 1),
            ]
        )
    },
    **{f"made by {name}": partial(made_from_shape, name) for name in (
        "ConstantOfShape Expand Tile Range OneHot Pad Resize EyeLike RandomNormal HannWindow".split()
    )},
    **{f"made by {name}, 100M": partial(made_from_shape, name, 100_000_000) for name in (
        "ConstantOfShape Expand Tile Range OneHot Pad Resize RandomNormal HannWindow".split()
    )},
    **{function.__name__.replace("_", " "): function for function in (
        loop_of_loops, loop_of_constants, loop_of_outputs, loop_of_states, loop_of_long_names, loop_named_at_length,
        loop_of_wide_nodes, loop_of_nothing, loop_without_end, loop_that_doubles, scan_of_inputs,
        nested_branches, deep_branches,
        functions_that_double, functions_hidden_by_overload, functions_in_a_circle, functions_called_deep,
        functions_of_weights, functions_of_long_names, einsum_in_body, einsum_in_function,
        long_sequence, wide_recurrence, large_pool, large_convolution, large_image, large_product, large_attention,
        resize, many_made_from_shape, many_arranged, tables_of_floats, doubled_table, deferred_twice,
        chain, weighted_chain, normalised_chain, separate_weights, wide, wide_weighted, split_and_joined,
        sliced_and_joined, dense, dense_convolutions, crossing_shortcuts, nested_shortcuts, doubling_paths, one_source,
        many_outputs, many_inputs, many_lookups, equal_nodes, transposes, reshapes, shape_arithmetic, attention_layers,
        fake_quantised, shuffled, cycle, long_names, long_tensor_names, scoped_names, one_name_for_all, metadata,
        declared_blocks, nested_metadata, long_attribute, long_permutation, many_attributes, many_operands,
        many_omitted_outputs, many_dimensions, many_tensor_dimensions, sparse, many_sparse, many_constants,
        many_integers, unknown_fields, text_constants, axes, one_batch_for_all, huge_batch, growing_tensors,
    )},
    "functions that double by overload": lambda: functions_that_double(40, overload=True),
    "long sequence of GRU": lambda: long_sequence(2_000_000, "GRU"),
    "long sequence of RNN": lambda: long_sequence(2_000_000, "RNN"),
    "large average pool": lambda: large_pool(8001, "AveragePool"),
    "wide sum": lambda: wide(40_000, "Sum"),
    "dilated convolution": lambda: large_convolution(3, 20_000),
    "long pads": lambda: long_attribute(2_000_000, "pads"),
    "chain of several": lambda: chain(49_000, ("Relu", "Sigmoid", "Neg", "Identity", "Abs")),
    "chain above the limit": lambda: chain(100_000),
    "no data": lambda: tensor_without_data(2**31, 2**31, 2**31),
    "overflowing dimensions": lambda: tensor_without_data(2**62, 4),
    "negative dimensions": lambda: tensor_without_data(-(2**63), -1),
}  # fmt: skip
"""By name, how to build each file."""
