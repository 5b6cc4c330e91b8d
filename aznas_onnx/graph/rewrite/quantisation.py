"""Fake quantisation taken out: pairs of QuantizeLinear and DequantizeLinear that a quantiser wrapped tensors in.

A quantiser drops a ReLU in front of such a pair where the pair's own range already ends at zero:

    before  Conv - Clip(0, 6) - Conv            after  Conv - Quantize(zero point = smallest) - Dequantize - Conv

so taking the pair out must put the activation back, or the network would turn linear. The tensor keeps the name of the
activation's output, which tells such a range from one that was positive by chance on the calibration data. Weights
stored as integers keep their DequantizeLinear; it is folded later like any other arithmetic on constants.
"""

from __future__ import annotations

import re

import numpy as np

from aznas_onnx.graph.ir import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.patch import Patch
from aznas_onnx.graph.rewrite.rewriting import plural
from aznas_onnx.graph.rewrite.signs import is_nonnegative

__all__ = ["strip_fake_quantisation"]

_QUANTIZE = ("QuantizeLinear", "com.microsoft::QuantizeLinear")
_DEQUANTIZE = ("DequantizeLinear", "com.microsoft::DequantizeLinear")
_INTEGER_ARITHMETIC = re.compile(r"(^|::)(QLinear|QGemm|QAttention)|Integer|DynamicQuantize")
# Operators that can end in negative numbers, so that a range from zero on is the trace of an activation.
_SIGNED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sum", "BatchNormalization", "Sub")
# A name that is the operator's own: nothing came after it.
_OWN_NAME = re.compile(r"conv|gemm|matmul|linear|add|getitem|batch_?norm|bias", re.IGNORECASE)
_ACTIVATION = re.compile(r"relu|clip|hardtanh", re.IGNORECASE)
# Whether the activation had an upper end is not in the range, which is what was observed on calibration data.
_BOUNDED = re.compile(r"relu6|hardtanh|clip", re.IGNORECASE)


def strip_fake_quantisation(editor: Editor) -> tuple[str, ...]:
    """Remove quantise-dequantise pairs from activations; return what was done in words for the user.

    Graphs with integer arithmetic are left as they are: their weights have no float form to initialise.
    """
    if not editor.has(*_QUANTIZE) or any(_INTEGER_ARITHMETIC.search(node.operator) for node in editor.nodes()):
        return ()
    pairs = restored = 0
    for node in editor.nodes(*_QUANTIZE):
        _drop_integer_clip(editor, node)
        restored += _strip_quantize(editor, node)
        pairs += 1
    for node in editor.nodes(*_DEQUANTIZE):
        if editor.constant(node.inputs[0]) is None:
            editor.substitute(node, node.inputs[0])
    message = f"fake quantisation taken out of {plural(pairs, 'tensor')}"
    return (message + (f", and {plural(restored, 'activation')} that it had absorbed put back" if restored else ""),)


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
    patch = Patch(editor, node)
    if _BOUNDED.search(source):
        patch.add("Clip", source, patch.scalar(0.0), patch.scalar(6.0), output=node.outputs[0])
    else:
        patch.add("Relu", source, output=node.outputs[0])
    patch.apply()
    return True


def _absorbed_activation(producer: Node, name: str) -> bool:
    """Whether an activation may have followed a node, judged by the name of what it makes.

    The last part of a path is what counts. Of an operator that can end in negative numbers it is enough that the name
    is not its own; any other must be named after the activation.
    """
    last = name.rstrip("/").rpartition("/")[2]
    if _ACTIVATION.search(last):
        return True
    return producer.is_op(*_SIGNED) and not _OWN_NAME.search(last)


def _starts_at_zero(editor: Editor, node: Node) -> bool:
    """Whether the smallest integer stands for zero."""
    zero_point = editor.array(node.input(2)) if node.input(2) else None
    if zero_point is None:
        return not node.input(2) and not node.attributes.get("output_dtype")  # the default is uint8 with zero point 0
    return zero_point.dtype.kind in "iu" and bool((zero_point == np.iinfo(zero_point.dtype).min).all())
