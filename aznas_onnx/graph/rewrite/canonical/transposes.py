"""Turn channels-last arithmetic between channels-first operators to channels-first.

TensorFlow works on (batch, height, width, channels), ONNX convolutions on (batch, channels, height, width), so its
exporter writes

    Conv - Transpose - Mul - HardSwish - Transpose - Conv

and cancels the inner two where it can. Here a connected region of elementwise operators is turned as a whole, if all of
its inputs are constants or transposed for it, and all of its outputs are transposed back. Regions with any other border
stay: PyTorch's permutations have a meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.rewrite.canonical.linear import reshaped
from aznas_onnx.graph.rewrite.canonical.pooling import reduced_axes
from aznas_onnx.graph.rewrite.canonical.splitting import inverse, permutation
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.operators.sets import ELEMENTWISE, REDUCTIONS, UNCHANGED

__all__ = ["turn_regions"]


@dataclass(slots=True)
class _Region:
    order: tuple[int, ...] | None = None
    nodes: list[Node] = field(default_factory=list)
    is_turnable: bool = True


def turn_regions(editor: Editor) -> int:
    """Turn every region that can be; return how many were."""
    if not editor.has("Transpose"):
        return 0
    turned = 0
    for region in _regions(editor):
        if any(editor.current(node) is not node for node in region.nodes):
            continue  # a neighbour was turned and removed a border: the next round handles the new region
        if region.is_turnable and region.order is not None and _ends_well(editor, region):
            _turn(editor, region, region.order)
            turned += 1
    return turned


def _regions(editor: Editor) -> Iterable[_Region]:
    """Divide the elementwise nodes into connected regions, each with the permutation that enters it."""
    region_of: dict[str, _Region] = {}
    for node in editor.nodes():
        along_axes = node in REDUCTIONS or node.is_op("Pad")
        if not (node in ELEMENTWISE or along_axes or node in UNCHANGED or node.is_op("Concat")):
            continue
        region = _Region(nodes=[node])
        for name in dict.fromkeys(node.inputs[:1] if along_axes else node.inputs):
            if not name or editor.constant(name) is not None:
                continue
            if name in region_of:
                region = _joined(region_of, region_of[name], region)
            else:
                _enter(editor, region, name)
        if len(node.outputs) == 1:
            region_of[node.outputs[0]] = region
    return {id(region): region for region in region_of.values()}.values()


def _joined(region_of: dict[str, _Region], left: _Region, right: _Region) -> _Region:
    """Join the smaller region to the larger one."""
    if left is right:
        return left
    if len(left.nodes) < len(right.nodes):
        left, right = right, left
    left.nodes.extend(right.nodes)
    same = left.order is None or right.order is None or left.order == right.order
    left.is_turnable = left.is_turnable and right.is_turnable and same
    left.order = left.order or right.order
    for node in right.nodes:
        for name in node.outputs:
            if name in region_of:
                region_of[name] = left
    return left


def _enter(editor: Editor, region: _Region, name: str) -> None:
    """Take account of a tensor that enters a region from outside."""
    producer = editor.producer(name)
    order = permutation(editor, producer) if producer is not None and producer.is_op("Transpose") else None
    if order is None or (region.order is not None and region.order != order):
        region.is_turnable = False
    region.order = region.order or order


def _ends_well(editor: Editor, region: _Region) -> bool:
    """Whether every node can be turned, and everything that leaves the region is transposed back or loses the axes."""
    order = region.order
    assert order is not None
    inside = set(region.nodes)
    back = inverse(order)
    for node in region.nodes:
        output = node.outputs[0]
        if not _can_turn(editor, node, order):
            return False
        if editor.rank(output) != len(order):
            continue  # _can_turn has seen that the remaining axes are in order
        if editor.is_protected(output):
            return False
        for reader in editor.readers(output):
            undone = reader.is_op("Transpose") and permutation(editor, reader) == back
            if reader not in inside and not (undone and not editor.is_protected(reader.outputs[0])):
                return False
    return True


def _can_turn(editor: Editor, node: Node, order: tuple[int, ...]) -> bool:
    rank = len(order)
    if node.is_op("Concat"):
        return all(editor.rank(name) == rank and editor.constant(name) is None for name in node.inputs)
    if node.is_op("Pad"):
        return node.version >= 11 and not node.input(3) and editor.integers(node.inputs[1]) is not None
    if node in REDUCTIONS:
        axes = reduced_axes(editor, node)
        if not axes:
            return False
        kept = [axis for index, axis in enumerate(order) if index not in axes]
        return bool(node.attributes.get("keepdims", 1)) or kept == sorted(kept)
    ranks = [editor.rank(name) for name in node.inputs if name]
    return editor.rank(node.outputs[0]) == rank and all(found is not None and found <= rank for found in ranks)


def _turn(editor: Editor, region: _Region, order: tuple[int, ...]) -> None:
    back = inverse(order)
    names: dict[str, str] = {}
    for node in sorted(region.nodes, key=editor.position):
        patch = NodeBuilder(editor, node)
        names[node.outputs[0]] = _turn_node(editor, patch, node, names, order)
        patch.insert()
    for old, new in names.items():
        for reader in editor.readers(old):
            if reader.is_op("Transpose") and permutation(editor, reader) == back:
                editor.substitute(reader, new)
        _redirect_reduced(editor, old, new, len(order))


def _turn_node(editor: Editor, patch: NodeBuilder, node: Node, names: dict[str, str], order: tuple[int, ...]) -> str:
    """Write a node on tensors in the other order, and return its output."""
    attributes: dict[str, Any] = dict(node.attributes)
    name, version = editor.unique(node.name), node.version
    if node.is_op("Pad"):
        pads = editor.integers(node.inputs[1])
        assert pads is not None  # checked by _can_turn
        back = inverse(order)
        turned = patch.integers(*(pads[axis] for axis in back), *(pads[axis + len(order)] for axis in back))
        inputs: tuple[str, ...] = (_turned_input(editor, node.inputs[0], names, order), turned, *node.inputs[2:3])
    elif node in REDUCTIONS:
        axes = reduced_axes(editor, node)
        assert axes is not None  # checked by _can_turn
        attributes, version = {"keepdims": attributes.get("keepdims", 1)}, max(version, 18)
        turned = patch.integers(*sorted(order[axis] for axis in axes))
        inputs = (_turned_input(editor, node.inputs[0], names, order), turned)
    else:
        if node.is_op("Concat"):
            attributes["axis"] = order[attributes["axis"] % len(order)]
        inputs = tuple(_turned_input(editor, name, names, order) for name in node.inputs)
    return patch.add(node.op_type, *inputs, name=name, version=version, attributes=attributes)


def _redirect_reduced(editor: Editor, old: str, new: str, rank: int) -> None:
    """Let readers of a tensor that has lost the turned axes read its new form."""
    producer = editor.producer(old)
    if producer is not None and editor.rank(old) != rank:
        editor.substitute(producer, new)


def _turned_input(editor: Editor, name: str, names: dict[str, str], order: tuple[int, ...]) -> str:
    if not name:
        return name
    if name in names:
        return names[name]
    constant = editor.constant(name)
    if constant is not None:
        return _turned_constant(editor, name, constant, order)
    producer = editor.producer(name)
    assert producer is not None
    assert producer.is_op("Transpose")  # everything else was seen before
    return producer.inputs[0]


def _turned_constant(editor: Editor, name: str, constant: Constant, order: tuple[int, ...]) -> str:
    if constant.elements == 1:
        return name
    full = (1,) * (len(order) - len(constant.shape)) + constant.shape
    back = inverse(order)
    padded = reshaped(constant, full)
    turned = reshaped(padded, tuple(full[axis] for axis in back), back)
    return editor.add_constant(turned, f"{name}/channels_first")
