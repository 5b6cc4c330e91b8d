"""Infer shapes and dtypes of a node's outputs.

The rules are ONNX's own, called node by node, about 40 microseconds each. The few operators that make up most of real
graphs have faster rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aznas_onnx.caches import cached, register_cache
from aznas_onnx.errors import ModelError, UnsupportedOperatorError, first_line
from aznas_onnx.graph.ir.graph import Graph, Node, type_fingerprint
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.operand_checks import check_operands, check_text_attributes
from aznas_onnx.graph.shapes.pool_sizes import pooled_sizes, transposed_sizes
from aznas_onnx.operators import CUSTOM_OPERATORS, OPERATORS, Family, InputRole, Operator
from aznas_onnx.operators.operator_record import Attributes
from aznas_onnx.operators.sets import ARITHMETIC, NORMALIZATIONS, WINDOWED

__all__ = ["infer", "is_foreign", "node_proto", "schema", "signature"]

T = TypeVar("T")

_QUANTISED = re.compile("^Q[A-Z]|Integer|NBits|Bnb4|Quantize")  # operators of ONNX Runtime on integers


def _keeps_shape(operator: Operator) -> bool:
    """Whether the output has the shape and dtype of the first input, and no rule of ONNX checks the other inputs."""
    if operator.family in (Family.ACTIVATION, Family.FUNCTION):
        return operator.inputs.count(InputRole.DATA) == 1
    return operator in NORMALIZATIONS and operator.name not in ("BatchNormalization", "LayerNormalization")


_SAME_SHAPE = OPERATORS.where(_keeps_shape)


@cached(2048, "needed for every node")
def schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    """Return the schema of an operator, or None where ONNX has none."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def is_foreign(node: Node) -> bool:
    """Whether ONNX does not define the operator of a node."""
    return bool(node.domain) and schema(node.op_type, node.version, node.domain) is None


def infer(node: Node, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
    """Infer the outputs of a node.

    - `node`: Any node with a schema.
    - `inputs`: One info per input, None where it is omitted.

    Returns: One per output; the shape is None where it depends on data.

    Raises UnsupportedOperatorError if ONNX has no schema for the operator.
    Raises ModelError if the inputs do not fit the operator or each other.
    """
    if not node.domain:
        first = inputs[0] if inputs else None
        if node in _SAME_SHAPE and first is not None and len(node.outputs) == 1:
            check_operands(node, inputs)
            return [TensorInfo(first.shape, first.dtype)]
        if node in ARITHMETIC:
            if node.attributes:  # of old versions
                check_operands(node, inputs)
            return [_broadcast(node, inputs)]
    if is_foreign(node):
        made: list[TensorInfo] | None = CUSTOM_OPERATORS.infer(node, inputs)
        if made is not None:
            return made
    key = signature(node, inputs)
    if key is None:
        return _infer_anew(node, inputs)
    known = _inferred.get(key)
    if known is None:
        if len(_inferred) > _REMEMBERED:
            _inferred.clear()
        known = _inferred[key] = _infer_anew(node, inputs)
    elif node.op_type == "Gather":  # all of its indices are checked
        check_operands(node, inputs)
    return list(known)


# The inferred shapes depend on a node's operator, attributes, and the shapes and small values of its inputs, and
# never on names.
_REMEMBERED = 16384
_REMEMBERED_BYTES = 4096  # of one node's attributes
_VALUE_ELEMENTS = 64  # the rules for shapes read no larger operands
_inferred: dict[tuple[object, ...], list[TensorInfo]] = {}
register_cache(
    f"{__name__}._inferred",
    _REMEMBERED,
    "networks repeat their layers, and those of a space each other's",
    size=_inferred.__len__,
    clear=_inferred.clear,
)


def signature(node: Node, inputs: Sequence[TensorInfo | None]) -> tuple[object, ...] | None:
    """Return a hashable key of all that the outputs' infos depend on; None with subgraphs or tensors inside."""
    attributes = _attribute_key(node.attributes)
    if attributes is None:
        return None
    operands = tuple(
        None
        if info is None
        else (
            info.shape,
            info.dtype,
            None if info.value is None or info.elements > _VALUE_ELEMENTS else info.value.tobytes(),
        )
        for info in inputs
    )
    return (node.op_type, node.version, node.domain, tuple(map(bool, node.outputs)), attributes, operands)


def _attribute_key(attributes: Attributes) -> tuple[object, ...] | None:
    """Return attributes in a form that compares by value; None for tensors, graphs and large values."""
    return _KEYS.of(attributes, _make_key) if attributes else ()


def _make_key(attributes: Attributes) -> tuple[object, ...] | None:
    if any(isinstance(value, (Graph, np.ndarray)) for value in attributes.values()) or not _are_small(attributes):
        return None
    key = tuple((name, type_fingerprint(value), value) for name, value in attributes.items())
    try:
        hash(key)
    except TypeError:  # a list of tensors
        return None
    return key


class _ByIdentity(Generic[T]):
    """Results that follow from immutable attributes, cached by the attributes' identity.

    An entry references the attributes, so no other object can have their id. Large ones are not cached.
    """

    def __init__(self, name: str) -> None:
        self._found: dict[int, tuple[Attributes, T]] = {}
        reason = "the nodes of a graph and of its copies share attributes"
        register_cache(f"{__name__}.{name}", _REMEMBERED, reason, size=self._found.__len__, clear=self._found.clear)

    def of(self, attributes: Attributes, make: Callable[[Attributes], T]) -> T:
        """Return what was made of these attributes, or make it."""
        known = self._found.get(id(attributes))
        if known is not None and known[0] is attributes:
            return known[1]
        made = make(attributes)
        if _are_small(attributes):
            if len(self._found) > _REMEMBERED:
                self._found.clear()
            self._found[id(attributes)] = (attributes, made)
        return made


def _are_small(attributes: Attributes) -> bool:
    return sum(len(name) + _size_bytes(value) for name, value in attributes.items()) <= _REMEMBERED_BYTES


def _size_bytes(value: Any) -> int:
    """Return the approximate size of an attribute in memory; graphs are never cached."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, tuple):
        return sum(map(_size_bytes, value))
    return _REMEMBERED_BYTES + 1 if isinstance(value, Graph) else 8


_KEYS = _ByIdentity[tuple[object, ...] | None]("_KEYS")


def _infer_anew(node: Node, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
    check_text_attributes(node)  # before ONNX's rules see them
    if node.is_op("Split"):  # whose rule writes behind a list of too few outputs, and ends the process
        check_operands(node, inputs)
    given = [_as_scalar(info) for info in inputs] if node.is_op("Range") else inputs
    inferred = _infer_by_schema(node, given)
    if node in WINDOWED:
        inferred = _correct_windows(node, given, inferred)
    if node.is_op("Reshape"):
        _check_elements(node, inputs[0], inferred[0])
    check_operands(node, inputs)
    return inferred


def _check_elements(node: Node, given: TensorInfo | None, made: TensorInfo) -> None:
    """Check that a reshape preserves the number of elements: ONNX's rule does not check a constant target."""
    if given is not None and given.shape is not None and made.shape is not None and given.elements != made.elements:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) cannot make a tensor of shape {made.shape} of one of {given.shape}"
        )


def _as_scalar(info: TensorInfo | None) -> TensorInfo | None:
    """Take a vector of one element, which ONNX Runtime accepts as the bound of a range, for a scalar."""
    if info is None or info.shape != (1,):
        return info
    return TensorInfo((), info.dtype, None if info.value is None else info.value.reshape(()))


def _correct_windows(node: Node, inputs: Sequence[TensorInfo | None], inferred: list[TensorInfo]) -> list[TensorInfo]:
    """Correct the sizes of pools and transposed convolutions; the operands have passed ONNX's own checks."""
    given = inputs[0].shape if inputs and inputs[0] is not None else None
    first = inferred[0].shape if inferred else None
    strides: Any = node.attributes.get("strides", ())
    if given is None or first is None or len(given) < 3 or min(strides, default=1) < 1:
        return inferred
    if node.op_type != "ConvTranspose":
        if not node.attributes.get("ceil_mode", 0):
            return inferred
        sizes = pooled_sizes(node, given[2:])
    else:
        weight = inputs[1].shape if len(inputs) > 1 and inputs[1] is not None else None
        is_same = node.attributes.get("auto_pad") in ("SAME_UPPER", "SAME_LOWER")
        if weight is None or len(weight) != len(given) or not (is_same or node.attributes.get("output_shape")):
            return inferred
        sizes = transposed_sizes(node, given[2:], weight[2:])
    return [TensorInfo((*first[:2], *sizes), info.dtype) for info in inferred]


def _broadcast(node: Node, inputs: Sequence[TensorInfo | None]) -> TensorInfo:
    left, right = inputs
    if left is None or right is None:
        raise ModelError(f"node {node.name!r} ({node.operator}) misses an input")
    if left.dtype != right.dtype:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) combines {left.dtype.name} with {right.dtype.name}; cast one of them"
        )
    if left.shape is None or right.shape is None:
        return TensorInfo(None, left.dtype)
    try:
        return TensorInfo(broadcast_shapes(left.shape, right.shape), left.dtype)
    except ValueError as error:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has inputs of shapes {left.shape} and {right.shape}, "
            "which do not fit"
        ) from error


def broadcast_shapes(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Broadcast two shapes as numpy does (without its limit of 32 axes); ValueError where they do not fit."""
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    result = []
    for a, b in zip(left, right, strict=True):
        if a != b and a != 1 and b != 1:
            raise ValueError((left, right))
        result.append(b if a == 1 else a)
    return tuple(result)


def _infer_by_schema(node: Node, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
    found = schema(node.op_type, node.version, node.domain)
    if found is None:
        raise UnsupportedOperatorError(
            f"node {node.name!r} has operator {node.operator}, which {_origin(node)}; {_remedy(node)}"
        )
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for name, info in zip(node.inputs, inputs, strict=True):
        if info is None:
            continue
        types[name] = _type_proto(info.shape, info.dtype)
        if info.value is not None and info.elements <= _VALUE_ELEMENTS:
            data[name] = numpy_helper.from_array(info.value)
    try:
        outputs = onnx.shape_inference.infer_node_outputs(
            found, node_proto(node), types, data, opset_imports=[helper.make_opsetid(node.domain, node.version)]
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        shapes = ", ".join("?" if info is None or info.shape is None else str(info.shape) for info in inputs)
        raise ModelError(
            f"node {node.name!r} ({node.operator}) does not fit its inputs of shapes {shapes}: {first_line(error)}"
        ) from error
    return [_info(node, outputs.get(name)) for name in node.outputs]


def _origin(node: Node) -> str:
    return "is not known here" if node.domain else f"ONNX does not have in opset {node.version}"


def _remedy(node: Node) -> str:
    """Return the remedy for an operator of another domain."""
    if node.domain == "com.microsoft.nchwc":
        return "it is tied to one processor's memory layout: let ONNX Runtime optimise up to level extended only"
    if node.domain == "com.microsoft" and _QUANTISED.search(node.op_type):
        return "export the float model before quantisation"
    if node.domain == "com.microsoft":
        return "give the model as it was before ONNX Runtime's optimiser, or export it again"
    added = "add it with --operators FILE.py (docs/operators.md) or " if node.domain else ""
    return f"{added}export the model again with standard ONNX operators"


def _info(node: Node, proto: onnx.TypeProto | None) -> TensorInfo:
    if proto is None or proto.WhichOneof("value") is None:
        return TensorInfo(None, np.dtype(np.float32))
    if proto.WhichOneof("value") != "tensor_type" and node.domain == "ai.onnx.ml":
        return TensorInfo(None, np.dtype(object))  # a map from labels to numbers, which outputs end in
    if proto.WhichOneof("value") != "tensor_type":
        raise UnsupportedOperatorError(
            f"node {node.name!r} ({node.operator}) makes a {str(proto.WhichOneof('value')).removesuffix('_type')}, "
            "and only tensors can be scored; export the model without it"
        )
    tensor = proto.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else np.dtype(np.float32)
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return TensorInfo(None, dtype)
    return TensorInfo(tuple(dim.dim_value for dim in tensor.shape.dim), dtype)


@cached(8192, "the tensors of a graph have few shapes and types")
def _type_proto(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)


def node_proto(node: Node) -> onnx.NodeProto:
    """Serialise a node to ONNX without subgraph attributes, which no rule needs here."""
    proto = onnx.NodeProto(op_type=node.op_type, name=node.name, domain=node.domain)
    proto.input.extend(node.inputs)
    proto.output.extend(node.outputs)
    proto.attribute.extend(_WRITTEN.of(node.attributes, _write_attributes))
    return proto


_WRITTEN = _ByIdentity[list[onnx.AttributeProto]]("_WRITTEN")


def _write_attributes(attributes: Attributes) -> list[onnx.AttributeProto]:
    written = []
    for key, value in attributes.items():
        if isinstance(value, Graph) or (isinstance(value, tuple) and value and isinstance(value[0], Graph)):
            continue
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        if isinstance(value, tuple):
            if not value:
                continue  # an empty list has no type; every operator's default is the empty list
            value = list(value)
        written.append(helper.make_attribute(key, value))
    return written
