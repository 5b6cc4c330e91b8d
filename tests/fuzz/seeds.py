"""The small models that are mutated: one for each way in which files differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graph.builders import network, weights

__all__ = ["SEEDS"]


def _plain() -> onnx.ModelProto:
    return network(
        """
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        b = BatchNormalization (a, ones, zeros, zeros, ones)
        c = Relu (b)
        d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
        e = Conv <pads = [1, 1, 1, 1], group = 4> (d, w2)
        f = GlobalAveragePool (e)
        g = Flatten (f)
        y = Gemm (g, fc, bias)
        """,
        constants={
            "w1": weights(4, 3, 3, 3), "w2": weights(4, 1, 3, 3), "ones": np.ones(4, np.float32),
            "zeros": np.zeros(4, np.float32), "fc": weights(4, 10), "bias": weights(10),
        },
    )  # fmt: skip


def _residual() -> onnx.ModelProto:
    return network(
        """
        a = Conv <auto_pad = "SAME_UPPER"> (x, w1, b1)
        b = Sigmoid (a)
        c = Mul (a, b)
        d = ReduceMean <keepdims = 1> (c, axes)
        e = Conv (d, w2)
        f = HardSigmoid (e)
        g = Mul (c, f)
        h = Add (g, a)
        i = Concat <axis = 1> (h, a)
        y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (i)
        """,
        {"x": ("N", 3, 8, 8)},
        {"w1": weights(4, 3, 3, 3), "b1": weights(4), "w2": weights(4, 4, 1, 1), "axes": np.array([2, 3])},
    )


def _attention() -> onnx.ModelProto:
    return network(
        """
        n = LayerNormalization (x, ones, zeros)
        q0 = MatMul (n, wq)
        qb = Add (q0, bias)
        shape = Constant <value_ints = [1, 4, 2, 4]> ()
        q1 = Reshape (qb, shape)
        q = Transpose <perm = [0, 2, 1, 3]> (q1)
        k = Transpose <perm = [0, 2, 3, 1]> (q1)
        s = MatMul (q, k)
        p = Softmax <axis = -1> (s)
        o = MatMul (p, q)
        t = Transpose <perm = [0, 2, 1, 3]> (o)
        back = Constant <value_ints = [1, 4, 8]> ()
        r = Reshape (t, back)
        z = Add (r, x)
        token = Concat <axis = 1> (cls, z)
        y = Add (token, position)
        """,
        {"x": (1, 4, 8)},
        {
            "ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32), "wq": weights(8, 8), "bias": weights(8),
            "cls": weights(1, 1, 8), "position": weights(1, 5, 8),
        },
    )  # fmt: skip


def _shapes() -> onnx.ModelProto:
    return network(
        """
        shape = Shape (x)
        zero = Constant <value_ints = [0]> ()
        n = Gather (shape, zero)
        minus = Constant <value_ints = [-1]> ()
        target = Concat <axis = 0> (n, minus)
        flat = Reshape (x, target)
        count = Constant <value_int = 4> ()
        start = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        range = Range (start, count, one)
        f = Cast <to = 1> (range)
        twice = Constant <value_ints = [48]> ()
        tiled = Tile (f, twice)
        a = Add (flat, tiled)
        ones_shape = Constant <value_ints = [2, 192]> ()
        ones = ConstantOfShape <value = float[1] {0.5}> (ones_shape)
        b = Slice (ones, starts, ends)
        c = Mul (a, b)
        wide = Expand (c, wide_shape)
        pads = Constant <value_ints = [0, 0, 0, 2]> ()
        d = Pad (wide, pads)
        y = Resize <mode = "nearest"> (x, , scales)
        """,
        {"x": ("N", 3, 8, 8)},
        {
            "starts": np.array([0]),
            "ends": np.array([1]),
            "wide_shape": np.array([1, 192]),
            "scales": np.array([1, 1, 2, 2], np.float32),
        },
        outputs=("d", "y"),
    )


def _recurrent() -> onnx.ModelProto:
    return network(
        """
        t = Transpose <perm = [1, 0, 2]> (x)
        o, h, c = LSTM <hidden_size = 5> (t, w, r, b)
        s = Squeeze (o, one)
        y = Transpose <perm = [1, 0, 2]> (s)
        """,
        {"x": (1, 4, 6)},
        {"w": weights(1, 20, 6), "r": weights(1, 20, 5), "b": weights(1, 40), "one": np.array([1])},
    )


def _control_flow() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["ci"], ["co"]),
            helper.make_node("MatMul", ["s", "w"], ["m"]),
            helper.make_node("Tanh", ["m"], ["so"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("ci", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("co", TensorProto.BOOL, []),
            helper.make_tensor_value_info("so", TensorProto.FLOAT, None),
        ],
    )
    model = network(
        """
        l = Relu (x)
        y = If (c) <
            then_branch = t () => (float[1, 4, 8] a) { b = Tanh (l)  a = Neg (b) },
            else_branch = e () => (float[1, 4, 8] d) { d = Abs (l) }
        >
        """,
        {"x": (1, 4, 8)},
        {"t": np.array(3), "c": np.array(True), "w": weights(8, 8)},
    )
    model.graph.node[0].CopyFrom(helper.make_node("Loop", ["t", "c", "x"], ["l"], body=body))
    return model


def _functions() -> onnx.ModelProto:
    model = network("a = f.Block (x, w)  y = f.Block (a, w)", {"x": (1, 4, 8)}, {"w": weights(8, 8)})
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    act = helper.make_function("f", "Act", ["u"], ["v"], [helper.make_node("Relu", ["u"], ["v"])], opsets[:1])
    nodes = [
        helper.make_node("MatMul", ["p", "q"], ["m"]),
        helper.make_node("Act", ["m"], ["n"], domain="f"),
        helper.make_node("Add", ["n", "p"], ["o"]),
    ]
    model.functions.extend([helper.make_function("f", "Block", ["p", "q"], ["o"], nodes, opsets), act])
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model


def _quantised() -> onnx.ModelProto:
    return network(
        """
        q = QuantizeLinear (x, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        wf = DequantizeLinear <axis = 0> (w, scales, zeros)
        a = Conv (d, wf)
        r = Relu (a)
        q2 = QuantizeLinear (r, scale, zero)
        y = DequantizeLinear (q2, scale, zero)
        """,
        constants={
            "scale": np.float32(0.1), "zero": np.int8(0), "scales": np.abs(weights(4)), "zeros": np.zeros(4, np.int8),
            "w": np.random.default_rng(0).integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
        },
    )  # fmt: skip


def _half() -> onnx.ModelProto:
    return network(
        "a = Conv (x, w)  b = Clip (a, low, high)  y = LpNormalization <axis = 1> (b)",
        constants={"w": weights(4, 3, 3, 3).astype(np.float16), "low": np.float16(0), "high": np.float16(6)},
        input_type=TensorProto.FLOAT16,
    )


def _old() -> onnx.ModelProto:
    return network(
        """
        a = Conv (x, w)
        b = Dropout <ratio = 0.5> (a)
        c = Unsqueeze <axes = [1]> (b)
        d = Squeeze <axes = [1]> (c)
        e = Slice <axes = [2], starts = [0], ends = [4]> (d)
        f = ReduceMean <axes = [2, 3], keepdims = 0> (e)
        g = Pad <pads = [0, 1, 0, 1]> (f)
        y = Softmax <axis = 1> (g)
        """,
        constants={"w": weights(4, 3, 3, 3)},
        opset=9,
    )


def _declared() -> onnx.ModelProto:
    return network(
        "a = Conv (x, w)  b = Relu (a)  c = Conv (b, v)  y = Relu (c)",
        constants={"w": weights(4, 3, 3, 3), "v": weights(4, 4, 3, 3)},
        metadata={"aznas.blocks": '["b", "y"]'},
    )


_BUILDERS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "plain": _plain,
    "residual": _residual,
    "attention": _attention,
    "shapes": _shapes,
    "recurrent": _recurrent,
    "control flow": _control_flow,
    "functions": _functions,
    "quantised": _quantised,
    "half": _half,
    "old": _old,
    "declared": _declared,
}

SEEDS: Mapping[str, bytes] = {name: build().SerializeToString(deterministic=True) for name, build in _BUILDERS.items()}
"""By name, the bytes of each model."""
