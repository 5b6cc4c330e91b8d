"""Batch normalisation in evaluation mode is a factor and a term per channel, and some exporters write just that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aznas_onnx.graph.ir import Constant, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.evidence import names_batch_normalisation
from aznas_onnx.graph.rewrite.linear import as_vector
from aznas_onnx.graph.rewrite.patch import Patch
from aznas_onnx.graph.rewrite.rewriting import Rewrite

__all__ = ["EPSILON", "REWRITES", "add_batch_normalisation"]

EPSILON = 1e-5

_Vector: TypeAlias = npt.NDArray[np.float32]


def add_batch_normalisation(
    editor: Editor, node: Node, x: str, scale: Constant | None, shift: Constant | None, channels: int, *before: Node
) -> None:
    """Replace `node` by the nodes `before` and a batch normalisation of `x` that scales and shifts, and no more.

    Its statistics are such that it computes what was there. A scale or shift that is None is one or zero.
    """
    output = node.outputs[0]
    vectors = (
        ("weight", scale or Constant.of(np.ones(channels, dtype=np.float32))),
        ("bias", shift or Constant.of(np.zeros(channels, dtype=np.float32))),
        ("mean", Constant.of(np.zeros(channels, dtype=np.float32))),
        ("variance", Constant.of(np.full(channels, 1.0 - EPSILON, dtype=np.float32))),
    )
    names = [editor.add_constant(constant, f"{output}/batch_norm/{label}") for label, constant in vectors]
    patch = Patch(editor, node)
    patch.extend(*before)
    patch.add("BatchNormalization", x, *names, output=output, epsilon=EPSILON)
    patch.apply()


def _per_channel(editor: Editor, node: Node) -> tuple[str, Constant] | None:
    """Return the activation and the constant of a Mul or Add by one constant per channel; None for any other."""
    for x, name in (node.inputs, node.inputs[::-1]):
        shape = editor.shape(x)
        if editor.constant(x) is not None or shape is None or len(shape) < 2 or shape != editor.shape(node.outputs[0]):
            continue
        vector = as_vector(editor, name, len(shape), 1, shape[1])
        if vector is not None and (shape[1] > 1 or len(shape) != 2):
            return x, vector
    return None


def _written_out(editor: Editor, node: Node) -> str | None:
    """A factor per channel, mostly followed by a term per channel.

    The factor alone is a layer scale unless its name says batch normalisation: exporters drop a term that is zero,
    as it is in networks that were not trained. Both together after a convolution can be nothing else; elsewhere
    they may be the preprocessing of an image, and only their name tells.
    """
    factor = _per_channel(editor, node)
    if factor is None:
        return "it does not multiply by a constant per channel"
    x, scale = factor
    named = names_batch_normalisation(node.name, node.outputs[0])
    term, root = None, node
    reader = editor.sole_reader(node.outputs[0])
    if reader is not None and reader.is_op("Add"):
        addend = _per_channel(editor, reader)
        if addend is not None and addend[0] == node.outputs[0]:
            term, root = addend[1], reader
    before = editor.producer(x)
    after_convolution = before is not None and before.is_op("Conv", "ConvTranspose") and editor.is_private(x)
    if not named and not (after_convolution and term is not None):
        return "nothing says that it is a batch normalisation"
    add_batch_normalisation(editor, root, x, scale, term, scale.elements)
    return None


def _followed_by_scale(editor: Editor, node: Node) -> str | None:
    """A batch normalisation without parameters of its own, as Caffe has it, with its scale and shift behind it."""
    factor = _per_channel(editor, node)
    inner = None if factor is None else editor.producer(factor[0])
    reader = editor.sole_reader(node.outputs[0])
    if factor is None or inner is None or not inner.is_op("BatchNormalization") or not editor.is_private(factor[0]):
        return "it does not scale a batch normalisation"
    addend = None if reader is None or not reader.is_op("Add") else _per_channel(editor, reader)
    if reader is None or addend is None or addend[0] != node.outputs[0] or len(inner.outputs) > 1:
        return "no shift follows"
    weight, bias = (editor.constant(name) for name in inner.inputs[1:3])
    if weight is None or bias is None:
        return "its parameters are computed"
    scale, shift = factor[1], addend[1]
    names = [
        editor.add_constant(_combined(lambda w, s: w * s, scale, weight, scale), f"{reader.outputs[0]}/weight"),
        editor.add_constant(
            _combined(lambda b, s, t: b * s + t, shift, bias, scale, shift), f"{reader.outputs[0]}/bias"
        ),
    ]
    patch = Patch(editor, reader)
    patch.add(
        "BatchNormalization", inner.inputs[0], *names, *inner.inputs[3:], name=inner.name, version=inner.version,
        output=reader.outputs[0], attributes=inner.attributes,
    )  # fmt: skip
    patch.apply()
    return None


def _combined(function: Callable[..., _Vector], parameter: Constant, *parts: Constant) -> Constant:
    """Return what a function makes of vectors; it stands for the trained vector `parameter`."""
    reads = [part.read for part in parts]

    def read() -> _Vector:
        return function(*(read() for read in reads if read is not None))

    readable = all(part is not None for part in reads)
    return Constant(
        shape=parameter.shape, dtype=parameter.dtype, read=read if readable else None, sources=parameter.sources
    )


def _zero_bias_before(editor: Editor, node: Node) -> str | None:
    """A bias of zeros that the exporter itself made for the convolution before a batch normalisation."""
    convolution = editor.producer(node.inputs[0])
    if convolution is None or not convolution.is_op("Conv", "ConvTranspose") or not convolution.input(2):
        return "no convolution with a bias comes before it"
    bias = editor.constant(convolution.inputs[2])
    value = editor.array(convolution.inputs[2])
    if bias is None or value is None or convolution.inputs[2] in bias.sources or value.any():
        return "the bias is a parameter"
    editor.update(convolution, inputs=convolution.inputs[:2])
    return None


REWRITES: tuple[Rewrite, ...] = (
    Rewrite(operators=("BatchNormalization",), attempt=_zero_bias_before),
    Rewrite(operators=("Mul",), attempt=_followed_by_scale),
    Rewrite(operators=("Mul",), attempt=_written_out, result="BatchNormalization"),
)
