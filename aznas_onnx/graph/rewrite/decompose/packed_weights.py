"""Dequantise weights in formats of ONNX Runtime: a few bits per weight, or 8 bits transposed.

Their floats are a separate constant, computed on request.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aznas_onnx.graph.ir.graph import Array, Constant, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, expanding
from aznas_onnx.operators.operator_record import Attributes

__all__ = ["PACKED", "floats"]


def floats(
    editor: Editor, name: str, shape: tuple[int, ...], compute: Callable[..., Array], *operands: str
) -> str | None:
    """Add the dequantised weight as one constant, and return its name; None where an operand is not constant.

    - `name`: The stored weight. All operators that read it share the floats.
    - `compute`: Computes them from the data of the operands; an omitted operand is None.
    """
    constants = [editor.constant(operand) if operand else None for operand in operands]
    stored = editor.constant(name)
    if any(operand and (c is None or c.read is None) for operand, c in zip(operands, constants, strict=True)):
        return None
    made = f"{name}_floats"
    if editor.constant(made) is not None:
        return made
    storage = None if stored is None else stored.storage

    def read() -> Array:
        data = [None if constant is None or constant.read is None else constant.read() for constant in constants]
        values: Array = np.asarray(compute(*data), dtype=np.float32)
        values.shape = shape
        return values

    return editor.add_constant(Constant(shape=shape, dtype=np.dtype(np.float32), read=read, storage=storage), made)


def _unpacked(packed: Array, bits: int) -> Array:
    """Return the integers of `bits` bits in the bytes of the last axis, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8(2**bits - 1)
    return np.asarray(parts.reshape(*packed.shape[:-1], -1).astype(np.int32))


@expanding("com.microsoft::MatMulNBits")
def _matmul_of_bits(editor: Editor, node: Node) -> Declined:
    """MatMulNBits: each column of the weight in blocks, each with a scale and a zero point."""
    attributes: Attributes = node.attributes
    width, columns, block = attributes["K"], attributes["N"], attributes["block_size"]
    bits = attributes.get("bits", 4)
    if bits not in (2, 4, 8):
        return f"it has {bits} bits"
    blocks = -(-width // block)

    def compute(packed: Array, scales: Array, zeros: Array | None, groups: Array | None) -> Array:
        integers = _unpacked(packed.reshape(columns, -1), bits)[:, : blocks * block]
        if zeros is None:
            zeros = np.full((columns, blocks), 2 ** (bits - 1))
        elif zeros.dtype.kind in "iu":
            zeros = _unpacked(zeros.reshape(columns, -1), bits)[:, :blocks]
        of_block = np.arange(width) // block if groups is None else groups[:width]
        scale, zero = (table.reshape(columns, blocks)[:, of_block] for table in (scales, zeros))
        return (integers[:, :width] - zero.astype(np.float32)) * scale.astype(np.float32)

    operands = (node.inputs[1], node.inputs[2], node.input(3), node.input(4))
    weight = floats(editor, node.inputs[1], (columns, width), compute, *operands)
    if weight is None:
        return "its weight is not constant"
    patch = NodeBuilder(editor, node)
    product = patch.add("MatMul", node.inputs[0], patch.add("Transpose", weight, perm=(1, 0)), name=node.name)
    return patch.finish("Add", product, node.inputs[5]) if node.input(5) else patch.apply()


@expanding("com.microsoft::GatherBlockQuantized")
def _gather_of_blocks(editor: Editor, node: Node) -> Declined:
    """GatherBlockQuantized: a table in blocks along one axis."""
    attributes: Attributes = node.attributes
    block, bits = attributes.get("block_size", 128), attributes.get("bits", 4)
    table, scales = editor.constant(node.inputs[0]), editor.constant(node.inputs[2])
    if table is None or scales is None or bits not in (2, 4, 8):
        return "its table is not constant"
    is_packed = table.dtype == np.uint8
    shape = (*table.shape[:-1], table.shape[-1] * 8 // bits) if is_packed else table.shape
    axis = attributes.get("quantize_axis", 1) % len(shape)

    def compute(data: Array, scale: Array, zeros: Array | None) -> Array:
        integers = _unpacked(data, bits) if is_packed else data.astype(np.int32)
        if zeros is None:
            zeros = np.full(scale.shape, 2 ** (bits - 1) if is_packed else 0)
        elif is_packed:
            zeros = _unpacked(zeros, bits)[..., : scale.shape[-1]]
        spread = (
            np.repeat(part.astype(np.float32), block, axis).take(range(shape[axis]), axis) for part in (scale, zeros)
        )
        factor, zero = spread
        return (integers - zero) * factor

    operands = (node.inputs[0], node.inputs[2], node.input(3))
    weight = floats(editor, node.inputs[0], shape, compute, *operands)
    if weight is None:
        return "its table is not constant"
    patch = NodeBuilder(editor, node)
    gather_axis = attributes.get("gather_axis", 0)
    return patch.finish("Gather", weight, node.inputs[1], name=node.name, axis=gather_axis)


@expanding("com.microsoft::DynamicQuantizeLSTM")
def _lstm(editor: Editor, node: Node) -> Declined:
    """DynamicQuantizeLSTM: both weights in 8 bits and transposed, a scale for each direction or each gate's unit."""

    def compute(stored: Array, scale: Array, zero: Array | None) -> Array:
        directions = stored.shape[0]
        zeros = np.zeros(1) if zero is None else zero
        factor, shift = (
            part.astype(np.float32).reshape(directions, 1, -1) for part in (scale, np.broadcast_to(zeros, scale.shape))
        )
        return np.transpose((stored.astype(np.float32) - shift) * factor, (0, 2, 1))

    weights = []
    for index, scale in ((1, 8), (2, 10)):
        stored = editor.constant(node.inputs[index])
        if stored is None or len(stored.shape) != 3:
            return "its weights are not constant"
        shape = (stored.shape[0], stored.shape[2], stored.shape[1])
        made = floats(
            editor, node.inputs[index], shape, compute, node.inputs[index], node.inputs[scale], node.input(scale + 1)
        )
        if made is None:
            return "its weights are not constant"
        weights.append(made)
    patch = NodeBuilder(editor, node)
    inputs = (node.inputs[0], *weights, *node.inputs[3:8])
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return patch.finish("LSTM", *inputs, name=node.name, version=14, outputs=node.outputs, attributes=node.attributes)


PACKED: tuple[Rewrite, ...] = (*_matmul_of_bits, *_gather_of_blocks, *_lstm)
"""Rewrites of ONNX Runtime's operators on packed weights."""
