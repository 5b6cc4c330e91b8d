"""Evaluate nodes whose inputs are all known: shape arithmetic, index tables, small masks.

The handful of operators that shape arithmetic is made of run as numpy calls; any other falls back to the
reference implementation of the onnx package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aznas_onnx.errors import AznasError, ModelError
from aznas_onnx.graph.ir.graph import Array, Constant, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.shape_inference import infer, node_proto
from aznas_onnx.operators import OPERATORS, Family, Movement, Operator, zero
from aznas_onnx.operators.operator_record import Attributes
from aznas_onnx.operators.sets import REPEATS

__all__ = ["Deferred", "evaluate", "is_affordable", "is_cheap", "is_simple"]

_Inputs = Sequence[Array | None]

# Where the reference implementation starts later than the operator, which means the same before.
_REFERENCE_SINCE = {"DequantizeLinear": 19}

_FEW = 64
_CHEAP_WORK = 2**22
_MAX_WORK = 2**31
_NEVER = 2**62
# Floats are relevant to shapes where they are scalars, scales or masks; larger ones are weights that moved.
_FLOAT_ELEMENTS = 2**18


def evaluate(node: Node, inputs: _Inputs) -> list[Array]:
    """Compute a node.

    - `node`: A node without subgraphs.
    - `inputs`: One array per input, None where omitted.

    Raises ModelError if the values do not fit the operator.
    """
    try:
        with np.errstate(all="ignore"):
            simple = _SIMPLE.get(node.op_type) if not node.domain else None
            if simple is not None:
                return [np.asarray(simple(node, inputs))]
            return _reference(node, inputs)
    except MemoryError as error:
        raise ModelError(f"node {node.name!r} ({node.operator}) asks for more memory than there is") from error
    except AznasError:
        raise
    except Exception as error:  # the reference code raises any exception of numpy, re or PIL
        reason = str(error).strip().partition("\n")[0][:300]
        raise ModelError(
            f"node {node.name!r} ({node.operator}) cannot be computed from its constants: {reason}"
        ) from error


def _reference(node: Node, inputs: _Inputs) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

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


def is_simple(node: Node) -> bool:
    """Whether a node is one of those that shape arithmetic is made of, which numpy computes in one call."""
    return not node.domain and node.op_type in _SIMPLE


def is_affordable(node: Node, inputs: Sequence[TensorInfo | None], limit: int) -> bool:
    """Whether a node with known inputs is computed while a graph is read.

    A small file can need a huge tensor, or hours of work. Nodes that move or combine few elements are computed at once;
    for others ONNX's shape rules first give the size of the result. numpy computes up to `limit` elements (fewer
    floats: large float tables are irrelevant to shapes). The reference implementation loops over elements in Python, so
    its limit is a sixty-fourth. Operators whose work is not proportional to their operands (Conv, Einsum,
    NonMaxSuppression) are never computed here.

    Raises ModelError if the inputs do not fit the operator.
    """
    if node.domain or node not in _PROPORTIONAL:
        return False
    given = sum(info.elements for info in inputs if info is not None)
    is_simple = node.op_type in _SIMPLE
    if is_simple and given <= _FEW and node not in _GROWS:
        return True
    results = infer(node, inputs)
    if any(info.shape is None for info in results):
        selects = node.is_op("NonZero", "Compress", "Unique")  # the result is no larger than the operands
        return selects and given <= limit // 1024
    made = sum(info.elements for info in results)
    if made > _FLOAT_ELEMENTS and any(info.dtype.kind == "f" for info in results):
        return False
    if node.op_type == "MatMul" and inputs[0] is not None and inputs[0].shape:
        made *= inputs[0].shape[-1]
    return given + made <= (limit if is_simple else limit // 64)


@dataclass(frozen=True, slots=True)
class Deferred:
    """The data of a folded constant, computed on request.

    - `work`: Elements to compute, those of folded inputs included; larger for operators that take long.
    """

    node: Node
    inputs: tuple[Constant | None, ...]
    index: int
    work: int

    @classmethod
    def of(cls, node: Node, inputs: tuple[Constant | None, ...], index: int, elements: int) -> Deferred:
        """Defer output `index` of a node, which has `elements`."""
        given, before = 0, 0
        for constant in inputs:
            if constant is not None:
                given += constant.elements
                before += constant.read.work if isinstance(constant.read, Deferred) else constant.elements
        return cls(node, inputs, index, before + _work(node, given, elements))

    @property
    def is_cheap(self) -> bool:
        """Whether computing it takes well under a second."""
        return self.work <= _CHEAP_WORK

    def __call__(self) -> Array:
        """Compute the data.

        Raises ModelError if that would take more memory or time than a network's constant can be worth.
        """
        if self.work > _MAX_WORK:
            raise ModelError(
                f"node {self.node.name!r} ({self.node.operator}) makes a constant that is too large to compute"
            )
        values = [None if c is None or c.read is None else c.read() for c in self.inputs]
        return evaluate(self.node, values)[self.index]


def _work(node: Node, given: int, made: int) -> int:
    """Estimate the work of a node in elements that numpy handles."""
    if node.domain:
        return _NEVER
    if node.op_type in _SIMPLE:
        return made
    if node in _PROPORTIONAL:
        return 16 * made
    return 256 * (given + made) if node in _SLOW else _NEVER


def is_cheap(constant: Constant) -> bool:
    """Whether a constant's data can be read quickly."""
    return constant.read is not None and not (isinstance(constant.read, Deferred) and not constant.read.is_cheap)


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
    if left.dtype.kind not in "iu":
        return np.asarray(left / right)
    quotient, remainder = np.divmod(left, right)
    return np.asarray(quotient + ((remainder != 0) & ((left < 0) != (right < 0)))).astype(left.dtype)  # towards zero


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


def _gather_elements(node: Node, inputs: _Inputs) -> Array:
    axis: Any = node.attributes.get("axis", 0)
    value, index = _need(inputs, 0), _need(inputs, 1).astype(np.int64)
    axis %= value.ndim
    # The index can be smaller on the other axes; the reference implementation fails there, and beyond 32 rows.
    window = tuple(slice(None) if at == axis else slice(size) for at, size in enumerate(index.shape))
    return np.asarray(np.take_along_axis(value[window], index, axis))


def _concat(node: Node, inputs: _Inputs) -> Array:
    axis: Any = node.attributes.get("axis", 0)
    return np.concatenate([value for value in inputs if value is not None], axis=axis)


def _slice(node: Node, inputs: _Inputs) -> Array:
    value = _need(inputs, 0)
    attributes: Attributes = node.attributes
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
        if step < 0:  # ONNX clamps both ends to the axis, numpy takes what lies before it for nothing
            start = max(start, -value.shape[axis])
            end = None if end < -value.shape[axis] else end
        window[axis] = slice(start, end, step)
    return np.asarray(value[tuple(window)])


def _cast(node: Node, inputs: _Inputs) -> Array:
    from onnx import helper

    to: Any = node.attributes["to"]
    value = _need(inputs, 0)
    return np.asarray(value.astype(helper.tensor_dtype_to_np_dtype(to)))


def _reshape(node: Node, inputs: _Inputs) -> Array:
    value, target = _need(inputs, 0), _need(inputs, 1).tolist()
    if not node.attributes.get("allowzero", 0):
        target = [value.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return np.asarray(value.reshape(target))


def _constant_of_shape(node: Node, inputs: _Inputs) -> Array:
    fill: Any = node.attributes.get("value", np.zeros(1, dtype=np.float32))
    return np.full(tuple(_need(inputs, 0).tolist()), fill.reshape(-1)[0], dtype=fill.dtype)


def _transpose(node: Node, inputs: _Inputs) -> Array:
    order: Any = node.attributes.get("perm")
    return np.transpose(_need(inputs, 0), order)


def _range(node: Node, inputs: _Inputs) -> Array:
    bounds: list[Any] = [_need(inputs, index).reshape(())[()] for index in range(3)]
    return np.asarray(np.arange(*bounds, dtype=_need(inputs, 0).dtype))


def _expand(node: Node, inputs: _Inputs) -> Array:
    value, target = _need(inputs, 0), tuple(_need(inputs, 1).tolist())
    return np.array(np.broadcast_to(value, np.broadcast_shapes(value.shape, target)))


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
    "GatherElements": _gather_elements,
    "Concat": _concat,
    "Slice": _slice,
    "Cast": _cast,
    "Reshape": _reshape,
    "ConstantOfShape": _constant_of_shape,
    "Transpose": _transpose,
    "Expand": _expand,
    "Range": _range,
}  # fmt: skip


def _is_proportional(operator: Operator) -> bool:
    """Whether the work of an operator is in proportion to its operands and results."""
    if operator.random or operator.macs is not zero:
        return operator.operator in ("MatMul", "Unique")  # the inner axis of MatMul is taken into account
    return operator.elementwise or operator.movement is not Movement.NONE or operator.family in _PROPORTIONAL_FAMILIES


def _is_slow(operator: Operator) -> bool:
    """Whether a folded constant can come from an operator whose work is a multiple of the size of its tensors."""
    return operator.window or operator.family in _SLOW_FAMILIES or operator.operator in ("Gemm", "RotaryEmbedding")


_PROPORTIONAL_FAMILIES = (
    *(Family.CUMULATIVE, Family.GENERATION, Family.LAYER_NORMALIZATION, Family.QUANTIZATION, Family.REDUCTION),
    *(Family.SEARCH, Family.SHAPE, Family.SOFTMAX),
)
_SLOW_FAMILIES = (Family.AXIS_NORMALIZATION, Family.GLOBAL_POOLING, Family.NORMALIZATION, Family.RESAMPLING)
_PROPORTIONAL = OPERATORS.where(_is_proportional)
_SLOW = OPERATORS.where(_is_slow)
_GROWS = OPERATORS.where(lambda operator: operator in REPEATS or operator.family is Family.GENERATION)
