"""What a graph says of its architecture without any pass: depth, paths, layers and widths. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aznas_onnx.flops import Costs
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir import Graph, Node
from aznas_onnx.graph.roles import uses

__all__ = ["Structure", "measure_structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Counts that follow from a graph's shape alone.

    Attributes
    ----------
    layers
        Operators with weights that multiply (convolutions, linear and recurrent layers) on a path from input to
        output.
    depth
        The most of them on any one path.
    shortest
        The fewest of them on any one path: less than `depth` where skips lead past layers.
    log_paths
        Natural logarithm of the number of distinct paths from an input to an output, 0 for a chain.
    mean_path
        Layers on a path, averaged over all paths: how deep the network is if every path counts the same.
    mean_log_width
        Natural logarithm of the number of output channels, averaged over those layers; 0 where there are none.
    activation_elements
        Elements of all tensors that are computed, for one sample.
    """

    layers: int
    depth: int
    shortest: int
    log_paths: float
    mean_path: float
    mean_log_width: float
    activation_elements: int


def measure_structure(model: Model, costs: Costs) -> Structure:
    """Measure the structure of a model, in time linear in the size of its graph.

    Parameters
    ----------
    model
        From :func:`aznas_onnx.graph.prepare`.
    costs
        Its counts.
    """
    graph = model.graph
    widths = dict(_layers(model))
    live = _live(graph)
    # Of each tensor that depends on an input: the most and the fewest layers on a path to it, the number of paths, and
    # the layers on all of them together. Python's integers hold the number of paths of any network.
    found: dict[str, _Paths] = {value.name: _Paths(0, 0, 1, 0) for value in graph.inputs}
    for node in graph.nodes:
        if node.name not in live:
            continue
        entering = [found[name] for name in node.inputs if name in found]
        if entering:
            joined = _Paths.joined(entering, layers=node.name in widths)
            found.update((name, joined) for name in node.outputs if name)
    ends = [found[name] for name in graph.outputs if name in found]
    whole = _Paths.joined(ends) if ends else _Paths(0, 0, 1, 0)
    layers = [width for name, width in widths.items() if name in live]
    return Structure(
        layers=len(layers),
        depth=whole.depth,
        shortest=whole.shortest,
        log_paths=math.log(whole.count),
        mean_path=whole.layers / whole.count,
        mean_log_width=math.fsum(map(math.log, layers)) / len(layers) if layers else 0.0,
        activation_elements=costs.activation_bytes // 4,
    )


@dataclass(frozen=True, slots=True)
class _Paths:
    depth: int
    shortest: int
    count: int
    layers: int

    @classmethod
    def joined(cls, paths: list[_Paths], *, layers: bool = False) -> _Paths:
        """Return the paths that go on from where others end, one layer longer if there is one."""
        count = sum(one.count for one in paths)
        total = sum(one.layers for one in paths)
        depth, shortest = max(one.depth for one in paths), min(one.shortest for one in paths)
        return cls(depth + layers, shortest + layers, count, total + count * layers)


def _layers(model: Model) -> Iterator[tuple[str, int]]:
    """Yield the name of each node that multiplies by weights, and its output channels."""
    axes: Mapping[str, int] = model.channel_axes
    for use in uses(model.graph, model.facts):
        if use.role.is_weight:
            output = use.node.outputs[0]
            shape = model.facts[output].shape or (1,)
            axis = axes.get(output, 1 if use.node.is_op("Conv", "ConvTranspose") else len(shape) - 1)
            yield use.node.name, max(shape[axis] if axis < len(shape) else 1, 1)


def _live(graph: Graph) -> frozenset[str]:
    """Return the names of the nodes that an output depends on."""
    producers: Mapping[str, Node] = graph.producers
    waiting = list(graph.outputs)
    seen: set[str] = set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            waiting += node.inputs
    return frozenset(seen)
