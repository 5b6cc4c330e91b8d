"""Decompose fused operators of ONNX Runtime (domain com.microsoft).

Shapes are not known yet, so no rule here can depend on the rank of an activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.decompose.masks import add_causal, add_mask, mask_kind
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import VERSIONS, NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at, expanding
from aznas_onnx.operators.operator_record import Attributes

__all__ = ["REWRITES"]

_FUSED_ATTRIBUTES = frozenset(
    "activation activation_params activation_alpha activation_beta activation_gamma num_heads mask_filter_value".split()
)

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def _plain(node: Node) -> Attributes:
    """Return the attributes that the standard operator has too."""
    return {key: value for key, value in node.attributes.items() if key not in _FUSED_ATTRIBUTES}


def _activated(patch: NodeBuilder, node: Node, x: str, parameters: Sequence[float]) -> str:
    """Add the activation that a fused node ends with; return its output, empty where it is unknown."""
    name = node.attributes.get("activation", "")
    if name in ("Relu", "Tanh", "Sigmoid"):
        return patch.add(str(name), x)
    if name == "LeakyRelu":
        return patch.add("LeakyRelu", x, alpha=parameters[0] if parameters else 0.01)
    if name == "HardSigmoid":
        alpha, beta = parameters if len(parameters) == 2 else (0.2, 0.5)
        return patch.add("HardSigmoid", x, alpha=alpha, beta=beta)
    known = name == "Clip" and len(parameters) == 2
    return patch.add("Clip", x, *map(patch.scalar, parameters)) if known else ""


def _unknown_activation(node: Node) -> str:
    return f"activation {node.attributes.get('activation', '')!r} is not one that is known"


@expanding("com.microsoft::FusedConv")
def _fused_conv(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    x = patch.add("Conv", *filter(None, node.inputs[:3]), name=node.name, version=11, attributes=_plain(node))
    if node.input(3):
        x = patch.add("Add", x, node.inputs[3])
    if node.attributes.get("activation"):
        parameters: Any = node.attributes.get("activation_params", ())
        if not _activated(patch, node, x, parameters):
            return _unknown_activation(node)
    return patch.apply()


@expanding("com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv")
def _channels_last_conv(editor: Editor, node: Node) -> Declined:
    """NhwcConv and NhwcFusedConv: maps and filters with their channels last."""
    parameters: Any = node.attributes.get("activation_params", ())
    patch = NodeBuilder(editor, node)
    x = patch.add("Transpose", node.inputs[0], perm=_TO_CHANNELS_FIRST)
    filters = patch.add("Transpose", node.inputs[1], perm=_TO_CHANNELS_FIRST)
    biases = [node.inputs[2]] if node.input(2) else []
    x = patch.add("Conv", x, filters, *biases, name=node.name, version=11, attributes=_plain(node))
    if node.input(3):
        x = patch.add("Add", x, patch.add("Transpose", node.inputs[3], perm=_TO_CHANNELS_FIRST))
    if node.attributes.get("activation"):
        x = _activated(patch, node, x, parameters)
    return patch.finish("Transpose", x, perm=_TO_CHANNELS_LAST) if x else _unknown_activation(node)


@expanding("com.microsoft::FusedGemm")
def _fused_gemm(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    attributes: Attributes = node.attributes
    x = patch.add("Gemm", *node.inputs, name=node.name, attributes=_plain(node))
    parameters = [attributes[f"activation_{key}"] for key in ("alpha", "beta") if f"activation_{key}" in attributes]
    return patch.apply() if _activated(patch, node, x, parameters) else _unknown_activation(node)


@expanding("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def _fused_matmul(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    attributes: Attributes = node.attributes
    a, b = (
        _matrix(editor, patch, name, bool(attributes.get(f"trans{side}")), bool(attributes.get(f"transBatch{side}")))
        for name, side in zip(node.inputs, "AB", strict=True)
    )
    product, alpha = patch.add("MatMul", a, b, name=node.name), float(attributes.get("alpha", 1.0))
    return patch.apply() if alpha == 1.0 else patch.finish("Mul", product, patch.scalar(alpha))


def _matrix(editor: Editor, patch: NodeBuilder, name: str, transposed: bool, transposed_batch: bool) -> str:
    """Return an operand in the layout of MatMul.

    "Transposed batch" means that the rows come first, before the batch axes. An Einsum expresses both for an unknown
    number of batch axes; `data_movement` turns it into a Transpose once that is known.
    """
    rows_first = "i...k->...ki" if transposed else "i...k->...ik"
    equation = rows_first if transposed_batch else "...ki->...ik"
    if not transposed and not transposed_batch:
        return name
    rank = editor.rank(name)  # known for constants
    if rank is None:
        return patch.add("Einsum", name, equation=equation)
    axes = list(range(rank))
    if transposed_batch:
        axes = [*axes[1:-1], 0, axes[-1]]
    if transposed:
        axes[-2:] = axes[:-3:-1]
    return patch.add("Transpose", name, perm=tuple(axes))


@expanding("com.microsoft::Gelu", "com.microsoft::BiasGelu", "com.microsoft::FastGelu")
def _gelu(editor: Editor, node: Node) -> Declined:
    """Gelu, BiasGelu and FastGelu: an optional bias and an activation."""
    patch = NodeBuilder(editor, node)
    x = node.inputs[0]
    if node.input(1):
        x = patch.add("Add", x, node.inputs[1])
    approximation = {"approximate": "tanh"} if node.op_type == "FastGelu" else {}
    return patch.finish("Gelu", x, attributes=approximation)


@expanding("com.microsoft::QuickGelu")
def _quick_gelu(editor: Editor, node: Node) -> Declined:
    return NodeBuilder(editor, node).finish("Swish", node.inputs[0], alpha=node.attributes.get("alpha", 1.702))


@expanding("com.microsoft::BiasDropout")
def _bias_dropout(editor: Editor, node: Node) -> Declined:
    if len(node.outputs) > 1 and node.outputs[1] and editor.readers(node.outputs[1]):
        return "its mask is read"
    patch = NodeBuilder(editor, node)
    x = patch.add("Add", node.inputs[0], node.inputs[1])
    return patch.finish("Add", x, node.inputs[2]) if node.input(2) else patch.apply()


@expanding("com.microsoft::BiasSoftmax")
def _bias_softmax(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    axis: Any = node.attributes.get("axis", 1)
    x = patch.add("Add", node.inputs[0], node.inputs[1])
    # The operator normalises over all axes from `axis` on, as Softmax did before version 13.
    return patch.finish("Softmax", x, version=13 if axis == -1 else 11, axis=axis)


@expanding("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization")
def _skip_normalisation(editor: Editor, node: Node) -> Declined:
    """SkipLayerNormalization and its root-mean-square sister: a residual sum and a normalisation in one node."""
    if any(name and editor.readers(name) for name in node.outputs[1:3]):
        return "its statistics are read"
    simplified = node.op_type == "SkipSimplifiedLayerNormalization"
    scale = node.inputs[2]
    shift, bias = ("", node.input(3)) if simplified else (node.input(3), node.input(4))
    patch = NodeBuilder(editor, node)
    total = node.outputs[3] if len(node.outputs) > 3 else ""
    x = patch.add("Add", node.inputs[0], node.inputs[1], output="" if bias else total)
    if bias:
        x = patch.add("Add", x, bias, output=total)
    epsilon = node.attributes.get("epsilon", 1e-12)
    operator = "RMSNormalization" if simplified else "LayerNormalization"
    operands = [x, scale, shift] if shift else [x, scale]
    return patch.finish(operator, *operands, axis=-1, epsilon=epsilon)


@expanding("com.microsoft::EmbedLayerNormalization")
def _embed(editor: Editor, node: Node) -> Declined:
    """EmbedLayerNormalization: embeddings of words, positions and segments, added and normalised."""
    ids, segments, words, places, token_types, scale, shift = (node.input(index) for index in range(7))
    counted = len(node.outputs) > 1 and bool(node.outputs[1]) and bool(editor.readers(node.outputs[1]))
    mask = node.input(7)
    if counted and (not mask or node.attributes.get("mask_index_type", 1) != 1):
        return "a mask that it was not given is read"
    patch = NodeBuilder(editor, node)
    x = patch.add("Gather", words, ids, axis=0)
    if node.input(8):
        x = patch.add("Add", x, patch.add("Gather", places, node.inputs[8], axis=0))
    else:
        count = patch.add("Gather", patch.add("Shape", ids), patch.integers(1), axis=0)
        x = patch.add("Add", x, patch.add("Slice", places, patch.integers(0), count, patch.integers(0)))
    total = node.outputs[2] if len(node.outputs) > 2 else ""
    if segments and token_types:
        x = patch.add("Add", x, patch.add("Gather", token_types, segments, axis=0), output=total)
    elif total:
        x = patch.add("Identity", x, output=total)
    if counted:
        patch.add("ReduceSum", mask, patch.integers(1), keepdims=0, output=node.outputs[1])
    epsilon = node.attributes.get("epsilon", 1e-12)
    return patch.finish("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


@expanding("com.microsoft::SimplifiedLayerNormalization", "SimplifiedLayerNormalization")
def _simplified_normalisation(editor: Editor, node: Node) -> Declined:
    if any(name and editor.readers(name) for name in node.outputs[1:]):
        return "its statistics are read"
    return NodeBuilder(editor, node).finish("RMSNormalization", *node.inputs, name=node.name, attributes=_plain(node))


@ending_at("LayerNormalization")
def _early_normalisation(editor: Editor, node: Node) -> Declined:
    """LayerNormalization as ONNX Runtime wrote it before ONNX had it: same meaning, older opset."""
    if node.version >= VERSIONS["LayerNormalization"]:
        return "it is the standard operator"
    _write_in_standard_domain(editor, node)
    return None


@expanding("com.microsoft::LayerNormalization", "com.microsoft::Trilu", "com.microsoft::Pad")
def _same_operator(editor: Editor, node: Node) -> Declined:
    _write_in_standard_domain(editor, node)
    return None


@ending_at("com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear")
def _same_quantisation(editor: Editor, node: Node) -> Declined:
    """Integers of 16 bits, which ONNX has since version 21, are why ONNX Runtime has operators of its own."""
    _write_in_standard_domain(editor, node)
    return None


def _write_in_standard_domain(editor: Editor, node: Node) -> None:
    editor.update(node, domain="", version=VERSIONS[node.op_type])


@expanding("com.microsoft::Attention")
def _attention(editor: Editor, node: Node) -> Declined:
    """Self-attention with its projection: one weight matrix for queries, keys and values."""
    weights = editor.constant(node.inputs[1])
    if weights is None or len(weights.shape) != 2:
        return "its weights are not constant"
    if node.attributes.get("do_rotary") or _has_past(editor, node, inputs=(4, 6, 7)):
        return "it has a past or rotates positions"
    mask = node.input(3)
    kind = mask_kind(editor, mask) if mask else 0
    if kind is None:
        return "it is masked by what the graph does not say the kind of"
    given: Any = node.attributes.get("qkv_hidden_sizes")
    sizes = tuple(given) if given else (weights.shape[1] // 3,) * 3
    patch = NodeBuilder(editor, node)
    projected = patch.add("MatMul", node.inputs[0], node.inputs[1])
    if node.input(2):
        projected = patch.add("Add", projected, node.inputs[2])
    starts = (0, sizes[0], sizes[0] + sizes[1])
    q, k, v = (
        patch.add("Slice", projected, patch.integers(start), patch.integers(start + size), patch.integers(2))
        for start, size in zip(starts, sizes, strict=True)
    )
    _attend(patch, node, q, k, v, bias=node.input(5), mask=mask, kind=kind)
    return patch.apply()


def _has_past(editor: Editor, node: Node, inputs: tuple[int, ...]) -> bool:
    """Whether keys and values of earlier calls come in or those of this one go out."""
    return any(node.input(index) for index in inputs) or any(name and editor.readers(name) for name in node.outputs[1:])


@expanding("com.microsoft::MultiHeadAttention")
def _multi_head_attention(editor: Editor, node: Node) -> Declined:
    """Attention on separate queries, keys and values of shape (batch, positions, width)."""
    if not node.input(1) or not node.input(2):
        return "its queries, keys and values are packed in one tensor"
    if _has_past(editor, node, inputs=(6, 7, 8, 9)):
        return "it has a past"
    mask = node.input(4)
    kind = mask_kind(editor, mask) if mask else 0
    if kind is None:
        return "it is masked by what the graph does not say the kind of"
    if any((made := editor.producer(name)) is not None and made.is_op("Transpose") for name in node.inputs[1:3]):
        return "its keys or values are divided into heads already"
    patch = NodeBuilder(editor, node)
    q, k, v = node.inputs[:3]
    bias = node.input(3)
    if bias:
        constant = editor.constant(bias)
        if constant is None:
            return "its bias is not constant"
        width = constant.shape[0] // 3  # queries and keys are as wide as values wherever ONNX Runtime fuses a bias
        q, k, v = (
            patch.add("Add", x, patch.add("Slice", bias, patch.integers(i * width), patch.integers((i + 1) * width)))
            for i, x in enumerate((q, k, v))
        )
    _attend(patch, node, q, k, v, bias=node.input(5), mask=mask, kind=kind)
    return patch.apply()


def _attend(patch: NodeBuilder, node: Node, q: str, k: str, v: str, *, bias: str, mask: str, kind: int) -> None:
    heads: Any = node.attributes["num_heads"]
    divided = [patch.add("Reshape", x, patch.integers(0, 0, heads, -1)) for x in (q, k, v)]
    queries = patch.add("Transpose", divided[0], perm=(0, 2, 1, 3))
    keys = patch.add("Transpose", divided[1], perm=(0, 2, 3, 1))
    values = patch.add("Transpose", divided[2], perm=(0, 2, 1, 3))
    scale: Any = node.attributes.get("scale", 0.0)
    factor = patch.scalar(scale) if scale else _head_scale(patch, divided[0])
    scores = patch.add("Mul", patch.add("MatMul", queries, keys), factor)
    if bias:
        scores = patch.add("Add", scores, bias)
    if mask:
        scores = add_mask(patch, node, scores, mask, kind)
    if node.attributes.get("unidirectional"):
        scores = add_causal(patch, scores)
    mixed = patch.add("MatMul", patch.add("Softmax", scores, axis=-1), values)
    merged = patch.add("Transpose", mixed, perm=(0, 2, 1, 3))
    patch.add("Reshape", merged, patch.integers(0, 0, -1))


def _head_scale(patch: NodeBuilder, divided: str) -> str:
    """Add 1 / sqrt(head width) as shape arithmetic, because the width is not known yet."""
    width = patch.add("Gather", patch.add("Shape", divided), patch.integers(3), axis=0)
    return patch.add("Reciprocal", patch.add("Sqrt", patch.add("Cast", width, to=1)))


REWRITES: tuple[Rewrite, ...] = (
    *_fused_conv,
    *_channels_last_conv,
    *_fused_gemm,
    *_fused_matmul,
    *_gelu,
    *_quick_gelu,
    *_bias_dropout,
    *_bias_softmax,
    *_skip_normalisation,
    *_embed,
    *_simplified_normalisation,
    *_same_operator,
    _early_normalisation,
    _same_quantisation,
    *_attention,
    *_multi_head_attention,
)
"""One rewrite per operator; operators of ONNX Runtime that are not here stay, and conversion refuses them by name."""
