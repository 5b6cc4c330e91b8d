"""One walk over a graph: shapes of every tensor, values of small constants, control flow resolved.

The walk computes everything that follows from the given batch size, so that shape arithmetic (Shape, Gather, Concat,
...) becomes known values. Two walks at different batch sizes show which constants depend on the batch; `folding` and
`make_batch_dynamic` use that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.errors import AznasError, ModelError, UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Array, Constant, Graph, GraphInput, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.ir.tensors import MOST_AXES
from aznas_onnx.graph.shapes.constant_evaluation import evaluate, is_affordable, is_cheap
from aznas_onnx.graph.shapes.control_flow import Resolution, captured, resolve
from aznas_onnx.graph.shapes.infos_at_batch import rebatched
from aznas_onnx.graph.shapes.make_batch_dynamic import BatchRepair
from aznas_onnx.graph.shapes.sequences import Sequences
from aznas_onnx.graph.shapes.shape_inference import infer
from aznas_onnx.limits import Limits, spend
from aznas_onnx.operators.operator_record import Attributes
from aznas_onnx.operators.sets import CONTROL_FLOW, RANDOM, SHAPE_QUERIES

__all__ = ["interpret"]

# Constants up to this size are read: integers (index tables) in full, floats only where they can be scalars, scales or
# masks.
_SMALL_FLOAT_ELEMENTS = 4096
_ELEMENTS_OF_WORK = 256  # that numpy computes while a name is looked up
_REMEMBERED_BYTES = 32  # of all values, per element of the limit of one: four of the largest in int64
_SCALARS = 64  # values up to this size are always remembered: shape arithmetic is made of them
_NOTHING = TensorInfo(None, np.dtype(np.float32))
_NONE: Mapping[str, TensorInfo] = {}


def interpret(
    graph: Graph,
    batch_size: int,
    input_shapes: Mapping[str, tuple[int, ...]],
    limits: Limits,
    reference: TensorInfos | None = None,
    *,
    repair: bool = False,
    around: bool = False,
    reached: dict[str, TensorInfo] | None = None,
    copies: dict[str, int] | None = None,
) -> tuple[Graph, TensorInfos]:
    """Walk a graph at one batch size.

    - `graph`: Any lowered graph.
    - `batch_size`: Stored in the infos; `input_shapes` contain it already.
    - `input_shapes`: A complete shape for every graph input.
    - `limits`: Bounds on tensors and on unrolled nodes.
    - `reference`: Infos of `graph` at another batch size. Where all nodes keep the batch on axis 0, they replace the
      walk.
    - `repair`: Repair nodes that contain the batch size of `reference`.
    - `around`: Mark a node that cannot be resolved (:attr:`Node.unknown`) instead of raising.
    - `reached`: Receives the infos during the walk, for callers that inspect a failed walk.
    - `copies`: Receives the tensors that repeat one row for each sample, and the axis, as repairs find them.

    - Returns `graph`: The graph with control flow and sequences replaced by the nodes that run; `graph` itself without
      changes. Sequences are removed from the outputs; if all outputs are sequences, their tensors are the outputs.
    - Returns `infos`: One info per tensor.

    Raises ModelError if shapes do not fit, or control flow depends on data.
    """
    known = None if repair else reference  # a repaired graph can have other constants than that of the reference
    walk = _Walk(graph, limits, {} if reached is None else reached, known, around=around)
    if reference is not None and repair:
        walk.repair = BatchRepair(
            reference, reference.batch_size, walk.infos, batch_size, walk.constants, {} if copies is None else copies
        )
    for graph_input in graph.inputs:
        walk.take(graph_input, tuple(input_shapes[graph_input.name]))
    follows = reference is not None and walk.follow(rebatched(graph, reference, batch_size, input_shapes))
    if not follows:
        walk.visit_all(graph.nodes)
    outputs = walk.outputs_of(graph)
    missing = [name for name in outputs if name not in walk.infos]
    if missing:
        raise ModelError(f"output {missing[0]!r} of the graph is made by no node")
    if not walk.changed:
        return graph, TensorInfos(walk.infos, batch_size, separates_samples=follows)
    resolved = replace(graph, nodes=tuple(walk.nodes), constants=MappingProxyType(walk.constants), outputs=outputs)
    return resolved, TensorInfos(walk.infos, batch_size)


class _Walk:
    def __init__(
        self,
        graph: Graph,
        limits: Limits,
        infos: dict[str, TensorInfo],
        reference: TensorInfos | None = None,
        *,
        around: bool,
    ) -> None:
        self.constants: dict[str, Constant] = dict(graph.constants)
        self.nodes: list[Node] = []
        self.changed = False
        self.repair: BatchRepair | None = None
        self._limits = limits
        self._unrolled = 0
        self._remembered = 0
        self.infos = infos
        self._sequences = Sequences(self.infos)
        self._around = around
        self._doubtful: set[str] = set()  # tensors that follow from a node of which nothing is known
        self._steered: set[str] = set()  # tensors that follow from a value that the user gives
        self._shared: dict[Callable[[], Array] | None, TensorInfo] = {}
        self._inferred: dict[tuple[object, ...], Sequence[TensorInfo]] = {}
        self._admitted: set[TensorInfo] = set()
        self._add_infos(self.constants, {} if reference is None else reference)

    def follow(self, infos: Mapping[str, TensorInfo] | None) -> bool:
        """Take over the infos of all nodes' outputs; False, without effect, where one exceeds the limits."""
        if infos is None or any(map(self.objection, dict.fromkeys(infos.values()))):
            return False
        self.infos.update(infos)
        return True

    def visit_all(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.visit(node)

    def take(self, value: GraphInput, shape: tuple[int, ...]) -> None:
        """Take an input of a shape; its value, too, where the user gives it."""
        known = None if value.value is None else np.broadcast_to(value.value, shape)
        info = TensorInfo(shape, value.dtype, known)
        objection = self.objection(info)
        if objection:
            raise ModelError(f"input {value.name!r} is {objection}")
        self.infos[value.name] = info
        if known is not None:
            self._steered.add(value.name)

    def outputs_of(self, graph: Graph) -> tuple[str, ...]:
        """Return the outputs that are tensors; where all are sequences, their tensors."""
        tensors = tuple(name for name in graph.outputs if name not in self._sequences)
        return tensors or tuple(dict.fromkeys(one for name in graph.outputs for one in self._sequences.elements(name)))

    def visit(self, node: Node) -> None:
        mark = len(self.nodes)
        try:
            self._visit(node)
        except UnsupportedOperatorError as error:
            if not self._around:
                raise
            del self.nodes[mark:]
            self._go_around(node, str(error))

    def _visit(self, node: Node) -> None:
        if node.unknown:
            self._go_around(node, node.unknown)
            return
        if node in CONTROL_FLOW:
            self._resolve(node)
            return
        held = self._sequences.resolve(node)
        if held is not None:
            self._take_over(node, held)
            return
        repair = None if self.repair is None else self.repair(node)
        if repair is None:
            self._keep(node)
            return
        self.changed = True
        self._add_constants(repair.constants)
        for replacement in repair.nodes:
            self._keep(replacement)

    def _go_around(self, node: Node, reason: str) -> None:
        """Keep an unknown node; the outer tensors of its branches or body become its operands."""
        if not node.unknown:
            self.changed = True
            read = dict.fromkeys(captured(node))
            operands = (*node.inputs, *(name for name in read if name in self.infos and name not in node.inputs))
            node = replace(
                node,
                inputs=tuple(one for name in operands for one in self._sequences.elements(name)),
                attributes=MappingProxyType({k: v for k, v in node.attributes.items() if not isinstance(v, Graph)}),
                unknown=reason,
            )
        self.nodes.append(node)
        for name in filter(None, node.outputs):
            self.infos[name] = _NOTHING
            self._doubtful.add(name)

    def _resolve(self, node: Node) -> None:
        missing = [name for name in node.inputs if name and name not in self.infos and name not in self._sequences]
        if missing:
            raise ModelError(f"node {node.name!r} ({node.operator}) reads {missing[0]!r}, which nothing makes")
        for part in resolve(node, self.infos, self._limits.unrolled_nodes):
            self._take_over(node, part)

    def _take_over(self, node: Node, part: Resolution) -> None:
        """Walk over nodes that run in place of a node."""
        self.changed = True
        self._unrolled += max(1, len(part.nodes) + len(part.constants) // 4)
        if self._unrolled > self._limits.unrolled_nodes:
            raise ModelError(
                f"unrolling node {node.name!r} ({node.operator}) gives more than {self._limits.unrolled_nodes:,} "
                "nodes; export the model with fewer turns of its loops, or without them"
            )
        self._add_constants(part.constants)
        self.visit_all(part.nodes)

    def _add_constants(self, constants: Mapping[str, Constant]) -> None:
        self.constants.update(constants)
        self._add_infos(constants)

    def _add_infos(self, constants: Mapping[str, Constant], known: Mapping[str, TensorInfo] = _NONE) -> None:
        """Add the infos of constants; one without a batch is the same in every walk."""
        for name, constant in constants.items():
            info = known.get(name)
            if info is None or not self._is_as_read(info, constant):
                info = self._constant_info(constant)
            self.infos[name] = info

    def _is_as_read(self, info: TensorInfo, constant: Constant) -> bool:
        """Whether the info of another walk is what reading the constant would give."""
        elements = constant.elements
        if info.value is None:
            return elements > self._most_elements(constant)
        return elements <= _SCALARS and info.dtype == constant.dtype

    def _keep(self, node: Node) -> None:
        spend(node, 1 + len(node.inputs) + len(node.outputs))
        self.nodes.append(node)
        for name, info in zip(node.outputs, self._known_outputs(node), strict=False):
            if name:
                if info not in self._admitted:
                    self._admit(node, info)
                self.infos[name] = info

    def _admit(self, node: Node, info: TensorInfo) -> None:
        objection = self.objection(info)
        if objection:
            raise ModelError(f"node {node.name!r} ({node.operator}) makes {objection}")
        self._admitted.add(info)

    def _known_outputs(self, node: Node) -> Sequence[TensorInfo]:
        if not self._steered.isdisjoint(node.inputs):
            self._steered.update(node.outputs)
        if self._doubtful.isdisjoint(node.inputs):
            return self._outputs(node)
        self._doubtful.update(node.outputs)
        try:
            return self._outputs(node)
        except ModelError:  # unknown operands are not checked
            return [_NOTHING] * len(node.outputs)

    def _outputs(self, node: Node) -> Sequence[TensorInfo]:
        try:
            inputs = [self.infos[name] if name else None for name in node.inputs]
        except KeyError as error:
            raise ModelError(
                f"node {node.name!r} ({node.operator}) reads {error.args[0]!r}, which nothing makes"
            ) from error
        first = inputs[0] if inputs else None
        if node in SHAPE_QUERIES and first is not None and first.shape is not None:
            return [_known(_shape_value(node, first.shape))]
        for info in inputs:
            if info is not None and info.value is None:
                break
        else:
            computed = None if node in RANDOM else self._compute(node, inputs)
            if computed is not None:
                return computed
        return self._infer(node, inputs)

    def _infer(self, node: Node, inputs: Sequence[TensorInfo | None]) -> Sequence[TensorInfo]:
        """Infer the outputs of a node, once for all of one output that share its attributes and its very operands."""
        if len(node.outputs) != 1:
            return infer(node, inputs)
        key = (node.op_type, node.domain, node.version, id(node.attributes), *inputs)  # the walk adds its nodes
        known = self._inferred.get(key)
        if known is None:
            known = self._inferred[key] = infer(node, inputs)
        return known

    def _compute(self, node: Node, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo] | None:
        """Return the outputs of a node whose inputs are known, or None where that is too large or not possible."""
        if node.op_type == "MatMul" and not self._steered.isdisjoint(node.inputs):
            return None  # a layer on a value that the user gives is still a layer
        if not is_affordable(node, inputs, self._limits.folded_elements):
            return None
        try:
            arrays = evaluate(node, [None if info is None else info.value for info in inputs])
        except AznasError:
            infer(node, inputs)  # a better message, where the shapes are what does not fit
            raise
        spend(node, sum(array.size for array in arrays) // _ELEMENTS_OF_WORK)
        return [
            _known(array) if self._spend(array.size, array.dtype) else TensorInfo(array.shape, array.dtype)
            for array in arrays
        ]

    def _spend(self, elements: int, dtype: np.dtype[Any]) -> bool:
        """Whether a value of this number of elements is stored; there are too many large ones."""
        if elements > _SCALARS:
            self._remembered += elements * dtype.itemsize
        return elements <= _SCALARS or self._remembered <= _REMEMBERED_BYTES * self._limits.folded_elements

    def _constant_info(self, constant: Constant) -> TensorInfo:
        """Return the info of a constant; constants that share their data share their info."""
        known = self._shared.get(constant.read)
        if known is not None and (known.value is None or self._spend(constant.elements, constant.dtype)):
            return known
        info = self._constant_info_anew(constant)
        if constant.read is not None:
            self._shared[constant.read] = info
        return info

    def _constant_info_anew(self, constant: Constant) -> TensorInfo:
        is_large = constant.elements > self._most_elements(constant)
        if is_large or not is_cheap(constant) or not self._spend(constant.elements, constant.dtype):
            return TensorInfo(constant.shape, constant.dtype)
        assert constant.read is not None  # or it would not be cheap
        return TensorInfo(constant.shape, constant.dtype, constant.read())

    def _most_elements(self, constant: Constant) -> int:
        return _SMALL_FLOAT_ELEMENTS if constant.is_float else self._limits.folded_elements

    def objection(self, info: TensorInfo) -> str:
        """Return why a tensor of this shape and type is impossible, or an empty string."""
        shape = info.shape or ()
        if min(shape, default=0) < 0:
            return f"a tensor of negative size {shape}"
        if len(shape) > MOST_AXES:
            return f"a tensor of {len(shape)} axes, but at most {MOST_AXES} can be computed with"
        if info.elements > self._limits.tensor_elements:
            return f"a tensor of shape {shape}, above the limit of {self._limits.tensor_elements:,} elements"
        return ""


def _shape_value(node: Node, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64), dtype=np.int64)
    attributes: Attributes = node.attributes
    return np.array(shape[attributes.get("start", 0) : attributes.get("end", len(shape))], dtype=np.int64)


def _known(array: Array) -> TensorInfo:
    return TensorInfo(tuple(array.shape), array.dtype, array)
