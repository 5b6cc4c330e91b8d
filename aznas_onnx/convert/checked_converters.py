"""Converters of others, a user's or onnx2torch's, compared with ONNX Runtime where it runs the operator.

That happens when a network is compiled, once for each signature: the operator with its attributes and the shapes, types
and small values of its operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from aznas_onnx.convert.context import Call, Context, Converter, unsupported
from aznas_onnx.convert.dtypes import is_float
from aznas_onnx.errors import AznasError, UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.shape_inference import node_proto, signature
from aznas_onnx.runtime import unoptimised_session
from aznas_onnx.user_modules import RAISED, place, summary

__all__ = ["checked", "convert"]

Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of the largest value: far above rounding in single precision, far below any real error
_MOST_ELEMENTS = 2**26  # of all operands of one comparison
_IR_VERSION = 8

_compared: dict[tuple[object, ...], str] = {}


def checked(converter: Converter, by: str = "") -> Converter:
    """Return a converter that refuses a node where another one is wrong or fails; `by` is its author in the notes."""

    def convert_and_check(node: Node, context: Context) -> Call:
        call = convert(converter, node, context)
        unchecked = _unchecked(converter, node, context)
        outcome = f"; {unchecked}, so its result is not checked" if unchecked else ", and agrees with ONNX Runtime"
        if by:
            context.notes[f"operator {node.operator} is converted by {by}{outcome}"] = None
        return call

    return convert_and_check


def convert(converter: Converter, node: Node, context: Context) -> Call:
    """Convert a node by an external converter, which can raise any exception and can return a plain function."""
    try:
        made: Any = converter(node, context)
    except AznasError:
        raise
    except RAISED as error:
        converter_of = f"node {node.name!r}: the converter of {node.operator}"
        raise UnsupportedOperatorError(f"{converter_of} fails: {summary(error)} ({place(error)})") from error
    return made if isinstance(made, Call) else Call(made, node.inputs)


def _unchecked(converter: Converter, node: Node, context: Context) -> str:
    """Compare a converter's result with ONNX Runtime's; return why that cannot be, or nothing where they agree.

    Raises UnsupportedOperatorError if they differ.
    """
    infos = [context.info(name) if name else None for name in node.inputs]
    if any(info is not None and info.shape is None for info in infos):
        return "the shapes of its operands depend on data"
    if sum(info.elements for info in infos if info is not None) > _MOST_ELEMENTS:
        return f"its operands have more than {_MOST_ELEMENTS:,} elements"
    described = signature(node, infos)
    key = (converter, *(described or (node.name,)))
    if described is None or key not in _compared:
        _compared[key] = _compare(converter, node, context, infos)
    return _compared[key]


def _compare(converter: Converter, node: Node, context: Context, infos: Sequence[TensorInfo | None]) -> str:
    given = {name: info for name, info in zip(node.inputs, infos, strict=True) if info is not None}
    operands = {name: _sample(info, index) for index, (name, info) in enumerate(given.items())}
    known = {name for name, info in given.items() if info.value is not None}
    outputs = [name for name in node.outputs if name]
    try:
        session = unoptimised_session(_model(node, operands, known).SerializeToString())
        expected = session.run(outputs, {name: value for name, value in operands.items() if name not in known})
    except Exception:  # noqa: BLE001  # ONNX Runtime raises its own classes straight from Exception
        return "ONNX Runtime does not run it"
    call = convert(converter, node, context.in_float32_on_cpu())
    try:
        with torch.no_grad():
            result = call.run(*(torch.from_numpy(operands[name]) if name else None for name in call.inputs))
        results = dict(zip(node.outputs, (result,) if isinstance(result, torch.Tensor) else result, strict=False))
        difference = _difference([results[name].numpy() for name in outputs], expected)
    except RAISED as error:
        difference = f"cannot be computed ({summary(error)})"
    if difference:
        reason = f"has a converter whose result {difference}, compared with ONNX Runtime's"
        raise unsupported(node, reason, "correct the converter, or end the network before it with --cut-at")
    return ""


def _sample(info: TensorInfo, index: int) -> Array:
    """Return operand `index`: its known value, otherwise floats (of both signs in the first operand) or zeros.

    Integers are indices in most operators, and so are the floats of some; other floats are therefore below 1.
    """
    if info.value is not None:
        return np.array(info.value)
    if not is_float(info.dtype):
        return np.zeros(info.shape or (), info.dtype)
    rng = np.random.default_rng(index)
    return np.asarray((rng.random if index else rng.standard_normal)(info.shape or ())).astype(info.dtype)


def _model(node: Node, operands: Mapping[str, Array], known: set[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node_proto(node)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in operands.items()
            if name not in known
        ],
        [onnx.ValueInfoProto(name=name) for name in node.outputs if name],
        [numpy_helper.from_array(operands[name], name) for name in sorted(known)],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(node.domain, node.version)], ir_version=_IR_VERSION
    )


def _difference(found: Sequence[Array], expected: Sequence[Array]) -> str:
    """Return how results differ; empty where they agree."""
    for left, right in zip(found, expected, strict=True):
        if left.shape != right.shape or left.dtype.kind != right.dtype.kind:
            return f"is {left.dtype}{list(left.shape)} and not {right.dtype}{list(right.shape)}"
        largest = float(np.max(np.abs(right[np.isfinite(right)]), initial=0.0))
        if not np.allclose(left, right, rtol=0.0, atol=_TOLERANCE * largest, equal_nan=True):
            return f"differs by up to {np.nanmax(np.abs(left.astype(np.float64) - right)):.3g}"
    return ""
