"""Count a model in one pass over its nodes."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from aznas_onnx.costs.node_costs import Costs, CountStatus, NodeCost
from aznas_onnx.costs.parameters import parameters
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import LookUp, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.model import Model
from aznas_onnx.operators import CUSTOM_OPERATORS, OPERATORS, zero
from aznas_onnx.operators.sets import RESHAPES, SHAPE_QUERIES
from aznas_onnx.user_modules import RAISED, place, summary

__all__ = ["count"]


def count(model: Model) -> Costs:
    """Count the multiply-adds, trainable parameters and activation bytes of each node, for one sample.

    Parameters
    ----------
    model
        From :func:`aznas_onnx.graph.prepare`, at any batch size.

    Returns
    -------
    Costs
        One entry per node, in graph order, behind the look-ups that inputs take the place of. Convolution, linear,
        matrix product, attention and recurrent operators are counted, the padding that a convolution reads included;
        bias, normalisation, activation, pooling and data movement are zero by declaration. Any other operator is listed
        as unsupported with zero MACs, as is a counted one whose shapes depend on data. Activation bytes are those of
        the outputs in float32; views (Reshape and the like) have none.

    Examples
    --------
    >>> from aznas_onnx.graph import prepare
    >>> costs = count(prepare("resnet18.onnx"))      # doctest: +SKIP
    >>> costs.macs, costs.params                      # doctest: +SKIP
    (1814073344, 11689512)
    """
    params = parameters(model.graph, model.inputs.look_ups.values())
    batched = _batched_tensors(model)
    replaced = tuple(_look_up_cost(model, name, look_up, params) for name, look_up in model.inputs.look_ups.items())
    return Costs(nodes=(*replaced, *(_node_cost(node, model.infos, batched, params) for node in model.graph.nodes)))


def _look_up_cost(model: Model, name: str, look_up: LookUp, params: Mapping[str, int]) -> NodeCost:
    """Return the cost of a look-up that an input replaces."""
    return NodeCost(
        node=look_up.node,
        operator="Gather",
        status=CountStatus.ZERO,
        macs=0,
        params=params.get(look_up.node, 0),
        activation_bytes=model.infos[name].size_bytes // model.infos.batch_size,
    )


def _batched_tensors(model: Model) -> frozenset[str]:
    """Return the tensors that depend on an input with a batch axis; the work behind any other is not per sample."""
    found = set(model.inputs.batched)
    for node in model.graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return frozenset(found)


def _node_cost(node: Node, infos: TensorInfos, batched: frozenset[str], params: Mapping[str, int]) -> NodeCost:
    samples = 1 if batched.isdisjoint(node.outputs) else infos.batch_size
    status, macs = _macs(node, infos)
    return NodeCost(
        node=node.name,
        operator=node.operator,
        status=status,
        macs=macs // samples,
        params=params.get(node.name, 0),
        activation_bytes=_output_bytes(node, infos) // samples,
    )


def _macs(node: Node, infos: TensorInfos) -> tuple[CountStatus, int]:
    if node.unknown:  # its inputs were not checked
        return CountStatus.UNSUPPORTED, 0
    record = OPERATORS.record_of(node)
    if record is None or record.macs is None:
        return CountStatus.UNSUPPORTED, 0
    if record.macs is zero:
        return CountStatus.ZERO, 0
    try:
        macs: Any = record.macs(node, infos)  # a custom rule can give any object
    except ModelError:  # a shape depends on data
        return CountStatus.UNSUPPORTED, 0
    except RAISED as error:
        if CUSTOM_OPERATORS.get(node) is None:
            raise
        raise ModelError(f"{_rule(node)} fails: {summary(error)} ({place(error)})") from error
    if macs is None:
        return CountStatus.UNSUPPORTED, 0
    if isinstance(macs, bool) or not isinstance(macs, Integral) or macs < 0:
        needed = "a whole number of 0 or more, or None where unknown, is needed"
        raise ModelError(f"{_rule(node)} gives {reprlib.repr(macs)}; {needed}")
    return CountStatus.COUNTED, int(macs)


def _rule(node: Node) -> str:
    return f"node {node.name!r}: the MAC rule of {node.operator}"


def _output_bytes(node: Node, infos: TensorInfos) -> int:
    if node in RESHAPES or node in SHAPE_QUERIES or node.is_op("Identity"):  # they make no new tensor
        return 0
    total = 0
    for name in node.outputs:
        info = infos[name] if name else None
        if info is not None and info.value is None:  # a known value is shape arithmetic
            total += info.size_bytes
    return total
