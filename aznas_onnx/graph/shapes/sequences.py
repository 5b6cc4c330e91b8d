"""Replace sequences and optional values by their tensors.

A sequence that is split and joined at known positions is another spelling of Split, Concat and tensor names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.control_flow import Resolution, known_scalar, stack
from aznas_onnx.limits import spend
from aznas_onnx.operators import Rules

__all__ = ["Sequences"]

_MOST_PIECES = 2**12
_MOST_TENSORS = 2**20


class Sequences:
    """The sequences of a walk, each as the names of its tensors, and the empty optional values.

    - `infos`: The infos of the walk; read only.
    """

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = infos
        self._elements: dict[str, tuple[str, ...]] = {}
        self._absent: set[str] = set()
        self._count = 0

    def __contains__(self, name: object) -> bool:
        return name in self._elements or name in self._absent

    def elements(self, name: str) -> tuple[str, ...]:
        """Return the tensors of a name: those of a sequence, or the name itself."""
        return () if name in self._absent else self._elements.get(name, (name,))

    def resolve(self, node: Node) -> Resolution | None:
        """Return the nodes that replace a node on sequences, none where it only renames; None for other nodes.

        Raises UnsupportedOperatorError if a position depends on data.
        Raises ModelError if there is no such position.
        """
        if node.domain:
            return None
        rule = _RULES.get(node.op_type)
        if rule is None:
            if node.op_type != "Identity" or node.input(0) not in self:
                return None
            rule = _alias
        result = Resolution()
        rule(self, node, result)
        return result

    def _held(self, node: Node) -> tuple[str, ...]:
        name = node.input(0)
        if name not in self._elements:
            raise UnsupportedOperatorError(
                f"node {node.name!r} ({node.operator}): what the sequence {name!r} holds is not known"
            )
        return self._elements[name]

    def _keep(self, node: Node, elements: tuple[str, ...]) -> None:
        spend(node, len(elements))
        self._count += len(elements)
        if self._count > _MOST_TENSORS:
            raise ModelError(
                f"node {node.name!r} ({node.operator}): the sequences of the graph name more than {_MOST_TENSORS:,} "
                "tensors; export the model without them"
            )
        self._elements[node.outputs[0]] = elements

    def _position(self, node: Node, index: int, size: int, default: int) -> int:
        """Return the position that input `index` names among `size`, counted from the end where it is negative."""
        if not node.input(index):
            return default
        known = known_scalar(self._infos, node.input(index))
        if known is None:
            raise UnsupportedOperatorError(f"node {node.name!r} ({node.operator}): its position depends on data")
        position = int(known)
        last = size - 1 if default < size else size  # an insertion can be behind the last
        if not -size <= position <= last:
            raise ModelError(f"node {node.name!r} ({node.operator}) asks for position {position} of {size}")
        return position + size if position < 0 else position

    def _sizes(self, node: Node, length: int) -> list[int]:
        """Return the sizes of the pieces that SplitToSequence makes of an axis."""
        if not node.input(1):
            return self._pieces(node, length, 1)
        given = self._infos[node.input(1)].value
        if given is None:
            raise UnsupportedOperatorError(f"node {node.name!r} ({node.operator}): the sizes depend on data")
        if given.ndim:
            return [int(size) for size in given.reshape(-1)]
        if given < 1:
            raise ModelError(f"node {node.name!r} ({node.operator}) makes pieces of size {int(given)}")
        return self._pieces(node, length, int(given))

    def _pieces(self, node: Node, length: int, size: int) -> list[int]:
        if length > size * _MOST_PIECES:
            raise UnsupportedOperatorError(
                f"node {node.name!r} ({node.operator}) makes more than {_MOST_PIECES:,} pieces"
            )
        return [min(size, length - begin) for begin in range(0, length, size)]


_Rule: TypeAlias = Callable[[Sequences, Node, Resolution], None]
_RULES: Rules[_Rule] = Rules()


@_RULES.on("Optional")
def _alias(sequences: Sequences, node: Node, result: Resolution) -> None:
    """Give a sequence, or an optional value, another name."""
    name = node.input(0)
    if name in sequences._elements:
        sequences._keep(node, sequences._elements[name])
    elif name in sequences._absent or not name:
        sequences._absent.add(node.outputs[0])
    else:
        _rename(node, result, name)


def _rename(node: Node, result: Resolution, name: str) -> None:
    result.nodes.append(
        Node(op_type="Identity", version=node.version, name=node.name, inputs=(name,), outputs=node.outputs[:1])
    )


@_RULES.on("SplitToSequence")
def _split(sequences: Sequences, node: Node, result: Resolution) -> None:
    name = node.input(0)
    shape = sequences._infos[name].shape
    axis: Any = node.attributes.get("axis", 0)
    if shape is None:
        raise UnsupportedOperatorError(f"node {node.name!r} ({node.operator}): the size of {name!r} depends on data")
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"node {node.name!r} ({node.operator}) splits axis {axis} of a tensor of shape {shape}")
    sizes = sequences._sizes(node, shape[axis])
    if not sizes:
        raise ModelError(f"node {node.name!r} ({node.operator}) splits an axis without elements")
    pieces = [f"{node.outputs[0]}/{index}" for index in range(len(sizes))]
    split_name = f"{node.outputs[0]}/sizes"
    result.constants[split_name] = Constant.of(np.array(sizes, dtype=np.int64))
    result.nodes.append(
        Node(op_type="Split", version=13, name=node.name, inputs=(name, split_name), outputs=tuple(pieces),
             attributes=MappingProxyType({"axis": axis}))
    )  # fmt: skip
    if not node.input(1) and not node.attributes.get("keepdims", 1):
        pieces = [_without_axis(node, result, piece, axis) for piece in pieces]
    sequences._keep(node, tuple(pieces))


def _without_axis(node: Node, result: Resolution, piece: str, axis: int) -> str:
    output, axes = f"{piece}/squeezed", f"{piece}/axis"
    result.constants[axes] = Constant.of(np.array([axis], dtype=np.int64))
    result.nodes.append(Node(op_type="Squeeze", version=13, name=output, inputs=(piece, axes), outputs=(output,)))
    return output


@_RULES.on("SequenceAt")
def _at(sequences: Sequences, node: Node, result: Resolution) -> None:
    held = sequences._held(node)
    _rename(node, result, held[sequences._position(node, 1, len(held), 0)])


@_RULES.on("SequenceConstruct", "SequenceEmpty")
def _construct(sequences: Sequences, node: Node, result: Resolution) -> None:
    sequences._keep(node, tuple(filter(None, node.inputs)))


@_RULES.on("SequenceInsert")
def _insert(sequences: Sequences, node: Node, result: Resolution) -> None:
    held = sequences._held(node)
    position = sequences._position(node, 2, len(held), len(held))
    sequences._keep(node, (*held[:position], node.inputs[1], *held[position:]))


@_RULES.on("SequenceErase")
def _erase(sequences: Sequences, node: Node, result: Resolution) -> None:
    held = sequences._held(node)
    position = sequences._position(node, 1, len(held), len(held) - 1)
    sequences._keep(node, (*held[:position], *held[position + 1 :]))


@_RULES.on("SequenceLength")
def _length(sequences: Sequences, node: Node, result: Resolution) -> None:
    result.constants[node.outputs[0]] = Constant.of(np.array(len(sequences._held(node)), dtype=np.int64))


@_RULES.on("ConcatFromSequence")
def _concat(sequences: Sequences, node: Node, result: Resolution) -> None:
    held = sequences._held(node)
    axis: Any = node.attributes.get("axis", 0)
    if not held:
        raise ModelError(f"node {node.name!r} ({node.operator}) joins a sequence that holds nothing")
    if node.attributes.get("new_axis", 0):
        _rename(node, result, stack(result, node, 0, list(held), axis))
        return
    result.nodes.append(
        Node(op_type="Concat", version=node.version, name=node.name, inputs=held, outputs=node.outputs[:1],
             attributes=MappingProxyType({"axis": axis}))
    )  # fmt: skip


@_RULES.on("OptionalHasElement")
def _has_element(sequences: Sequences, node: Node, result: Resolution) -> None:
    is_there = bool(node.input(0)) and node.input(0) not in sequences._absent
    result.constants[node.outputs[0]] = Constant.of(np.array(is_there))


@_RULES.on("OptionalGetElement")
def _get_element(sequences: Sequences, node: Node, result: Resolution) -> None:
    if node.input(0) in sequences._absent:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) reads {node.input(0)!r}, an optional value that is absent"
        )
    _alias(sequences, node, result)
