"""Measure the structure of a graph: depth, paths, layers, widths, receptive field.

Only operators with a signal count. A product with zero (an edge that a search space switched off) has no signal; nor
has a shape. Nodes that no output depends on do not count either.

    x -- conv -- + -- y        depth 1, two paths, one layer on them together: 0.5 on average
     \\___________/
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aznas_onnx.costs import Costs
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.constant_roles import uses
from aznas_onnx.operators.sets import CONVOLUTIONS, PASSES_ON, PLAIN_CONVOLUTIONS, SHAPE_QUERIES, WINDOWED

__all__ = ["Structure", "measure_structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Counts that follow from the structure of a graph alone.

    A layer is an operator that multiplies by weights: a convolution, a linear or a recurrent layer.

    Attributes
    ----------
    layers
        Layers on some path from an input to an output.
    depth, shortest_path
        The most layers, and the fewest, on one path.
    spatial_depth
        The most convolutions with a kernel larger than one position on one path.
    log_paths
        Natural logarithm of the number of distinct paths: 0 for a chain, minus infinity where there is none. Pieces of
        one tensor that a concatenation joins again are one path.
    mean_path
        Layers on a path, averaged over all paths with equal weight.
    mean_log_width
        Natural logarithm of the number of output channels, averaged over layers; 0 where there are none.
    receptive_field
        Positions of the input that one position can depend on through convolutions and pooling windows, along the last
        axis and the path with the largest field; 1 where there are no windows. Global pooling, attention and linear
        layers over positions do not count.
    activation_elements
        Elements of all tensors that are computed, for one sample.
    """

    layers: int
    depth: int
    shortest_path: int
    spatial_depth: int
    log_paths: float
    mean_path: float
    mean_log_width: float
    receptive_field: float
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
    graph, infos = model.graph, model.infos
    widths = dict(_layers(model))
    live = _live(graph, infos)
    found: dict[str, _Paths] = {value.name: _START for value in graph.inputs}
    origins: dict[str, str] = {}
    crossed: list[int] = []
    for node in graph.nodes:
        if node.name not in live:
            continue
        names = [name for name in dict.fromkeys(node.inputs) if name in found]
        if not names:
            continue
        if node in PASSES_ON and node.inputs[0] in found:
            names = [node.inputs[0]]
            origin = origins.get(names[0], names[0])
            origins.update((name, origin) for name in node.outputs if name)
        elif node.is_op("Concat"):
            names = list({origins.get(name, name): name for name in names}.values())
        width = widths.get(node.name)
        if width is not None:
            crossed.append(width)
        joined = _joined([found[name] for name in names]).through(node, infos, is_layer=width is not None)
        found.update((name, joined) for name in node.outputs if name)
    ends = [found[name] for name in graph.outputs if name in found]
    whole = _joined(ends) if ends else _NONE
    return Structure(
        layers=len(crossed),
        depth=whole.depth,
        shortest_path=whole.shortest,
        spatial_depth=whole.spatial,
        log_paths=math.log(whole.count) if whole.count else -math.inf,
        mean_path=whole.layers / whole.count if whole.count else 0.0,
        mean_log_width=math.fsum(map(math.log, crossed)) / len(crossed) if crossed else 0.0,
        receptive_field=whole.reach,
        activation_elements=costs.activation_bytes // 4,
    )


@dataclass(frozen=True, slots=True)
class _Paths:
    """All paths from an input to a tensor.

    Attributes
    ----------
    depth, shortest, spatial
        The most and the fewest layers on one path, and the most convolutions wider than a position.
    count, layers
        Number of paths, and the layers on all of them together, as Python integers of any size.
    reach, step
        Positions of the input that a position depends on, and the distance to the next position in the input.
    """

    depth: int
    shortest: int
    spatial: int
    count: int
    layers: int
    reach: float
    step: float

    def through(self, node: Node, infos: TensorInfos, *, is_layer: bool) -> _Paths:
        """Return the paths that go on through a node."""
        is_window = node in WINDOWED or node.is_op("Resize")
        if not is_layer and not is_window:
            return self
        reach, step = _seen(self.reach, self.step, node, infos) if is_window else (self.reach, self.step)
        return _Paths(
            self.depth + is_layer,
            self.shortest + is_layer,
            self.spatial + (is_layer and _is_wide(node, infos)),
            self.count,
            self.layers + self.count * is_layer,
            reach,
            step,
        )


_START = _Paths(0, 0, 0, 1, 0, 1.0, 1.0)
_NONE = _Paths(0, 0, 0, 0, 0, 0.0, 1.0)


def _joined(paths: Sequence[_Paths]) -> _Paths:
    """Return the paths that go on from where several meet."""
    if len(paths) == 1:
        return paths[0]
    return _Paths(
        max(path.depth for path in paths),
        min(path.shortest for path in paths),
        max(path.spatial for path in paths),
        sum(path.count for path in paths),
        sum(path.layers for path in paths),
        max(path.reach for path in paths),
        max(path.step for path in paths),
    )


def _is_wide(node: Node, infos: TensorInfos) -> bool:
    """Whether a layer is a convolution whose kernel is larger than one position."""
    return node in CONVOLUTIONS and math.prod((infos[node.inputs[1]].shape or ())[2:]) > 1


def _seen(reach: float, step: float, node: Node, infos: TensorInfos) -> tuple[float, float]:
    """Return reach and step behind a node, along the last axis of positions."""
    entering, leaving = infos[node.inputs[0]].shape or (), infos[node.outputs[0]].shape or ()
    if node.is_op("Resize"):
        return reach, step * entering[-1] / leaving[-1] if entering and leaving and leaving[-1] else step
    if math.prod(leaving[2:]) == 1 and node not in CONVOLUTIONS:
        return reach, step  # pooling over everything, as a window
    weight = infos[node.inputs[1]].shape if node in CONVOLUTIONS else None
    kernel = weight[-1] if weight else _last(node, "kernel_shape")
    stride = _last(node, "strides")
    if node.is_op("ConvTranspose"):
        step /= stride
        return reach + (kernel - 1) * _last(node, "dilations") * step, step
    return reach + (kernel - 1) * _last(node, "dilations") * step, step * stride


def _last(node: Node, attribute: str) -> int:
    values = node.attributes.get(attribute)
    return int(values[-1]) if isinstance(values, tuple) and values else 1


def _layers(model: Model) -> Iterator[tuple[str, int]]:
    """Yield the name of each node that multiplies by weights, and its output channels."""
    axes: Mapping[str, int] = model.layout.channel_axes
    for use in uses(model.graph):
        if use.role.is_weight:
            output = next(name for name in use.node.outputs if name)
            shape = model.infos[output].shape or (1,)
            axis = axes.get(output, 1 if use.node in PLAIN_CONVOLUTIONS else len(shape) - 1)
            yield use.node.name, max(shape[axis] if axis < len(shape) else 1, 1)


def _live(graph: Graph, infos: TensorInfos) -> frozenset[str]:
    """Return the names of the nodes whose results reach an output, not by way of a silent one."""
    producers: Mapping[str, Node] = graph.producers
    waiting = list(graph.outputs)
    seen: set[str] = set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in seen and not _is_silent(node, infos):
            seen.add(node.name)
            waiting += node.inputs
    return frozenset(seen)


def _is_silent(node: Node, infos: TensorInfos) -> bool:
    """Whether a node's result is the same for every input."""
    if node.is_op("Mul"):
        values = [infos.value(name) for name in node.inputs]
        return any(value is not None and value.size > 0 and not value.any() for value in values)
    return node in SHAPE_QUERIES
