"""One form for linear layers and for convolutions with their biases.

A linear layer on vectors (rank 2) is a Gemm; on tokens (rank 3 and more) a MatMul, and an Add where it has a bias. A
bias that follows a convolution is an operand of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at
from aznas_onnx.operators.sets import PLAIN_CONVOLUTIONS, POINTWISE

__all__ = ["REWRITES", "as_vector", "reshaped"]

_MAX_CHAIN = 6


def reshaped(constant: Constant, shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> Constant:
    """Return a constant in another shape, after its axes were put in `order`; read as late as the original is."""
    read = constant.read
    if read is None:
        return replace(constant, shape=shape)

    def read_reshaped() -> object:
        return (read() if order is None else read().transpose(order)).reshape(shape)

    return replace(constant, shape=shape, read=read_reshaped)  # type: ignore[arg-type]  # object is the array it returns


def as_vector(editor: Editor, name: str, rank: int, axis: int, size: int) -> Constant | None:
    """Return a float constant as a vector along one axis of a tensor, or None where it is not one.

    - `rank`, `axis`, `size`: Rank of the tensor that the constant is broadcast to, and the position and size of the
      axis.
    """
    constant = editor.constant(name)
    if constant is None or not constant.is_float or len(constant.shape) > rank:
        return None
    place = axis - (rank - len(constant.shape))
    wanted = tuple(size if index == place else 1 for index in range(len(constant.shape)))
    return reshaped(constant, (size,)) if place >= 0 and constant.shape == wanted else None


@ending_at("Add")
def _bias_of_convolution(editor: Editor, node: Node) -> Declined:
    """An Add of one constant per channel after a convolution without bias."""
    for x, addend in (node.inputs, node.inputs[::-1]):
        before = editor.producer(x)
        shape = editor.shape(x)
        if before is None or shape is None or before not in PLAIN_CONVOLUTIONS or not editor.is_private(x):
            continue
        if before.input(2) or shape != editor.shape(node.outputs[0]):
            return "the convolution has a bias already"
        bias = as_vector(editor, addend, len(shape), 1, shape[1])
        if bias is None:
            return "it does not add a constant per channel"
        patch = NodeBuilder(editor, node)
        is_its_own = bias.shape == editor.shape(addend) and len(editor.readers(addend)) == 1
        name = addend if is_its_own else editor.add_constant(bias, addend)
        return patch.finish(
            before.op_type, *before.inputs[:2], name, name=before.name, version=before.version,
            attributes=before.attributes,
        )  # fmt: skip
    return "no convolution comes before it"


@ending_at("MatMul")
def _linear_on_vectors(editor: Editor, node: Node) -> Declined:
    """A MatMul of vectors with a constant matrix, and the Add of its bias."""
    weight = editor.constant(node.inputs[1])
    if weight is None or len(weight.shape) != 2 or not weight.is_float:
        return "its second operand is no constant matrix"
    if editor.rank(node.inputs[0]) != 2:
        return "it works on tokens, not vectors"
    reader = editor.sole_reader(node.outputs[0])
    if reader is not None and reader.is_op("Add"):
        addend = reader.inputs[1] if reader.inputs[0] == node.outputs[0] else reader.inputs[0]
        bias = as_vector(editor, addend, 2, 1, weight.shape[1])
        if bias is not None:
            patch = NodeBuilder(editor, reader)
            name = addend if bias.shape == editor.shape(addend) else editor.add_constant(bias, addend)
            return patch.finish("Gemm", *node.inputs, name, name=node.name)
    return NodeBuilder(editor, node).finish("Gemm", *node.inputs, name=node.name)


@ending_at("Reshape")
def _linear_on_tokens(editor: Editor, node: Node) -> Declined:
    """Linear layers between a reshape that joins all token axes and one that divides them again.

    Reshape (2, 196, 192) -> (392, 192), Gemm, Gelu, Gemm, Reshape -> (2, 196, 192) works on tokens. If one of the
    reshapes does more (joins heads to features), a reshape stays before or behind the layers.
    """
    before, vectors = editor.shape(node.inputs[0]), editor.shape(node.outputs[0])
    if before is None or vectors is None or len(before) < 3 or len(vectors) != 2:
        return "it does not join token axes"
    chain = _chain(editor, node.outputs[0])
    if isinstance(chain, str):
        return chain
    after = editor.shape(chain[-1].outputs[0])
    tokens = min(filter(None, (_leading(before, vectors[0]), _leading(after, vectors[0]))), key=len, default=())
    x = _tokens(editor, node, (*tokens, vectors[1])) if tokens else ""
    if not x:
        return "the token axes do not come back"
    for link in chain[:-1]:
        x = _on_tokens(editor, link, x)
    last = chain[-1]
    if editor.shape(x) != after or not editor.substitute(last, x):
        editor.update(last, inputs=(x, last.inputs[1]))
    return None


def _leading(shape: tuple[int, ...] | None, rows: int) -> tuple[int, ...]:
    """Return the first axes of a shape with this number of rows, if there are two or more; else an empty tuple."""
    for count in range(2, len(shape or ())):
        if shape is not None and math.prod(shape[:count]) == rows:
            return shape[:count]
    return ()


def _tokens(editor: Editor, node: Node, wanted: tuple[int, ...]) -> str:
    """Return the input of a joining reshape with the token axes divided as wanted; empty where that is not possible."""
    if editor.shape(node.inputs[0]) == wanted:
        return node.inputs[0]
    follows_batch = [axis for axis, size in enumerate(wanted) if size % editor.batch_size == 0]
    if len(follows_batch) != 1:
        return ""
    patch = NodeBuilder(editor, node)
    target = patch.integers(*(-1 if axis in follows_batch else size for axis, size in enumerate(wanted)))
    made = patch.add("Reshape", node.inputs[0], target, name=editor.unique(node.name))
    patch.insert()
    return made


def _chain(editor: Editor, name: str) -> list[Node] | str:
    """Return the nodes from the first linear layer to the reshape that divides the tokens again, or why not."""
    chain: list[Node] = []
    for _ in range(_MAX_CHAIN):
        reader = editor.sole_reader(name)
        if reader is None:
            return "what it makes is read more than once"
        chain.append(reader)
        if reader.is_op("Reshape"):
            copies = 0 in (editor.integers(reader.inputs[1]) or ())
            has_layer = any(link.is_op("Gemm") for link in chain)
            return chain if has_layer and not copies else "no linear layer comes between, or sizes are copied"
        if not (_is_plain_gemm(editor, reader) if reader.is_op("Gemm") else reader in POINTWISE):
            return f"{reader.operator} is not a layer on each token alone"
        name = reader.outputs[0]
    return "the chain is too long"


def _is_plain_gemm(editor: Editor, node: Node) -> bool:
    attributes = node.attributes
    scaled = attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA", 0)
    constants = [editor.constant(name) for name in node.inputs[1:] if name]
    return not scaled and all(constant is not None for constant in constants)


def _on_tokens(editor: Editor, node: Node, x: str) -> str:
    """Insert one node of the chain on tokens before itself, and return its output."""
    patch = NodeBuilder(editor, node)
    if not node.is_op("Gemm"):
        made = patch.add(node.op_type, x, *node.inputs[1:], version=node.version, attributes=node.attributes)
        patch.insert()
        return made
    weight = node.inputs[1]
    if node.attributes.get("transB"):
        constant = editor.constant(weight)
        assert constant is not None  # checked by _is_plain_gemm
        weight = editor.add_constant(reshaped(constant, constant.shape[::-1], (1, 0)), f"{weight}/transposed")
    made = patch.add("MatMul", x, weight, name=editor.unique(node.name))
    if node.input(2):
        made = patch.add("Add", made, node.inputs[2])
    patch.insert()
    return made


@ending_at("MatMul")
def _scaled_product(editor: Editor, node: Node) -> Declined:
    """A product of two activations with numbers before or after it, as those of attention have: one number, before.

    Exporters scale the queries, queries and keys by the square root of the number, or the logits.
    """
    factor, operands = 1.0, []
    for name in node.inputs:
        scaling = _scaling(editor, editor.producer(name))
        operands.append(name)
        if scaling is not None and editor.is_private(name):
            factor, operands[-1] = factor * scaling[1], scaling[0]
    root = node
    reader = editor.sole_reader(node.outputs[0])
    scaling = _scaling(editor, reader)
    if reader is not None and scaling is not None and editor.shape(reader.outputs[0]) == editor.shape(node.outputs[0]):
        factor, root = factor * scaling[1], reader
    if any(editor.constant(name) is not None for name in operands):
        return "it is a linear layer"
    if root is node and operands[1] == node.inputs[1]:
        return "it is in canonical form"
    patch = NodeBuilder(editor, root)
    scaled = patch.add("Mul", operands[0], patch.scalar(factor))
    return patch.finish("MatMul", scaled, operands[1], name=node.name)


def _scaling(editor: Editor, node: Node | None) -> tuple[str, float] | None:
    """Return tensor and number of a node that multiplies or divides by a number; None for any other."""
    if node is None or not node.is_op("Mul", "Div"):
        return None
    value = editor.scalar(node.inputs[1])
    if not value or editor.shape(node.inputs[0]) != editor.shape(node.outputs[0]):
        return None
    return node.inputs[0], value if node.is_op("Mul") else 1.0 / value


REWRITES: tuple[Rewrite, ...] = (_bias_of_convolution, _linear_on_vectors, _linear_on_tokens, _scaled_product)
