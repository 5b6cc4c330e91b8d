"""Values of nodes whose inputs are all known: shape arithmetic, index tables, small masks.

The handful of operators that shape arithmetic is made of run as numpy calls; any other falls back to the
reference implementation of the onnx package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir import Array, Node

__all__ = ["evaluate", "output_elements"]

_Inputs = Sequence[Array | None]

# Where the reference implementation starts later than the operator, which means the same before.
_REFERENCE_SINCE = {"DequantizeLinear": 19}


def evaluate(node: Node, inputs: _Inputs) -> list[Array]:
    """Compute a node.

    Parameters
    ----------
    node
        A node without subgraphs.
    inputs
        One array per input, None where omitted.

    Raises
    ------
    ModelError
        If the values do not fit the operator.
    """
    try:
        with np.errstate(all="ignore"):
            simple = _SIMPLE.get(node.op_type) if not node.domain else None
            if simple is not None:
                return [np.asarray(simple(node, inputs))]
            return _reference(node, inputs)
    except (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError, OverflowError, RuntimeError, AttributeError,
            NotImplementedError, AssertionError) as error:  # fmt: skip  # the reference code raises whatever numpy does
        raise ModelError(f"node {node.name!r} ({node.operator}) cannot be computed from its constants: {error}") from error


def _reference(node: Node, inputs: _Inputs) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    from aznas_onnx.graph.infer import node_proto

    names = [name for name in dict.fromkeys(node.inputs) if name]
    values = {name: value for name, value in zip(node.inputs, inputs, strict=True) if value is not None}
    graph = helper.make_graph(
        [node_proto(node)],
        "one",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), None) for n in names],
        [helper.make_empty_tensor_value_info(n) for n in node.outputs if n],
    )
    version = max(node.version, _REFERENCE_SINCE.get(node.op_type, 1))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
    results = iter(ReferenceEvaluator(model).run(None, values))
    return [np.asarray(next(results)) if name else np.empty(0) for name in node.outputs]


def output_elements(node: Node, inputs: _Inputs) -> int | None:
    """Return how many elements a node is about to make, where that follows from values and not from shapes.

    These are the operators with which a small file can ask for a huge tensor.
    """
    value = inputs[0] if inputs else None
    if node.op_type == "ConstantOfShape" and value is not None:
        return _product(value)
    if node.op_type == "Expand" and len(inputs) > 1 and inputs[1] is not None:
        return max(_product(inputs[1]), 0)
    if node.op_type == "Tile" and value is not None and inputs[1] is not None:
        return int(value.size) * _product(inputs[1])
    if node.op_type == "Range" and all(part is not None for part in inputs):
        start, limit, delta = (float(np.asarray(part).reshape(())) for part in inputs)
        return max(0, int(np.ceil((limit - start) / delta))) if delta else 0
    if node.op_type == "OneHot" and value is not None and inputs[1] is not None:
        return int(value.size) * int(np.asarray(inputs[1]).reshape(-1)[0])
    return None


def _product(shape: Array) -> int:
    count = 1
    for size in shape.reshape(-1).tolist():
        count *= max(int(size), 1)
    return count


def _get(inputs: _Inputs, index: int) -> Array | None:
    return inputs[index] if index < len(inputs) else None


def _need(inputs: _Inputs, index: int) -> Array:
    value = _get(inputs, index)
    if value is None:
        raise ValueError(f"input {index} is missing")
    return value


def _binary(function: Callable[[Array, Array], Any]) -> Callable[[Node, _Inputs], Any]:
    return lambda node, inputs: function(_need(inputs, 0), _need(inputs, 1))


def _div(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu":
        return np.asarray(np.trunc(left / right)).astype(left.dtype) if np.any(right < 0) or np.any(left < 0) else left // right
    return np.asarray(left / right)


def _axes(node: Node, inputs: _Inputs) -> tuple[int, ...] | None:
    value = _get(inputs, 1)
    if value is not None:
        return tuple(int(axis) for axis in value.reshape(-1))
    attribute: Any = node.attributes.get("axes")
    return None if attribute is None else tuple(attribute)


def _squeeze(node: Node, inputs: _Inputs) -> Array:
    return np.squeeze(_need(inputs, 0), axis=_axes(node, inputs))


def _unsqueeze(node: Node, inputs: _Inputs) -> Array:
    value, axes = _need(inputs, 0), _axes(node, inputs) or ()
    rank = value.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        value = np.expand_dims(value, axis)
    return value


def _gather(node: Node, inputs: _Inputs) -> Array:
    axis: Any = node.attributes.get("axis", 0)
    return np.asarray(np.take(_need(inputs, 0), _need(inputs, 1).astype(np.int64), axis=axis))


def _concat(node: Node, inputs: _Inputs) -> Array:
    axis: Any = node.attributes.get("axis", 0)
    return np.concatenate([value for value in inputs if value is not None], axis=axis)


def _slice(node: Node, inputs: _Inputs) -> Array:
    value = _need(inputs, 0)
    attributes: Mapping[str, Any] = node.attributes
    if "starts" in attributes:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes", range(len(starts))), (1,) * len(starts)
    else:
        starts, ends = _need(inputs, 1).tolist(), _need(inputs, 2).tolist()
        given_axes, given_steps = _get(inputs, 3), _get(inputs, 4)
        axes = range(len(starts)) if given_axes is None else given_axes.tolist()
        steps = (1,) * len(starts) if given_steps is None else given_steps.tolist()
    window: list[slice] = [slice(None)] * value.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and end < -value.shape[axis]:
            end = None
        window[axis] = slice(start, end, step)
    return value[tuple(window)]


def _cast(node: Node, inputs: _Inputs) -> Array:
    from onnx import helper

    to: Any = node.attributes["to"]
    value = _need(inputs, 0)
    dtype = helper.tensor_dtype_to_np_dtype(to)
    return value.astype(dtype)


def _reshape(node: Node, inputs: _Inputs) -> Array:
    value, target = _need(inputs, 0), _need(inputs, 1).tolist()
    if not node.attributes.get("allowzero", 0):
        target = [value.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return value.reshape(target)


def _constant_of_shape(node: Node, inputs: _Inputs) -> Array:
    fill: Any = node.attributes.get("value", np.zeros(1, dtype=np.float32))
    return np.full(tuple(_need(inputs, 0).tolist()), fill.reshape(-1)[0], dtype=fill.dtype)


def _transpose(node: Node, inputs: _Inputs) -> Array:
    order: Any = node.attributes.get("perm")
    return np.transpose(_need(inputs, 0), order)


def _expand(node: Node, inputs: _Inputs) -> Array:
    value, target = _need(inputs, 0), tuple(_need(inputs, 1).tolist())
    return np.broadcast_to(value, np.broadcast_shapes(value.shape, target)).copy()


_SIMPLE: Mapping[str, Callable[[Node, _Inputs], Any]] = {
    "Identity": lambda node, inputs: _need(inputs, 0),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_div),
    "Equal": _binary(np.equal),
    "Less": _binary(np.less),
    "Greater": _binary(np.greater),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Not": lambda node, inputs: np.logical_not(_need(inputs, 0)),
    "Where": lambda node, inputs: np.where(_need(inputs, 0), _need(inputs, 1), _need(inputs, 2)),
    "Sqrt": lambda node, inputs: np.sqrt(_need(inputs, 0)),
    "Neg": lambda node, inputs: np.negative(_need(inputs, 0)),
    "Floor": lambda node, inputs: np.floor(_need(inputs, 0)),
    "Ceil": lambda node, inputs: np.ceil(_need(inputs, 0)),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Cast": _cast,
    "Reshape": _reshape,
    "ConstantOfShape": _constant_of_shape,
    "Transpose": _transpose,
    "Expand": _expand,
    "Range": lambda node, inputs: np.arange(*(np.asarray(part).reshape(())[()] for part in inputs if part is not None),
                                            dtype=_need(inputs, 0).dtype),
}  # fmt: skip
