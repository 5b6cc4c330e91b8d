"""Measure the structure of a graph: depth, paths, layers, widths, receptive field.

Only operators with a signal count. A product with zero (an edge that a search space switched off) has no signal; nor
has a shape. Nodes that no output depends on do not count either.

    x -- conv -- + -- y        depth 1, two paths, one layer on them together: 0.5 on average
     \\___________/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from aznas_onnx.costs import Costs
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.constant_roles import uses
from aznas_onnx.operators.sets import PASSES_ON, PLAIN_CONVOLUTIONS, SHAPE_QUERIES
from aznas_onnx.structure.paths import NONE, START, Paths, is_wide, joined
from aznas_onnx.structure.spectral_capacity import spectral_capacity

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
    live_macs, live_params, live_activation_elements
        Multiply-adds, trainable parameters and elements of operators on some path from an input to an output.
    spatial_layers
        Convolutions with a kernel larger than one position on some path.
    log_widths
        Natural logarithm of the number of output channels, summed over layers.
    mean_log_macs
        Natural logarithm of the number of multiply-adds, averaged over layers; 0 where there are none.
    spectral_capacity
        See :func:`~aznas_onnx.structure.spectral_capacity.spectral_capacity`, summed over the layers' weights.
    final_positions
        Positions of the output of the last layer that has several, in graph order; 1 where none has.
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
    live_macs: int
    live_params: int
    live_activation_elements: int
    spatial_layers: int
    log_widths: float
    mean_log_macs: float
    spectral_capacity: float
    final_positions: int


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
    layers = {layer.node.name: layer for layer in _layers(model)}
    live = _live(graph, infos)
    found: dict[str, Paths] = {value.name: START for value in graph.inputs}
    origins: dict[str, str] = {}
    reached: set[str] = set()
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
        reached.add(node.name)
        paths = joined([found[name] for name in names]).through(node, infos, is_layer=node.name in layers)
        found.update((name, paths) for name in node.outputs if name)
    ends = [found[name] for name in graph.outputs if name in found]
    whole = joined(ends) if ends else NONE
    crossed = [layers[node.name] for node in graph.nodes if node.name in reached and node.name in layers]
    log_widths = math.fsum(math.log(layer.width) for layer in crossed)
    counted = [cost for cost in costs.nodes if cost.node in reached]
    macs = [cost.macs for cost in counted if cost.macs and cost.node in layers]
    return Structure(
        layers=len(crossed),
        depth=whole.depth,
        shortest_path=whole.shortest,
        spatial_depth=whole.spatial,
        log_paths=math.log(whole.count) if whole.count else -math.inf,
        mean_path=whole.layers / whole.count if whole.count else 0.0,
        mean_log_width=log_widths / len(crossed) if crossed else 0.0,
        receptive_field=whole.reach,
        activation_elements=costs.activation_bytes // 4,
        live_macs=sum(cost.macs for cost in counted),
        live_params=sum(cost.params for cost in counted),
        live_activation_elements=sum(cost.activation_bytes for cost in counted) // 4,
        spatial_layers=sum(is_wide(layer.node, infos) for layer in crossed),
        log_widths=log_widths,
        mean_log_macs=math.fsum(map(math.log, macs)) / len(macs) if macs else 0.0,
        spectral_capacity=_capacity(model, crossed),
        final_positions=next((layer.positions for layer in reversed(crossed) if layer.positions > 1), 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLayer:
    """A node that multiplies by weights.

    - `width`, `positions`: Output channels, and positions of the output map.
    - `weights`: Names of its weights.
    """

    node: Node
    width: int
    positions: int
    weights: tuple[str, ...]


def _layers(model: Model) -> Iterator[WeightedLayer]:
    """Yield each node that multiplies by weights."""
    layout = model.layout
    weights: dict[str, dict[str, None]] = {}
    for use in uses(model.graph):
        if use.role.is_weight:
            weights.setdefault(use.node.name, {})[use.name] = None
    for node in model.graph.nodes:
        if node.name in weights:
            output = next(name for name in node.outputs if name)
            shape = model.infos[output].shape or (1,)
            axis = layout.channel_axes.get(output, 1 if node in PLAIN_CONVOLUTIONS else len(shape) - 1)
            width = max(shape[axis] if axis < len(shape) else 1, 1)
            apart = {axis, layout.batch_axes.get(output, 0)}
            positions = math.prod(size for place, size in enumerate(shape) if place not in apart)
            yield WeightedLayer(node=node, width=width, positions=positions, weights=tuple(weights[node.name]))


def _capacity(model: Model, layers: Iterable[WeightedLayer]) -> float:
    """Return the spectral capacity of the layers' weights, each counted once."""
    found: dict[str, float] = {}
    for layer in layers:
        for name in layer.weights:
            if name not in found:
                found[name] = spectral_capacity(layer.node, model.graph.constants[name].shape)
    return math.fsum(found.values())


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
