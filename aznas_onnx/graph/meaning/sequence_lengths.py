"""Fill integer inputs that are sequence lengths with the whole length.

A length of one would mask all of a sequence but its first element. An input is a length if it is compared with the
positions of a sequence, or is the length operand of a recurrent layer::

    Less(Range(0, 50), lengths)          a mask of 50 positions: filled with 50
    LSTM(x, w, r, b, sequence_lens)      x of 20 steps: filled with 20
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from aznas_onnx.graph.files.inputs import InputPlan
from aznas_onnx.graph.ir.graph import Array, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.operators.sets import COMPARISONS, KEEPS_ORDER, RECURRENT, REPEATS

__all__ = ["with_lengths"]


def with_lengths(plan: InputPlan, graph: Graph, infos: TensorInfos) -> InputPlan:
    """Return a plan that fills lengths with the whole length; the given plan where no input is a length.

    - `plan`, `graph`, `infos`: Of a walk. Inputs with a value from the user, and ids, stay unchanged.
    """
    settled = {*plan.values, *(look_up.ids for look_up in plan.look_ups.values())}
    inputs = {value.name: value for value in graph.inputs if value.dtype.kind in "iu" and value.name not in settled}
    found = dict(_lengths(graph, infos, {name: name for name in inputs})) if inputs else {}
    if not found:
        return plan
    by_prefix = {f"input {name!r} ({inputs[name].dtype.name}) ": length for name, length in found.items()}
    warnings = [
        next(
            (
                f"{start}is a length and is filled with {by_prefix[start]}"
                for start in by_prefix
                if text.startswith(start)
            ),
            text,
        )
        for text in plan.warnings
    ]
    return replace(plan, fills=MappingProxyType({**plan.fills, **found}), warnings=tuple(warnings))


def _lengths(graph: Graph, infos: TensorInfos, roots: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Yield inputs and the whole lengths that they measure; `roots` has the input that each tensor repeats."""
    for node in (node for node in graph.nodes if not node.unknown):
        if (node in KEEPS_ORDER or node in REPEATS) and node.input(0) in roots:
            roots[node.outputs[0]] = roots[node.inputs[0]]
        elif node in COMPARISONS and not node.is_op("Equal"):
            for name, other in (node.inputs, node.inputs[::-1]):
                length = _positions(infos.value(other))
                if name in roots and length:
                    yield roots[name], length
        else:
            name, axis = _measured(node, roots)
            shape = infos[node.inputs[0]].shape if name else None
            if shape is not None and -len(shape) <= axis < len(shape):
                yield roots[name], shape[axis]


def _measured(node: Node, roots: Mapping[str, str]) -> tuple[str, int]:
    """Return the operand with the length of the first operand, and the axis; an empty name where there is none."""
    attributes = node.attributes
    if node in RECURRENT and node.input(4) in roots:
        return node.input(4), 1 if attributes.get("layout") else 0
    axis = attributes.get("time_axis", 0)
    if node.is_op("ReverseSequence") and node.input(1) in roots and isinstance(axis, int):
        return node.input(1), axis
    return "", 0


def _positions(value: Array | None) -> int:
    """Return the number of positions if a known tensor counts from zero, else 0."""
    if value is None or value.dtype.kind not in "iuf" or value.size < 2:
        return 0
    distinct = np.unique(value)
    return distinct.size if np.array_equal(distinct, np.arange(distinct.size)) else 0
