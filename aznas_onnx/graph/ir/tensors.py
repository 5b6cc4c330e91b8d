"""Tensors of a model file: size, location of the data, reading."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from aznas_onnx.caches import cached
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.git_lfs import FETCH_IT, is_pointer_file
from aznas_onnx.graph.ir.graph import Array
from aznas_onnx.graph.ir.stored_data import StoredData

__all__ = [
    "MOST_AXES",
    "check_tensor",
    "function_tensors",
    "is_external",
    "is_missing",
    "location_of",
    "node_tensors",
    "own_tensors",
    "plain_dtype",
    "read_tensor",
    "size_bytes",
]


class MissingDataError(ModelError):
    """The file of a tensor's data is not beside the model."""


MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""The largest number of axes in numpy; torch has 64."""

# Types that pack several elements into a byte; numpy has one byte for each.
_BITS = {
    getattr(onnx.TensorProto, name): bits
    for name, bits in {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.items()
    if hasattr(onnx.TensorProto, name)
}

_FLOATS = frozenset(map(onnx.TensorProto.DataType.Value, ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")))
_TYPES = "FLOAT DOUBLE FLOAT16 BFLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL"
_PLAIN = frozenset(map(onnx.TensorProto.DataType.Value, _TYPES.split()))


def own_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a graph that are not attributes of its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a node, those in graphs inside it included."""
    kind = onnx.AttributeProto
    for attribute in node.attribute:
        if attribute.type == kind.TENSOR:
            yield attribute.t
        elif attribute.type == kind.TENSORS:
            yield from attribute.tensors
        elif attribute.type == kind.SPARSE_TENSOR:
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        elif attribute.type == kind.GRAPH:
            yield from _graph_tensors(attribute.g)
        elif attribute.type == kind.GRAPHS:
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


def function_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in the functions of a model."""
    for function in model.functions:
        for node in function.node:
            yield from node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from own_tensors(graph)
    for node in graph.node:
        yield from node_tensors(node)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is in a separate file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def location_of(tensor: onnx.TensorProto) -> str:
    """Return the file with the data of an external tensor, as the model names it; empty where it names none."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def is_missing(tensor: onnx.TensorProto, folder: Path | None) -> bool:
    """Whether a float tensor's data is in a file that is not there: its shape is known, and that is enough of a weight.

    Shapes are computed from integers, which are needed. Raises ModelError if the tensor's file cannot be one.
    """
    if not is_external(tensor) or tensor.data_type not in _FLOATS:
        return False
    try:
        _place(tensor, folder)
    except MissingDataError:
        return True
    return False


def size_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes that a tensor's data takes in a file, by its shape and type.

    Raises ModelError if the type is unknown, a dimension negative, or there are too many.
    """
    shape = tuple(tensor.dims)
    if len(shape) > MOST_AXES:
        raise ModelError(
            f"tensor {tensor.name!r} has {len(shape):,} axes, but at most {MOST_AXES} can be computed with"
        )
    if shape and min(shape) < 0:
        raise ModelError(f"tensor {tensor.name!r} has a negative dimension {shape}")
    elements: int = math.prod(shape)
    if tensor.data_type == onnx.TensorProto.STRING:
        return elements
    if tensor.data_type in _BITS:
        return (elements * _BITS[tensor.data_type] + 7) // 8
    try:
        return elements * _item_bytes(tensor.data_type)
    except KeyError as error:
        raise ModelError(f"tensor {tensor.name!r} has an unknown data type {tensor.data_type}") from error


@cached(64, "needed for every tensor")
def _item_bytes(data_type: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def check_tensor(tensor: onnx.TensorProto, folder: Path | None, stored: StoredData | None = None) -> None:
    """Check the size and the location of a tensor's data, of which `stored` has been left in the model's file.

    Raises ModelError if it does not.
    """
    needed = size_bytes(tensor)
    if is_external(tensor):
        _place(tensor, folder)
        return
    raw_bytes = needed if stored is None else stored.end - stored.start
    if tensor.HasField("raw_data"):
        raw_bytes = len(tensor.raw_data)
    if raw_bytes != needed:
        raise ModelError(
            f"tensor {tensor.name!r} has {raw_bytes:,} bytes of data, "
            f"but its shape {tuple(tensor.dims)} needs {needed:,}"
        )
    if tensor.data_type == onnx.TensorProto.STRING:
        _check_strings(tensor, needed)


def _check_strings(tensor: onnx.TensorProto, count: int) -> None:
    if len(tensor.string_data) != count:
        raise ModelError(
            f"tensor {tensor.name!r} has {len(tensor.string_data):,} strings, "
            f"but its shape {tuple(tensor.dims)} needs {count:,}"
        )
    try:
        for text in tensor.string_data:
            text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"tensor {tensor.name!r} holds text that is no UTF-8: {text[:40]!r}") from error


def read_tensor(tensor: onnx.TensorProto, folder: Path | None) -> Array:
    """Return a tensor's data; raise ModelError if it cannot be read any more."""
    if not is_external(tensor):
        return _array(tensor)
    path, offset = _place(tensor, folder)
    needed = size_bytes(tensor)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(needed)
    except OSError as error:
        raise ModelError(f"external data {path} cannot be read: {error.strerror or error}") from error
    if len(content) < needed:
        raise ModelError(f"external data {path} is truncated: {needed:,} bytes at offset {offset:,} are needed")
    return _array(onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=content))


@cached(64, "needed for every tensor")
def plain_dtype(data_type: int) -> np.dtype[Any] | None:
    """Return the dtype of raw data that numpy takes as it is; None where it is packed or in another byte order."""
    if data_type not in _PLAIN or sys.byteorder != "little":
        return None
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))


def _array(tensor: onnx.TensorProto) -> Array:
    dtype = plain_dtype(tensor.data_type)
    try:
        if dtype is not None and tensor.HasField("raw_data") and not tensor.HasField("segment"):
            return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
        return numpy_helper.to_array(tensor)
    except (OverflowError, TypeError, ValueError) as error:  # data that is not of the type and shape that it claims
        reason = str(error).partition("\n")[0][:200]
        raise ModelError(f"tensor {tensor.name!r} of shape {tuple(tensor.dims)} cannot be read: {reason}") from error


def _place(tensor: onnx.TensorProto, folder: Path | None) -> tuple[Path, int]:
    """Return the file with a tensor's data, inside `folder`, and the offset of the data in it."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"external data {location[:200]!r} of tensor {tensor.name!r}"
    if folder is None:
        raise ModelError(f"{what} cannot be found for a model in memory; give the model's path instead")
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelError(f"{what} are strings; only numbers may lie outside the model's file")
    try:
        root = folder.resolve()
        path = (root / location).resolve()
        if not location or Path(location).is_absolute() or not path.is_relative_to(root):
            raise ModelError(f"{what} points outside the model's folder; only files beside the model are read")
        if path.exists() and not path.is_file():
            raise ModelError(f"{what} is no file; keep the data file beside the model")
        if not path.exists():
            raise MissingDataError(f"{what} does not exist; keep the data file beside the model")
        if is_pointer_file(path):
            raise MissingDataError(f"{what} is a Git LFS pointer and not the data itself; {FETCH_IT}")
        available = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:  # a path too long, a loop of links, a null character
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{what} cannot be found: {error}") from error
    needed = size_bytes(tensor)
    offset, length = (_number(entries.get(key), default, what) for key, default in (("offset", 0), ("length", needed)))
    if length < needed or offset + length > available:
        raise ModelError(f"{what} is truncated: {needed:,} bytes at offset {offset:,} are needed")
    return path, offset


def _number(text: str | None, default: int, what: str) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise ModelError(f"{what} has the offset or length {text[:40]!r}, which is no size")
    return int(text)
