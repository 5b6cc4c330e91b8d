"""Deserialize a checked ModelProto to the typed :class:`~aznas_onnx.graph.ir.graph.Graph`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.inliner  # not imported by onnx itself

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.files.load import subgraphs
from aznas_onnx.graph.ir.graph import Array, AttributeValue, Constant, Graph, GraphInput, Node, Storage
from aznas_onnx.graph.ir.node_cache import CachedNode, decode_nodes, domain_of, plain_value, typed
from aznas_onnx.graph.ir.stored_data import StoredData
from aznas_onnx.graph.ir.tensors import MOST_AXES, is_missing, read_tensor
from aznas_onnx.graph.ir.uniform_constants import filled
from aznas_onnx.limits import Limits

__all__ = ["deserialize", "with_filled_weights"]

_ZERO = np.zeros(1, dtype=np.float32)
_MAX_AXES = 16
_DEEPEST_CALL = 100  # of functions; exporters nest modules, whose trees are a dozen deep
_FLOATS = frozenset(
    (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
)


def deserialize(
    model: onnx.ModelProto,
    folder: Path | None,
    name: str,
    limits: Limits,
    nodes: Sequence[CachedNode | None] | None = None,
    stored: Mapping[str, StoredData] = MappingProxyType({}),
) -> Graph:
    """Make the typed graph of a model: functions inlined, initialisers and Constant nodes as constants.

    - `model`, `folder`, `nodes`, `stored`: As loaded; nodes are decoded where they are not given.
    - `name`: Name of the model in messages.
    - `limits`: Limits on its size.

    Raises ModelError if inlining its functions would exceed the node limit, or an attribute has no value.
    """
    if model.functions:
        _check_expansion(model, name, limits)
        model, nodes = _inlined(model, name), None
    versions = {domain_of(entry.domain): entry.version for entry in model.opset_import}
    metadata = {entry.key: entry.value for entry in (*model.graph.metadata_props, *model.metadata_props)}
    plain = decode_nodes(model.graph.node) if nodes is None else nodes
    return _Deserializer(versions, folder, limits, separates_weights=_separates_weights(model.graph)).deserialize(
        model.graph, plain, metadata, stored
    )


def _separates_weights(graph: onnx.GraphProto) -> bool:
    """Whether a graph stores weights as initialisers, and other constants as nodes."""
    has_nodes = any(node.op_type == "Constant" for node in graph.node)
    return has_nodes and any(len(tensor.dims) > 1 and tensor.data_type in _FLOATS for tensor in graph.initializer)


def _inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{name}: its functions cannot be inlined: {error}") from error


def _check_expansion(model: onnx.ModelProto, name: str, limits: Limits) -> None:
    """Refuse nested functions whose inlining would explode, or that call themselves."""
    expansion = _Expansion(model, name, limits)
    expansion.of(model.graph.node, ())


_Callee: TypeAlias = tuple[str, str, str]


class _Expansion:
    """How many nodes and bytes inlining gives."""

    def __init__(self, model: onnx.ModelProto, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._bodies = {
            (domain_of(function.domain), function.name, function.overload): function.node
            for function in model.functions
        }
        if len(self._bodies) < len(model.functions):
            raise ModelError(f"{name}: two of its functions have the same name, domain and overload; export it again")
        # The content of a function is in the file once and not limited; its copies are.
        self._most_bytes = limits.copied_bytes + sum(function.ByteSize() for function in model.functions)
        self._known: dict[_Callee, tuple[int, int]] = {}

    def of(self, nodes: Iterable[onnx.NodeProto], callers: tuple[_Callee, ...]) -> tuple[int, int]:
        """Return the nodes and bytes that nodes become inside of functions that are being expanded."""
        count = size_bytes = 0
        for node in nodes:
            added, added_bytes = self._of_node(node, callers)
            count, size_bytes = count + added, size_bytes + added_bytes
            if count > self._limits.nodes or size_bytes > self._most_bytes:
                bound = f"{self._limits.nodes:,} nodes" if count > self._limits.nodes else f"{self._most_bytes:,} bytes"
                raise ModelError(
                    f"{self._name}: inlining its functions gives more than {bound}, at node {node.name!r} "
                    f"({node.op_type}); export it without functions, or a smaller part of it"
                )
        return count, size_bytes

    def _of_node(self, node: onnx.NodeProto, callers: tuple[_Callee, ...]) -> tuple[int, int]:
        callee = (domain_of(node.domain), node.op_type, node.overload)
        if callee in callers:
            raise ModelError(
                f"{self._name}: function {node.op_type!r} calls itself; recursive functions are not valid ONNX"
            )
        body = self._bodies.get(callee)
        if body is not None and callee not in self._known:
            if len(callers) > _DEEPEST_CALL:
                raise ModelError(f"{self._name}: function {node.op_type!r} is called by {len(callers)} others in turn")
            self._known[callee] = self.of(body, (*callers, callee))
        inside = [self.of(graph.node, callers) for graph in subgraphs(node)]
        own = self._known.get(callee, (1, node.ByteSize() if callers else 0))
        return own[0] + sum(part[0] for part in inside), own[1] + sum(part[1] for part in inside)


def with_filled_weights(graph: Graph, limits: Limits) -> Graph:
    """Turn ConstantOfShape nodes over initialisers, the weights of a file without data, into constants.

    Their data is computed on request. A node with an impossible shape stays, and the walk reports it. Where no weight
    has this form, vectors are not weights either: they are the ones and zeros of a normalisation without scale and
    shift (Flax).
    """
    constants = dict(graph.constants)
    fills: dict[str, Constant] = {}
    shapes: dict[str, tuple[int, ...] | None] = {}
    nodes = []
    for node in graph.nodes:
        made = None
        if node.is_op("ConstantOfShape") and len(node.outputs) == 1:
            name = node.input(0)
            if name not in shapes:
                shapes[name] = _shape_in(graph.constants.get(name), limits)
            made = _filled(node, shapes[name])
        if made is None:
            nodes.append(node)
        else:
            fills[node.outputs[0]] = made
    if _has_matrix(constants) and not _has_matrix(fills):
        fills = {name: replace(constant, storage=Storage.NODE) for name, constant in fills.items()}
    constants.update(fills)
    return replace(graph, nodes=tuple(nodes), constants=MappingProxyType(constants))


def _has_matrix(constants: Mapping[str, Constant]) -> bool:
    return any(constant.is_float and len(constant.shape) > 1 for constant in constants.values())


def _shape_in(given: Constant | None, limits: Limits) -> tuple[int, ...] | None:
    """Return the shape in an initialiser; None where no tensor can have it."""
    if given is None or given.read is None or given.dtype != np.int64 or len(given.shape) != 1:
        return None
    shape = tuple(given.read().tolist()) if 0 < given.elements <= _MAX_AXES else ()
    return shape if shape and min(shape) >= 0 and math.prod(shape) <= limits.tensor_elements else None


def _filled(node: Node, shape: tuple[int, ...] | None) -> Constant | None:
    fill: Any = node.attributes.get("value", _ZERO)
    return None if shape is None or fill.size != 1 else filled(node.outputs[0], shape, fill)


class _Deserializer:
    def __init__(
        self, versions: dict[str, int], folder: Path | None, limits: Limits, *, separates_weights: bool
    ) -> None:
        self._versions = versions
        self._folder = folder
        self._limits = limits
        self._of_node = Storage.NODE if separates_weights else Storage.FILE
        self._of_initialiser = Storage.INITIALISER if separates_weights else Storage.FILE

    def deserialize(
        self,
        proto: onnx.GraphProto,
        plain_ones: Sequence[CachedNode | None],
        metadata: Mapping[str, str] = MappingProxyType({}),
        stored: Mapping[str, StoredData] = MappingProxyType({}),
        *,
        in_body: bool = False,
    ) -> Graph:
        constants = {
            (name := tensor.name): self._constant(tensor, name, stored.get(name)) for tensor in proto.initializer
        }
        for sparse in proto.sparse_initializer:
            constants[sparse.values.name] = self._sparse_constant(sparse, sparse.values.name)
        absent = [value.name for value in proto.input if value.type.HasField("optional_type") and not in_body]
        nodes = [Node(op_type="Optional", version=15, name=name, inputs=(), outputs=(name,)) for name in absent]
        taken = set(absent)
        for index, (node_proto, plain) in enumerate(zip(proto.node, plain_ones, strict=True)):
            if plain is None and node_proto.op_type == "Constant" and node_proto.domain in ("", "ai.onnx"):
                output = node_proto.output[0]
                if not node_proto.attribute:
                    raise ModelError(f"node {node_proto.name!r} (Constant) has no value")
                constants[output] = replace(self._constant_node(node_proto, output), storage=self._of_node)
            else:
                nodes.append(self._named(self._node(node_proto, plain), index, taken))
                taken.add(nodes[-1].name)
        fed = [value for value in proto.input if value.name not in constants and value.name not in absent]
        inputs = tuple(_graph_input(value, in_body=in_body) for value in fed)
        return Graph(
            name=proto.name,
            inputs=inputs,
            outputs=tuple(value.name for value in proto.output),
            nodes=tuple(nodes),
            constants=MappingProxyType(constants),
            metadata=MappingProxyType(dict(metadata)),
        )

    def _node(self, proto: onnx.NodeProto, plain: CachedNode | None) -> Node:
        if plain is not None:
            return typed(plain, self._versions.get(domain_of(plain.domain), 1))
        domain = domain_of(proto.domain)
        return Node(
            op_type=proto.op_type,
            domain=domain,
            version=self._versions.get(domain, 1),
            name=proto.name,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=MappingProxyType({a.name: self._attribute(a) for a in proto.attribute}),
        )

    @staticmethod
    def _named(node: Node, index: int, taken: Collection[str]) -> Node:
        """Return a node under a name that no other has."""
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}#{index}"
        return node if name == node.name else replace(node, name=name)

    def _attribute(self, proto: onnx.AttributeProto) -> AttributeValue:
        kind, found = onnx.AttributeProto, proto.type
        if proto.ref_attr_name:
            raise ModelError(
                f"attribute {proto.name!r} refers to {proto.ref_attr_name!r}, which only the body of a function may do"
            )
        if found == kind.GRAPH:
            return self.deserialize(proto.g, decode_nodes(proto.g.node), in_body=True)
        if found == kind.GRAPHS:
            return tuple(self.deserialize(graph, decode_nodes(graph.node), in_body=True) for graph in proto.graphs)
        if found == kind.TYPE_PROTO:  # of an optional value, which takes its type from its content
            return bytes(proto.tp.SerializeToString())
        return read_tensor(proto.t, self._folder) if found == kind.TENSOR else plain_value(proto)

    def _constant(self, tensor: onnx.TensorProto, name: str, stored: StoredData | None = None) -> Constant:
        return Constant(
            shape=tuple(tensor.dims),
            dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)),
            read=None if is_missing(tensor, self._folder) else stored or (lambda: read_tensor(tensor, self._folder)),
            sources=frozenset({name}),
            storage=self._of_initialiser,
        )

    def _constant_node(self, proto: onnx.NodeProto, output: str) -> Constant:
        attribute = proto.attribute[0]
        if attribute.name == "value":
            return self._constant(attribute.t, output)
        if attribute.name == "sparse_value":
            return self._sparse_constant(attribute.sparse_tensor, output)
        dtype: type | str = {"value_int": np.int64, "value_ints": np.int64, "value_string": object}.get(
            attribute.name, object if attribute.name == "value_strings" else np.float32
        )
        return Constant.of(np.array(onnx.helper.get_attribute_value(attribute), dtype=dtype), frozenset({output}))

    def _sparse_constant(self, sparse: onnx.SparseTensorProto, name: str) -> Constant:
        shape = tuple(sparse.dims)
        if len(shape) > MOST_AXES:
            raise ModelError(f"sparse tensor {name!r} has {len(shape):,} axes; at most {MOST_AXES} are accepted")
        if any(size < 0 for size in shape) or math.prod(shape) > self._limits.tensor_elements:
            raise ModelError(
                f"sparse tensor {name!r} has shape {shape}, "
                f"above the limit of {self._limits.tensor_elements:,} elements"
            )
        values = read_tensor(sparse.values, self._folder)

        def read() -> Array:
            dense = np.zeros(shape, dtype=values.dtype)
            positions = read_tensor(sparse.indices, self._folder)
            try:
                if positions.ndim == 1:
                    dense.reshape(-1)[positions] = values
                else:
                    dense[tuple(positions.T)] = values
            except (IndexError, ValueError) as error:
                raise ModelError(f"sparse tensor {name!r} cannot be read: {error}") from error
            return dense

        return Constant(
            shape=shape, dtype=values.dtype, read=read, sources=frozenset({name}), storage=self._of_initialiser
        )


def _graph_input(value: onnx.ValueInfoProto, *, in_body: bool) -> GraphInput:
    tensor = value.type.tensor_type
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type" and in_body:  # the inputs of a body have the types of the values passed to it
        return GraphInput(name=value.name, dtype=np.dtype(np.float32), shape=None)
    if kind != "tensor_type":
        found = "has no type" if kind is None else f"is no tensor but a value of type {kind.removesuffix('_type')}"
        raise ModelError(f"input {value.name!r} {found}; only tensors can be scored")
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim
        )
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError as error:
        raise ModelError(f"input {value.name!r} has an unknown data type {tensor.elem_type}") from error
    return GraphInput(name=value.name, dtype=dtype, shape=shape)
