"""Equal blocks that share one Jacobian with efforts ``balanced`` and ``fast``.

Networks stack copies of a block. With random weights the Jacobians of copies differ by chance and, slowly, by depth.
The last of a stack is measured: its input is typical of the stack. On NAS-Bench-201 the last of five ranks the cells as
well as all five do (docs/fidelity.md), and the first clearly worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.initialise import Weight
from aznas_onnx.proxies.engine.stages import Stage

__all__ = ["REPEATS", "representatives"]

REPEATS = 5  # so many equal blocks, at most, share one measurement


def representatives(
    stages: Sequence[Stage], graph: Graph, infos: TensorInfos, weights: Mapping[str, Weight]
) -> dict[int, int]:
    """Find the blocks that can use the Jacobian of another block.

    - `stages`: In dataflow order.
    - `graph`, `infos`: Source of the stages.
    - `weights`: Distributions of the graph's weights.

    Returns: From a block's index to that of the measured block: a later block that computes the same on tensors of the
    same shapes with weights from the same distributions.
    """
    nodes = {node.name: node for node in graph.nodes}
    attributes = _Attributes()
    groups: dict[tuple[Any, ...], list[int]] = {}
    for before, stage in pairwise(stages):
        if stage.is_connected and not stage.is_constant:
            computing = [nodes[name] for step in stage.steps for name in (*step.absorbed, step.node)]
            key = _signature(before, stage, computing, infos, weights, graph, attributes)
            groups.setdefault(key, []).append(stage.block.index)
    return dict(pair for group in groups.values() for pair in _assigned(group))


def _assigned(group: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Yield pairs of a block and its stand-in: the last of every five, counted from the end."""
    backwards = group[::-1]
    for start in range(0, len(backwards), REPEATS):
        measured, *others = backwards[start : start + REPEATS]
        yield from ((other, measured) for other in others)


class _Attributes:
    """Attributes of nodes in a form that compares by value; nodes share equal attributes, so few are converted."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    def of(self, node: Node) -> Any:
        """Return the attributes of a node of the graph, which references them."""
        key = id(node.attributes)
        if key not in self._known:
            self._known[key] = _hashable(node.attributes)
        return self._known[key]


def _signature(
    before: Stage,
    stage: Stage,
    nodes: Sequence[Node],
    infos: TensorInfos,
    weights: Mapping[str, Weight],
    graph: Graph,
    attributes: _Attributes,
) -> tuple[Any, ...]:
    """Return all that the distribution of a block's Jacobian depends on but the distribution of its input."""
    numbers = {before.block.output: 0}

    def operand(name: str) -> tuple[Any, ...]:
        if name in numbers:
            return ("inside", numbers[name])
        weight = weights.get(name)
        if weight is not None:
            return ("weight", weight.distribution, weight.parameter, weight.shape)
        if not name:
            return ("omitted",)
        if name not in graph.constants:
            return ("outside", infos[name].shape)
        value = infos.value(name)  # exporters name the bounds of each ReLU6 anew
        return ("constant", name) if value is None else ("constant", _hashable(value))

    described = []
    for node in nodes:
        operands = tuple(map(operand, node.inputs))
        for name in node.outputs:
            numbers[name] = len(numbers)
        shapes = tuple(infos[name].shape if name else None for name in node.outputs)
        described.append((node.operator, node.version, attributes.of(node), operands, shapes))
    axes = [(block.batch_axis, block.channel_axis) for block in (before.block, stage.block)]
    ends = (*axes, infos[before.block.output].shape)
    return (*ends, numbers[stage.block.output], *described)


def _hashable(value: Any) -> Any:
    """Return an attribute as something to compare by value; a subgraph is equal to itself only."""
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, Mapping):
        return tuple((key, _hashable(entry)) for key, entry in sorted(value.items()))
    return value
