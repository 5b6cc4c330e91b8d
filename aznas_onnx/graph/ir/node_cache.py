"""A decode cache: equal nodes are decoded once for all files.

Layers repeat within a network, and the networks of a search are nearly equal, names included. A decoded node follows
from its bytes alone, so these are the key: a node of another file can neither match it by mistake nor change it. The
cache has a limit on the size of nodes and on their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx

from aznas_onnx.caches import cached
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Array, AttributeValue, Node
from aznas_onnx.graph.ir.tensors import check_tensor, is_external, read_tensor, size_bytes
from aznas_onnx.graph.ir.utf8 import node_is_text
from aznas_onnx.operators.sets import CONTROL_FLOW

__all__ = ["CachedNode", "domain_of", "decode_nodes", "plain_value", "typed"]

_MOST_BYTES = 512  # of a node that is remembered
_MOST_NODES = 8192
_KIND = onnx.AttributeProto
_NUMBERS_AND_TEXT = frozenset((_KIND.INT, _KIND.INTS, _KIND.FLOAT, _KIND.FLOATS, _KIND.STRING, _KIND.STRINGS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CachedNode:
    """A small node whose attributes are numbers, text and tensors with their data: without graphs inside.

    - `content`: The node as the file has it.
    - `op_type`, `domain`, `inputs`, `outputs`: As the file has them.
    - `tensor_bytes`: Bytes of each of its tensors; they have been checked.
    """

    content: bytes
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor_bytes: tuple[int, ...]


# These operators can embed large tensors: serialising them for a key would be slow.
_EMBEDDING = frozenset(("Constant", *CONTROL_FLOW))


def decode_nodes(nodes: Iterable[onnx.NodeProto]) -> list[CachedNode | None]:
    """Return the decoded nodes of a graph; None for constants, large nodes, and nodes that are not plain."""
    contents = (None if node.op_type in _EMBEDDING else node.SerializeToString() for node in nodes)
    return [None if content is None or len(content) > _MOST_BYTES else _plain(content) for content in contents]


@cached(_MOST_NODES, "the networks of a search have most of their nodes in common")
def _plain(content: bytes) -> CachedNode | None:
    proto = onnx.NodeProto.FromString(content)
    if not content.isascii() and not node_is_text(proto):
        return None
    tensor_bytes = []
    for attribute in proto.attribute:
        if attribute.ref_attr_name or attribute.type not in (*_NUMBERS_AND_TEXT, _KIND.TENSOR):
            return None
        if attribute.type == _KIND.TENSOR:
            if is_external(attribute.t):
                return None
            try:
                check_tensor(attribute.t, None)
            except ModelError:
                return None
            tensor_bytes.append(size_bytes(attribute.t))
    return CachedNode(
        content=content,
        op_type=proto.op_type,
        domain=proto.domain,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        tensor_bytes=tuple(tensor_bytes),
    )


@cached(_MOST_NODES, "the networks of a search have most of their nodes in common")
def typed(plain: CachedNode, version: int) -> Node:
    """Return a node with its attributes decoded, and its name in the file, which can be empty."""
    proto = onnx.NodeProto.FromString(plain.content)
    return Node(
        op_type=plain.op_type,
        domain=domain_of(plain.domain),
        version=version,
        name=proto.name,
        inputs=plain.inputs,
        outputs=plain.outputs,
        attributes=_attributes(tuple(attribute.SerializeToString() for attribute in proto.attribute)),
    )


@cached(1024, "nodes share attributes that are equal")
def _attributes(contents: tuple[bytes, ...]) -> Mapping[str, AttributeValue]:
    """Decode attributes; nodes share those that are equal."""
    attributes = [onnx.AttributeProto.FromString(content) for content in contents]
    return MappingProxyType(
        {
            attribute.name: _tensor(attribute.t) if attribute.type == _KIND.TENSOR else plain_value(attribute)
            for attribute in attributes
        }
    )


def domain_of(domain: str) -> str:
    """Return the name of a domain here, where the standard one has none."""
    return "" if domain == "ai.onnx" else domain


def plain_value(proto: onnx.AttributeProto) -> AttributeValue:
    """Decode an attribute that is a number, text, or a list of these; raise ModelError if it is none of these."""
    found = proto.type
    if found == _KIND.INT:
        return int(proto.i)
    if found == _KIND.INTS:
        return tuple(proto.ints)
    if found == _KIND.FLOAT:
        return float(proto.f)
    if found == _KIND.FLOATS:
        return tuple(proto.floats)
    if found == _KIND.STRING:
        return _text(proto.s)
    if found == _KIND.STRINGS:
        return tuple(_text(text) for text in proto.strings)
    raise ModelError(
        f"attribute {proto.name!r} has a type that no network needs; numbers, text and tensors are accepted"
    )


def _text(content: bytes) -> str | bytes:
    """Decode a string attribute. Exporters write bytes that are not UTF-8 into unused attributes."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


def _tensor(proto: onnx.TensorProto) -> Array:
    """Read a tensor that lies in its node."""
    array = read_tensor(proto, None)
    array.flags.writeable = False  # nodes share it
    return array
