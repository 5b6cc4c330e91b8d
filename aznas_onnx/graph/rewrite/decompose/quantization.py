"""Remove fake quantisation: pairs of QuantizeLinear and DequantizeLinear.

A quantiser drops a ReLU in front of such a pair where the pair's own range already ends at zero:

    before  Conv - Clip(0, 6) - Conv            after  Conv - Quantize(zero point = smallest) - Dequantize - Conv

so removing the pair must restore the activation, or the network would be linear. The tensor has the name of the
activation's output, which distinguishes such a range from one that was positive by chance on the calibration data;
behind integer arithmetic (`integer_arithmetic`) the range alone decides. Integer weights are dequantised.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from aznas_onnx.graph.ir.graph import Array, Constant, Node
from aznas_onnx.graph.rewrite.decompose.packed_weights import floats
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import VERSIONS, NodeBuilder
from aznas_onnx.graph.rewrite.nonnegative import is_nonnegative
from aznas_onnx.graph.rewrite.rule import plural
from aznas_onnx.graph.shapes.constant_evaluation import evaluate
from aznas_onnx.operators import OPERATORS
from aznas_onnx.operators.sets import LAYERS, MOVES_INTEGERS, SHAPE_QUERIES

__all__ = ["FAKE_QUANTISATION", "QUANTISED_WEIGHTS", "dequantise_tables", "strip_fake_quantisation"]

FAKE_QUANTISATION = "fake quantisation taken out of"
QUANTISED_WEIGHTS = "quantised weights taken as floats"
"""What the sentences on each kind of change begin with."""


_QUANTIZE = OPERATORS.where(lambda operator: operator.name == "QuantizeLinear")  # ONNX's, and ONNX Runtime's own
_DEQUANTIZE = OPERATORS.where(lambda operator: operator.name == "DequantizeLinear")
_FLOATS = ("float16", "float32", "float64")
# A name that is the operator's own: nothing came after it.
_OWN_NAME = re.compile(r"conv|gemm|matmul|linear|add|getitem|batch_?norm|bias", re.IGNORECASE)
_ACTIVATION = re.compile(r"relu|clip|hardtanh", re.IGNORECASE)
# Whether the activation had an upper end is not in the range, which is what was observed on calibration data.
_BOUNDED = re.compile(r"relu6|hardtanh|clip", re.IGNORECASE)


def strip_fake_quantisation(editor: Editor) -> tuple[str, ...]:
    """Remove quantise-dequantise pairs from activations; return what was done in words for the user."""
    if not editor.has(*_QUANTIZE, *_DEQUANTIZE, "DynamicQuantizeLinear"):
        return ()
    pairs = restored = weights = 0
    for node in editor.nodes(*_QUANTIZE):
        _drop_integer_clip(editor, node)
        _pad_with_floats(editor, node)
        restored += _strip_quantize(editor, node)
        pairs += 1
    for node in editor.nodes(*_DEQUANTIZE):
        constant = editor.constant(node.inputs[0])
        if constant is None or constant.dtype.name in _FLOATS:
            editor.substitute(node, node.inputs[0])
        else:
            _store_floats(editor, node, constant)
            weights += 1
    for node in editor.nodes("DynamicQuantizeLinear"):
        editor.substitute(node, node.inputs[0])
        pairs += 1
    if not pairs:
        return (f"{QUANTISED_WEIGHTS} in {plural(weights, 'tensor')}",) if weights else ()
    message = f"{FAKE_QUANTISATION} {plural(pairs, 'tensor')}"
    return (message + (f", and {plural(restored, 'activation')} that it had absorbed put back" if restored else ""),)


def _store_floats(editor: Editor, node: Node, stored: Constant) -> None:
    """Replace an integer weight by its floats, which decide what is trained."""
    standard = replace(node, domain="", version=VERSIONS["DequantizeLinear"])

    def compute(*operands: Array | None) -> Array:
        return evaluate(standard, operands)[0]

    made = floats(editor, node.inputs[0], stored.shape, compute, *node.inputs)
    if made is not None:
        editor.substitute(node, made)


def dequantise_tables(editor: Editor) -> None:
    """Dequantise tables of integers before rows of them are looked up, and not after: they are weights."""
    for node in editor.nodes("Gather"):
        maker = editor.producer(node.inputs[0])
        table = editor.constant(node.inputs[0])
        ends = [maker] if maker is not None and maker.is_op("DequantizeLinear") else _ends(editor, node.outputs[0])
        operands = {end.inputs[1:] for end in ends or ()}
        stored = editor.constant(maker.inputs[0]) if maker is not None and maker in (ends or ()) else table
        if stored is None or stored.is_float or not ends or len(operands) != 1 or ends[0].attributes.get("block_size"):
            continue
        name = ends[0].inputs[0] if stored is not table else node.inputs[0]
        scale = editor.constant(ends[0].input(1))
        if scale is None or scale.elements != 1:
            continue
        standard = replace(ends[0], domain="", version=VERSIONS["DequantizeLinear"], attributes={})

        def compute(*data: Array | None, standard: Node = standard) -> Array:
            return evaluate(standard, data)[0]

        made = floats(editor, name, stored.shape, compute, name, *ends[0].inputs[1:])
        if made is None:
            continue
        editor.update(node, inputs=(made, *node.inputs[1:]))
        if stored is table:
            for end in ends:
                current = editor.current(end)
                if current is not None:
                    editor.substitute(current, current.inputs[0])


def _ends(editor: Editor, name: str) -> list[Node] | None:
    """Return the nodes that dequantise a tensor behind what moves its elements; None where anything else reads it."""
    found: list[Node] = []
    for reader in editor.readers(name):
        if reader.is_op("DequantizeLinear"):
            found.append(reader)
        elif reader in MOVES_INTEGERS and reader.inputs[0] == name:
            behind = _ends(editor, reader.outputs[0])
            if behind is None:
                return None
            found += behind
        elif reader not in SHAPE_QUERIES:
            return None
    return found


def _pad_with_floats(editor: Editor, node: Node) -> None:
    """Let a Pad between the pair pad with its dequantised value."""
    reader = editor.sole_reader(node.outputs[0])
    value = editor.array(reader.input(2)) if reader is not None and reader.is_op("Pad") else None
    scale, zero = editor.array(node.input(1)), editor.array(node.input(2))
    if reader is None or value is None or value.size != 1 or scale is None or scale.size != 1:
        return
    integer = float(value.reshape(())) - (0.0 if zero is None else float(zero.reshape(-1)[0]))
    name = editor.add_array(np.array(integer * float(scale.reshape(())), dtype=np.float32), f"{reader.name}/value")
    editor.update(reader, inputs=(*reader.inputs[:2], name, *reader.inputs[3:]))


def _drop_integer_clip(editor: Editor, node: Node) -> None:
    """Remove a Clip between the pair, which narrows the integer range."""
    reader = editor.sole_reader(node.outputs[0])
    if reader is not None and reader.is_op("Clip"):
        editor.substitute(reader, node.outputs[0])


def _strip_quantize(editor: Editor, node: Node) -> bool:
    """Remove a QuantizeLinear; return whether an activation took its place."""
    source = node.inputs[0]
    producer = editor.producer(source)
    absorbed = producer is not None and _absorbed_activation(producer, source) and _starts_at_zero(editor, node)
    if not absorbed or is_nonnegative(editor, source):
        editor.substitute(node, source)
        return False
    patch = NodeBuilder(editor, node)
    if _BOUNDED.search(source):
        patch.finish("Clip", source, patch.scalar(0.0), patch.scalar(6.0))
    else:
        patch.finish("Relu", source)
    return True


def _absorbed_activation(producer: Node, name: str) -> bool:
    """Whether an activation can have followed a node, by the name of its output.

    Only the last part of a path counts. For an operator with negative results it is enough that the name is not its
    own; for others the name must contain the activation.
    """
    last = name.rstrip("/").rpartition("/")[2]
    if _ACTIVATION.search(last):
        return True
    # These can end in negative numbers, so that a range from zero on is the trace of an activation.
    is_signed = producer in LAYERS or producer.is_op("Add", "Sub", "Sum", "BatchNormalization")
    return is_signed and not _OWN_NAME.search(last)


def _starts_at_zero(editor: Editor, node: Node) -> bool:
    """Whether the smallest integer is zero after dequantisation."""
    zero_point = editor.array(node.input(2)) if node.input(2) else None
    if zero_point is None:
        return not node.input(2) and not node.attributes.get("output_dtype")  # the default is uint8 with zero point 0
    return zero_point.dtype.kind in "iu" and bool((zero_point == np.iinfo(zero_point.dtype).min).all())
