"""Restore batch normalisation that an exporter folded into the layer before it.

Folding preserves the results of a trained network. Scoring initialises the weights again, and a network without its
normalisation is another architecture. So the operator is restored with scale 1, the folded bias as its shift, and
neutral statistics: the results of the graph do not change.

These rules decide, in this order, which convolutions were normalised:

1. A convolution that is followed by a normalisation was not folded.
2. Names: the marks that exporters leave on what they fold, then names that a framework gives genuine biases
   (:mod:`aznas_onnx.graph.rewrite.restore.folded_bn_names`).
3. A layer that a factor was multiplied into (a layer scale) lost its names to that. It counts as folded where other
   layers have marks of folding and no bias is genuine.

All other convolutions with a bias stay unchanged: a folded network equals a network without normalisation. Without
evidence in the graph, the user gets a warning. The reason is returned for every layer that is left without
normalisation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY, Provenance
from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.canonical.per_channel import combined
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.restore.batchnorm import EPSILON, add_batch_normalisation
from aznas_onnx.graph.rewrite.restore.folded_bn_names import (
    Names,
    Sign,
    folded_by,
    holds_factor,
    is_number,
    own_bias_by,
    root,
)
from aznas_onnx.graph.rewrite.rule import plural
from aznas_onnx.operators.sets import LAYERS, MOVES_WHOLE, NORMALIZATIONS, PLAIN_CONVOLUTIONS

__all__ = ["unfold_batch_normalisation"]

_FEW_BIASES = 32  # needed to test for a uniform distribution
_ASSUMED = "taken for folded like others; a factor multiplied into them took their names"

# Why no normalisation was restored after a layer.
_GENUINE = {
    Sign.BIAS: "its bias is named as a layer's own bias, and none of its names shows folding",
    Sign.OUTPUT: "its output is named as that of a layer's own bias, and none of its names shows folding",
    Sign.WEIGHT: "its bias is shared, its weight is named as a layer's own, and none of its names shows folding",
}
_CLASSIFIER = "no layer with weights follows it, and its output has no positions"
_LINEAR = "it is a linear layer, and none of its names shows folding"
_TRANSPOSED = "it is a transposed convolution, and none of its names shows folding"
_NO_BIAS = "it has no bias, while folding adds one, and none of its names shows folding"
_ON_VECTORS = "its output has one position, and none of its names shows folding"
_UNKNOWN_SHAPE = "the shape of its output is not known, and none of its names shows folding"
_LAST = "no layer with weights follows it, and none of its names shows folding"
_NOTHING_SAID = "nothing in the file says whether one was folded into it"
_KEPT_ELSEWHERE = (
    "its names are no evidence; the file still has BatchNormalization after other convolutions, so it was not folded"
)
_NORMALISED_OTHERWISE = "its names are no evidence; the network has {} elsewhere, so no BatchNormalization is expected"
_GENUINE_ELSEWHERE = "its names are no evidence; other layers of the file have biases of their own"


@dataclass(frozen=True, slots=True)
class _Layer:
    """A weighted node with constant weights, and their names."""

    node: Node
    names: Names
    channels: int


def unfold_batch_normalisation(
    editor: Editor, provenance: Provenance
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[NearMiss, ...]]:
    """Put batch normalisation back.

    - Returns `changes`, `doubts`: What was done, and what remains in doubt, in words for the user.
    - Returns `near_misses`: The reason why none was restored, for each layer without normalisation but the classifier.
    """
    layers = list(_layers(editor))
    numbers_are_computed = any(not is_number(layer.names.weight) for layer in layers)
    by_name = [folded_by(layer.names, numbers_are_computed=numbers_are_computed) for layer in layers]
    unmarked = [layer for layer, by in zip(layers, by_name, strict=True) if not by]
    reasons = {layer.node.name: _why_not_folded(editor, layer) for layer in unmarked}
    silent = [layer for layer in unmarked if not reasons[layer.node.name]]
    has_genuine = not set(_GENUINE.values()).isdisjoint(reasons.values())
    keeps_normalisation = _keeps_normalisation(editor)
    found = [(layer, by) for layer, by in zip(layers, by_name, strict=True) if by]
    if found and not has_genuine and not keeps_normalisation:
        found += [(layer, _ASSUMED) for layer in silent if holds_factor(layer.names)]
        silent = [layer for layer in silent if not holds_factor(layer.names)]
    found = [(layer, by) for layer, by in found if not _is_normalised(editor, layer.node)]
    silent = [layer for layer in silent if not _is_normalised(editor, layer.node)]
    unsaid = _NOTHING_SAID
    if keeps_normalisation:
        unsaid = keeps_normalisation
    elif has_genuine and not any(by_name):
        unsaid = _GENUINE_ELSEWHERE
    reasons.update((layer.node.name, unsaid) for layer in silent)
    near_misses = tuple(
        NearMiss(reason, "folded BatchNormalization", layer.node.name)
        for layer in unmarked
        if (reason := reasons[layer.node.name]) not in ("", _CLASSIFIER) and not _is_normalised(editor, layer.node)
    )
    restored = _restore_all(editor, provenance, found)
    in_doubt = len(silent) if unsaid == _NOTHING_SAID else 0
    return _restored_in_words(restored), _doubt_in_words(in_doubt), near_misses


def _restore_all(
    editor: Editor, provenance: Provenance, found: Sequence[tuple[_Layer, str]]
) -> Counter[tuple[str, str]]:
    """Put normalisation back after layers; return after how many of which kind, and on what evidence."""
    restored: Counter[tuple[str, str]] = Counter()
    is_own = SIGNATURE_KEY not in editor.metadata and _are_as_initialised(editor, [layer for layer, _ in found])
    for layer, by in found:
        weight = editor.constant(layer.node.inputs[1])
        if provenance.declares_scale(weight):
            _restore(editor, layer, keeps_bias=is_own and _has_bias(editor, layer))
        else:
            _restore_plain(editor, layer, keeps_bias=bool(provenance.declares_bias(weight)))
        restored["linear layer" if layer.names.is_linear else "convolution", by] += 1
    return restored


def _restored_in_words(restored: Counter[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(
        f"normalisation restored after {plural(count, kind)} ({by if by == _ASSUMED else f'folded by {by}'})"
        for (kind, by), count in restored.items()
    )


def _doubt_in_words(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (
        f"nothing in the file says whether batch normalisation was folded into {plural(count, 'convolution')} with "
        "biases, so none was put back; if the network has it, export it with BatchNormalization operators",
    )


def _layers(editor: Editor) -> Iterator[_Layer]:
    for node in editor.nodes(*PLAIN_CONVOLUTIONS, "Gemm"):
        weight = editor.constant(node.inputs[1])
        bias = editor.constant(node.input(2))
        if weight is None or (node.input(2) and bias is None):
            continue
        shares_bias = bias is not None and len(editor.readers(node.inputs[2])) > 1
        names = Names(
            node=node.name,
            output=node.outputs[0],
            weight=root(node.inputs[1], weight.sources),
            bias="" if bias is None or shares_bias else root(node.inputs[2], bias.sources),
            shares_bias=shares_bias,
            is_linear=node.is_op("Gemm"),
        )
        yield _Layer(node, names, _channels(node, weight))


def _channels(node: Node, weight: Constant) -> int:
    if node.op_type == "Conv":
        return weight.shape[0]
    if node.op_type == "ConvTranspose":
        group = node.attributes.get("group", 1)
        assert isinstance(group, int)
        return weight.shape[1] * group
    return weight.shape[0] if node.attributes.get("transB") else weight.shape[1]


def _keeps_normalisation(editor: Editor) -> str:
    """Return that the graph has normalisation where an exporter that folds leaves none, as a reason; else empty."""
    reason = ""
    for node in editor.nodes(*NORMALIZATIONS):
        if not node.is_op("BatchNormalization"):
            reason = reason or _NORMALISED_OTHERWISE.format(node.op_type)
            continue
        before = editor.producer(node.inputs[0])
        if before is not None and before.is_op("Conv") and editor.is_private(node.inputs[0]):
            return _KEPT_ELSEWHERE
    return reason


def _is_normalised(editor: Editor, node: Node) -> bool:
    """Whether a normalisation reads the output of a node, possibly after a change of layout."""
    reader = editor.sole_reader(node.outputs[0])
    while reader is not None and reader in MOVES_WHOLE:
        reader = editor.sole_reader(reader.outputs[0])
    return reader is not None and reader in NORMALIZATIONS


def _why_not_folded(editor: Editor, layer: _Layer) -> str:
    """Return why nothing was folded into a layer without marks; empty for a convolution without evidence."""
    shape = editor.shape(layer.node.outputs[0])
    is_vector = layer.names.is_linear or (shape is not None and all(size == 1 for size in shape[2:]))
    if is_vector and not _feeds_a_layer(editor, layer.node):
        return _CLASSIFIER
    if not layer.node.is_op("Conv"):
        return _LINEAR if layer.names.is_linear else _TRANSPOSED
    if not layer.node.input(2):
        return _NO_BIAS
    if shape is None or is_vector:  # squeeze-and-excite
        return _UNKNOWN_SHAPE if shape is None else _ON_VECTORS
    if not _feeds_a_layer(editor, layer.node):
        return _LAST
    sign = own_bias_by(layer.names)
    return "" if sign is None else _GENUINE[sign]


def _feeds_a_layer(editor: Editor, node: Node) -> bool:
    """Whether anything with weights comes after a node."""
    seen = {node}
    pending = [node]
    while pending:
        for name in pending.pop().outputs:
            for reader in editor.readers(name):
                if reader in LAYERS and any(editor.constant(operand) is not None for operand in reader.inputs[:2]):
                    return True
                if reader not in seen:
                    seen.add(reader)
                    pending.append(reader)
    return False


def _has_bias(editor: Editor, layer: _Layer) -> bool:
    """Whether a bias can be read, and is not zero throughout."""
    bias = editor.array(layer.node.input(2))
    return bias is not None and bool(bias.any())


def _are_as_initialised(editor: Editor, layers: list[_Layer]) -> bool:
    """Whether the biases are initialised as in PyTorch: uniform between -1 and 1 over the root of the fan-in.

    Then the network is untrained, its normalisation has no shift, and the biases are the layers' own.
    (Kolmogorov-Smirnov test at 1 %.)
    """
    scaled = []
    for layer in layers:
        weight, bias = editor.constant(layer.node.inputs[1]), editor.array(layer.node.input(2))
        if weight is not None and bias is not None and _has_bias(editor, layer):
            scaled.append(np.abs(bias.reshape(-1)) * math.sqrt(math.prod(weight.shape[1:])))
    values = np.sort(np.concatenate(scaled)) if scaled else np.empty(0)
    if values.size < _FEW_BIASES or values[-1] > 1.0:
        return False
    even = np.arange(values.size + 1) / values.size
    distance = max(np.abs(values - even[1:]).max(), np.abs(values - even[:-1]).max())
    return bool(distance * math.sqrt(values.size) < 1.63)


def _restore(editor: Editor, layer: _Layer, *, keeps_bias: bool) -> None:
    folded = None if keeps_bias else editor.constant(layer.node.input(2))
    # Each is a separate parameter.
    shift = None if folded is None else replace(folded, sources=frozenset(), storage=None)
    output, plain = _unfolded(editor, layer, keeps_bias=keeps_bias)
    add_batch_normalisation(editor, layer.node, output, channels=layer.channels, shift=shift, before=(plain,))


def _restore_plain(editor: Editor, layer: _Layer, *, keeps_bias: bool) -> None:
    """Restore a normalisation without scale and shift: the folded term is a bias of the layer, or a mean."""
    folded = None if keeps_bias else editor.constant(layer.node.input(2))
    zeros = Constant.of(np.zeros(layer.channels, dtype=np.float32))
    mean = zeros if folded is None else replace(combined(np.negative, folded, folded), sources=frozenset())
    variance = Constant.of(np.full(layer.channels, 1.0 - EPSILON, dtype=np.float32))
    output, plain = _unfolded(editor, layer, keeps_bias=keeps_bias)
    add_batch_normalisation(
        editor, layer.node, output, channels=layer.channels, mean=mean, variance=variance, before=(plain,)
    )


def _unfolded(editor: Editor, layer: _Layer, *, keeps_bias: bool) -> tuple[str, Node]:
    """Return a layer as it was before folding, and the name of its output."""
    node = layer.node
    output = editor.unique(f"{node.outputs[0]}/unfolded")
    editor.assume(output, node.outputs[0])
    return output, replace(node, inputs=node.inputs if keeps_bias else node.inputs[:2], outputs=(output,))
