"""All paths from an input to a tensor, counted without listing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.operators.sets import CONVOLUTIONS, WINDOWED

__all__ = ["NONE", "START", "Paths", "is_wide", "joined"]


@dataclass(frozen=True, slots=True)
class Paths:
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

    def through(self, node: Node, infos: TensorInfos, *, is_layer: bool) -> Paths:
        """Return the paths that go on through a node."""
        is_window = node in WINDOWED or node.is_op("Resize")
        if not is_layer and not is_window:
            return self
        reach, step = _seen(self.reach, self.step, node, infos) if is_window else (self.reach, self.step)
        return Paths(
            self.depth + is_layer,
            self.shortest + is_layer,
            self.spatial + (is_layer and is_wide(node, infos)),
            self.count,
            self.layers + self.count * is_layer,
            reach,
            step,
        )


START = Paths(0, 0, 0, 1, 0, 1.0, 1.0)
NONE = Paths(0, 0, 0, 0, 0, 0.0, 1.0)


def joined(paths: Sequence[Paths]) -> Paths:
    """Return the paths that go on from where several meet."""
    if len(paths) == 1:
        return paths[0]
    return Paths(
        max(path.depth for path in paths),
        min(path.shortest for path in paths),
        max(path.spatial for path in paths),
        sum(path.count for path in paths),
        sum(path.layers for path in paths),
        max(path.reach for path in paths),
        max(path.step for path in paths),
    )


def is_wide(node: Node, infos: TensorInfos) -> bool:
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
