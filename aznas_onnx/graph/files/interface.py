"""What a file takes and returns: names, types and shapes, as it declares them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

__all__ = ["Interface", "Port", "declared_interface"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a file.

    - `name`: As programs feed or fetch it.
    - `kind`: Its element type (``float32``), or what it is where it is no tensor (``sequence``); empty where the file
      does not say.
    - `shape`: None in place of an open size; None where the file does not say.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The inputs that a file must be fed, and its outputs, in its order."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


def declared_interface(model: onnx.ModelProto) -> Interface:
    """Return the interface of a parsed file; initialisers that it lists as inputs need not be fed."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return Interface(
        inputs=_ports(value for value in model.graph.input if value.name not in constants),
        outputs=_ports(model.graph.output),
    )


def _ports(values: Iterable[onnx.ValueInfoProto]) -> tuple[Port, ...]:
    return tuple(Port(name=value.name, kind=_kind(value.type), shape=_shape(value.type)) for value in values)


def _kind(declared: onnx.TypeProto) -> str:
    found = declared.WhichOneof("value")
    if found != "tensor_type":
        return "" if found is None else found.removesuffix("_type")
    known = onnx.helper.get_all_tensor_dtypes()
    element = declared.tensor_type.elem_type
    return onnx.helper.tensor_dtype_to_np_dtype(element).name if element in known else ""


def _shape(declared: onnx.TypeProto) -> tuple[int | None, ...] | None:
    if declared.WhichOneof("value") != "tensor_type" or not declared.tensor_type.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in declared.tensor_type.shape.dim)
