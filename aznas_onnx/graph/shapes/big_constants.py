"""Compute large known values on request instead of storing them during a walk.

An exporter writes ``attention[:, :, :, :] = ...`` as a scatter to an index table with one row per element: millions of
rows per block. The walk does not store such tables; this module computes one, checks it and drops it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Array, Constant, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.constant_evaluation import evaluate, is_simple

__all__ = ["BigConstants"]

_MAX_ELEMENTS = 2**24  # of one value
_MAX_WORK = 2**28  # elements of all values together
_MAX_DEPTH = 16
_CALL = 1024  # the cost of a value, in elements


class BigConstants:
    """The values of tensors that follow from constants.

    - `infos`, `constants`: Those of a walk in progress; read only.
    """

    def __init__(self, infos: Mapping[str, TensorInfo], constants: Mapping[str, Constant]) -> None:
        self._infos = infos
        self._constants = constants
        self._producers: dict[str, Node] = {}
        self._work = 0

    def add(self, node: Node) -> None:
        """Record a node of the walk that can be computed later."""
        if is_simple(node):
            self._producers[node.outputs[0]] = node

    def columns(self, name: str) -> list[Array] | None:
        """Return an index table as one array per entry of its last axis, or None where it is unknown.

        A Concat along that axis is read part by part and never stored as a whole.
        """
        shape = self._infos[name].shape
        producer = self._producers.get(name)
        parts: Sequence[str] = (name,)
        if shape and producer is not None and producer.is_op("Concat"):
            along = producer.attributes.get("axis")
            parts = producer.inputs if along in (-1, len(shape) - 1) else parts
        found: list[Array] = []
        for part in parts:
            value = self._value(part, _MAX_DEPTH)
            if value is None or value.ndim == 0:
                return None
            found.extend(np.moveaxis(value, -1, 0))
        return found

    def _value(self, name: str, depth: int) -> Array | None:
        info = self._infos.get(name)
        if info is None or info.value is not None:
            return None if info is None else info.value
        self._work += info.elements + _CALL
        if depth == 0 or info.elements > _MAX_ELEMENTS or self._work > _MAX_WORK:
            return None
        constant, producer = self._constants.get(name), self._producers.get(name)
        if constant is not None:
            return None if constant.read is None else constant.read()
        if producer is None:
            return None
        inputs = [self._value(operand, depth - 1) if operand else None for operand in producer.inputs]
        if any(value is None for operand, value in zip(producer.inputs, inputs, strict=True) if operand):
            return None
        try:
            return evaluate(producer, inputs)[0]
        except ModelError:  # the walk reports it with a better message
            return None
