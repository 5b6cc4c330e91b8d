"""The distribution of each constant of a graph, by its role."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aznas_onnx.blocks import recurrent_weights
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, Use, uses
from aznas_onnx.operators.sets import ARITHMETIC, BROADCASTING, PASSES_ON

__all__ = ["TRUNCATED_AT", "Distribution", "Weight", "neutral_inputs", "plan_weights"]

TRUNCATED_AT = 2.0
_POSITION_STD = 0.02  # truncated normal, as all vision transformers initialise positions, class tokens and tables
_TRANSFORMER_STD = 0.02
_PRELU_SLOPE = 0.25
_VALUES: Mapping[ConstantRole, float] = {
    ConstantRole.BIAS: 0.0,
    ConstantRole.NORM_SCALE: 1.0,
    ConstantRole.NORM_SHIFT: 0.0,
    ConstantRole.NORM_MEAN: 0.0,
    ConstantRole.NORM_VARIANCE: 1.0,
    ConstantRole.SCALE: 1.0,
    ConstantRole.DECAY: -1.0,
    ConstantRole.SLOPE: _PRELU_SLOPE,
}


class Distribution(str, enum.Enum):
    """A distribution with one parameter."""

    CONSTANT = "constant"  # the value itself
    NORMAL = "normal"  # mean 0; the parameter is the standard deviation
    TRUNCATED_NORMAL = "truncated normal"  # mean 0, cut at TRUNCATED_AT for every deviation, as torch and timm do
    UNIFORM = "uniform"  # from -parameter to parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """The initialisation of one constant.

    - `name`, `shape`: The constant.
    - `role`: The role that decides its distribution.
    - `distribution`, `parameter`: Its distribution.
    - `index`: Number of its random stream: its place among the random weights in graph order; -1 for a fixed value.
    - `is_shared_by_samples`: True for a constant that was expanded along the batch (a class token): the numbers of one
      sample are random.
    """

    name: str
    shape: tuple[int, ...]
    role: ConstantRole
    distribution: Distribution
    parameter: float
    index: int = -1
    is_shared_by_samples: bool = False


def plan_weights(graph: Graph, infos: TensorInfos, *, is_transformer: bool) -> Mapping[str, Weight]:
    """Choose the distribution of every float constant that scoring initialises.

    ========================  ===========================================  ==============================
    Role                      Convolutional network                        Transformer
    ========================  ===========================================  ==============================
    convolution weight        normal, sqrt(2 / fan-in) (Kaiming, ReLU)     uniform, 1 / sqrt(fan-in): what
                                                                           PyTorch gives nn.Conv2d, which
                                                                           AutoFormer leaves as it is
    convolution bias          0                                            likewise
    linear weight             normal, sqrt(2 / fan-in)                     truncated normal, 0.02
    embedding                 normal, 1                                    truncated normal, 0.02
    recurrent weight, also    uniform, 1 / sqrt(hidden size)               likewise
    of cells written out
    position, class token     truncated normal, 0.02                       likewise
    bias, shift, mean         0                                            0
    scale, variance, factor   1                                            1
    decay in an exponent      -1                                           -1
    PReLU slope               0.25                                         0.25
    fixed                     the file's value                             the file's value
    ========================  ===========================================  ==============================

    Arithmetic on the raw input (subtracting the colours' means, dividing by 255) is made neutral, so that the Gaussian
    samples reach the network unchanged: the published code feeds them after such preprocessing.

    - `graph`: Canonical, at the batch size of `infos`. A weight that several nodes read is initialised once, for the
      first.
    - `is_transformer`: Which column of the table applies.

    Returns: Constants without an entry have the value of the file. No weight's data is read.
    """
    planned: dict[str, Weight] = {}
    streams = 0
    states = recurrent_weights(graph, infos)
    for use in uses(graph):
        if use.role is ConstantRole.FIXED or use.name in planned:
            continue
        weight = _plan(use, graph, infos, is_transformer, streams, states.get(use.name, 0))
        planned[use.name] = weight
        streams += weight.index >= 0
    for name, value in _preprocessing(graph):
        shape = graph.constants[name].shape
        planned.setdefault(
            name,
            Weight(
                name=name, shape=shape, role=ConstantRole.FIXED, distribution=Distribution.CONSTANT, parameter=value
            ),
        )
    return MappingProxyType(planned)


def _plan(use: Use, graph: Graph, infos: TensorInfos, is_transformer: bool, index: int, state: int) -> Weight:
    """Plan one weight; `state` is the width of the state of the written-out recurrent layer that it is of, or 0."""
    shape = graph.constants[use.name].shape
    is_of_cell = state > 0 and use.role is ConstantRole.LINEAR_WEIGHT
    distribution, parameter = (
        (Distribution.UNIFORM, _inverse_root(state)) if is_of_cell else _distribution(use, graph, is_transformer)
    )
    return Weight(
        name=use.name,
        shape=shape,
        role=ConstantRole.RECURRENT_WEIGHT if is_of_cell else use.role,
        distribution=distribution,
        parameter=parameter,
        index=-1 if distribution is Distribution.CONSTANT else index,
        is_shared_by_samples=_is_shared_by_samples(use.node, shape, infos),
    )


def _distribution(use: Use, graph: Graph, is_transformer: bool) -> tuple[Distribution, float]:
    role = use.role
    shape = graph.constants[use.name].shape
    if is_transformer and role is ConstantRole.BIAS and use.node.is_op("Conv"):
        # PyTorch initialises a convolution's bias from the same uniform distribution as its weight.
        weight = graph.constants.get(use.node.inputs[1])
        return (
            (Distribution.CONSTANT, 0.0)
            if weight is None
            else (Distribution.UNIFORM, _inverse_root(math.prod(weight.shape[1:])))
        )
    value = _VALUES.get(role)
    if value is not None:
        return Distribution.CONSTANT, value
    if role is ConstantRole.POSITION:
        return Distribution.TRUNCATED_NORMAL, _POSITION_STD
    if role is ConstantRole.RECURRENT_WEIGHT:
        hidden = use.node.attributes.get("hidden_size")
        return Distribution.UNIFORM, _inverse_root(hidden if isinstance(hidden, int) else shape[-1])
    if role is ConstantRole.EMBEDDING:
        return (Distribution.TRUNCATED_NORMAL, _TRANSFORMER_STD) if is_transformer else (Distribution.NORMAL, 1.0)
    if role is ConstantRole.CONV_WEIGHT and is_transformer:
        return Distribution.UNIFORM, _inverse_root(_fan_in(use, graph))
    if is_transformer:
        return Distribution.TRUNCATED_NORMAL, _TRANSFORMER_STD
    return Distribution.NORMAL, math.sqrt(2.0) * _inverse_root(_fan_in(use, graph))


def _inverse_root(count: int) -> float:
    return 1.0 / math.sqrt(max(count, 1))


def _fan_in(use: Use, graph: Graph) -> int:
    """Return how many products are summed into one output element.

    For a transposed convolution it is what ``torch.nn.init`` calls fan-in (axis 1 times the kernel).
    """
    node, index = _reader(use, graph)
    shape = graph.constants[use.name].shape
    if use.role is ConstantRole.CONV_WEIGHT:
        return math.prod(shape[1:])
    if node.is_op("Gemm"):
        transposed = bool(node.attributes.get("transB" if index == 1 else "transA", 0))
        return shape[-1] if transposed == (index == 1) else shape[0]
    if node.is_op("Einsum"):
        return _contracted(node, index, shape)
    return shape[-1] if index == 0 or len(shape) == 1 else shape[-2]


def _reader(use: Use, graph: Graph) -> tuple[Node, int]:
    """Return the node that multiplies with a weight, behind those that only move its elements."""
    node, index, name = use.node, use.index, use.name
    while node in PASSES_ON and name not in graph.outputs:
        readers = graph.consumers.get(node.outputs[0], ())
        if not readers:
            break
        name = node.outputs[0]
        node, index = readers[0], readers[0].inputs.index(name)
    return node, index


def _contracted(node: Node, index: int, shape: tuple[int, ...]) -> int:
    equation = str(node.attributes.get("equation", "")).replace(" ", "").replace("...", "")
    terms, _, output = equation.partition("->")
    labels = terms.split(",")[index]
    return math.prod(size for label, size in zip(labels, shape[-len(labels) :], strict=False) if label not in output)


def _is_shared_by_samples(node: Node, shape: tuple[int, ...], infos: TensorInfos) -> bool:
    """Whether axis 0 of a constant is the batch: the model's author meant one for all samples."""
    if len(shape) < 3 or shape[0] != infos.batch_size or infos.batch_size == 1:
        return False
    # Operands of these share their first axis, where they have equally many.
    if not (node in BROADCASTING or node.is_op("Concat", "MatMul")):
        return False
    output = infos[node.outputs[0]].shape
    return output is not None and len(shape) == len(output) and output[0] == infos.batch_size


def neutral_inputs(graph: Graph, leaked: Collection[str]) -> Mapping[str, float]:
    """Return the value that makes each leaked constant neutral where the raw input is added to or scaled by it.

    - `leaked`: Inputs of the graph without samples: constants that an exporter turned into inputs.
    """
    return {name: value for name, value in _preprocessing(graph, leaked) if name in leaked}


def _preprocessing(graph: Graph, leaked: Collection[str] = ()) -> Iterator[tuple[str, float]]:
    """Yield the operands of elementwise arithmetic on the raw input, with the value that makes each neutral."""
    raw = {value.name for value in graph.inputs if value.name not in leaked}
    for node in graph.nodes:
        if raw.isdisjoint(node.inputs):
            continue
        if node.is_op("Transpose", "Identity"):
            raw.update(node.outputs)
        elif node in ARITHMETIC:
            name = next((name for name in node.inputs if name in graph.constants or name in leaked), None)
            inverts = node.is_op("Sub", "Div") and node.inputs[0] == name
            if name is not None and not inverts and _is_plain_operand(name, graph):
                raw.update(node.outputs)
                yield name, (0.0 if node.is_op("Add", "Sub") else 1.0)


def _is_plain_operand(name: str, graph: Graph) -> bool:
    """Whether a tensor is a float scalar or vector that nothing else reads."""
    constant = graph.constants.get(name)
    if len(graph.consumers[name]) != 1:
        return False
    return constant is None or (constant.is_float and sum(size != 1 for size in constant.shape) <= 1)
