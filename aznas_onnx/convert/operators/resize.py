"""Resize and Upsample, in all their modes.

Interpolation is separable, so each axis is resized on its own: by a list of positions (nearest) or by a small
matrix (linear, cubic), computed once. Where torch's own interpolation means the same, that is used instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, number, numbers, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
Floats = npt.NDArray[np.float64]
_TORCH_MODES = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis that changes: `scale` is the node's, which can differ from `after / before`."""

    index: int
    before: int
    after: int
    scale: float
    roi: tuple[float, float]

    @property
    def is_exact(self) -> bool:
        return math.isclose(self.before * self.scale, self.after, rel_tol=1e-6)


@dataclass(frozen=True, slots=True)
class _Settings:
    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float


def resize(node: Node, context: Context) -> Call:
    settings = _settings(node)
    axes = _changed_axes(node, context, settings)
    if not axes:
        return Call(lambda x: x, node.inputs[:1])
    run = _torch_interpolation(axes, settings, context.rank(node, node.inputs[0]))
    if run is None:
        run = _chain([_resize_axis(axis, settings, context) for axis in axes])
    if not context.is_float(node.inputs[0]):
        return Call(_on_integers(run, settings), node.inputs[:1])
    return Call(run, node.inputs[:1])


def _settings(node: Node) -> _Settings:
    if node.op_type == "Upsample" or node.version < 11:  # no attributes yet; "simple" is what runtimes do
        coordinates, nearest = "asymmetric", "simple"
    else:
        coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
        nearest = text(node, "nearest_mode", "round_prefer_floor")
    mode = text(node, "mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise unsupported(node, f"has mode {mode!r}", "modes 'nearest', 'linear' and 'cubic' are supported")
    return _Settings(
        mode=mode,
        coordinates=coordinates,
        nearest=nearest,
        cubic_a=number(node, "cubic_coeff_a", -0.75),
        exclude_outside=bool(integer(node, "exclude_outside", 0)),
        antialias=bool(integer(node, "antialias", 0)),
        extrapolation=number(node, "extrapolation_value", 0.0),
    )


# ---- what changes -------------------------------------------------------------------------------------------------
def _operand(node: Node, context: Context, index: int, what: str) -> tuple[float, ...]:
    """Return an input as numbers; empty where it is omitted (version 11 writes an empty tensor for that)."""
    name = node.input(index)
    if not name or context.known_shape(name) == (0,):
        return ()
    value = context.known(name)
    if value is None:
        raise unsupported(node, f"takes {what} from {name!r}, which depends on data", f"{what} must be known")
    return tuple(value.reshape(-1).astype(np.float64).tolist())


def _changed_axes(node: Node, context: Context, settings: _Settings) -> list[_Axis]:
    shape = context.shape(node, node.inputs[0])
    chosen = integers(node, "axes")
    axes = tuple(axis % len(shape) for axis in chosen) if chosen else tuple(range(len(shape)))
    sizes: tuple[float, ...] = ()
    roi: tuple[float, ...] = ()
    if node.op_type == "Upsample" and node.version < 9:
        scales = numbers(node, "scales") or ()
    elif node.op_type == "Upsample" or node.version < 11:
        scales = _operand(node, context, 1, "the scales")
    else:
        scales, sizes = _operand(node, context, 2, "the scales"), _operand(node, context, 3, "the sizes")
        if settings.coordinates == "tf_crop_and_resize":
            roi = _operand(node, context, 1, "the region")
    if sizes:
        scales, sizes = _scales_for(node, [shape[axis] for axis in axes], sizes)
    found = []
    for position, axis in enumerate(axes):
        before, scale = shape[axis], scales[position]
        after = int(sizes[position]) if sizes else _scaled(before, scale)
        part = (roi[position], roi[position + len(axes)]) if roi else (0.0, 1.0)
        if after != before or not math.isclose(scale, 1.0) or part != (0.0, 1.0):
            found.append(_Axis(axis, before, after, scale, part))
    return found


def _scaled(size: int, scale: float) -> int:
    # Scales are single precision in the file: 10 * 0.6f is a hair above 6, 10 * 0.7f a hair below 7.
    return math.floor(float(np.float32(size) * np.float32(scale)))


def _scales_for(node: Node, before: list[int], sizes: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scales that lead to `sizes`, and the sizes under the node's aspect-ratio policy."""
    scales = tuple(goal / size for goal, size in zip(sizes, before, strict=True))
    policy = text(node, "keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales, sizes
    scale = min(scales) if policy == "not_larger" else max(scales)
    return (scale,) * len(before), tuple(float(int(scale * size + 0.5)) for size in before)


# ---- torch's own interpolation ------------------------------------------------------------------------------------
def _torch_interpolation(axes: list[_Axis], settings: _Settings, rank: int) -> Callable[[Tensor], Tensor] | None:
    """Return a call of ``F.interpolate`` where it computes exactly this, else None."""
    if min(axis.index for axis in axes) < 2 or any(axis.roi != (0.0, 1.0) for axis in axes):
        return None
    if settings.mode == "nearest":
        return _torch_nearest(axes, settings, rank)
    mode = _TORCH_MODES.get((settings.mode, rank - 2))
    if mode is None or settings.antialias or not all(axis.is_exact for axis in axes):
        return None
    if settings.mode == "cubic" and (settings.exclude_outside or settings.cubic_a != -0.75):
        return None
    if settings.coordinates == "align_corners":
        aligned = True
    elif settings.coordinates in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        aligned = False
    else:
        return None
    if min(axis.after for axis in axes) < 2:  # the modes differ in where they put a single element
        return None
    after = {axis.index: axis.after for axis in axes}

    def run(x: Tensor) -> Tensor:
        size = [after.get(axis, x.shape[axis]) for axis in range(2, x.dim())]
        return F.interpolate(x, size=size, mode=mode, align_corners=aligned)

    return run


def _torch_nearest(axes: list[_Axis], settings: _Settings, rank: int) -> Callable[[Tensor], Tensor] | None:
    factors = [1.0] * (rank - 2)
    for axis in axes:
        factor = axis.after // axis.before
        if axis.after % axis.before:
            return None
        if not np.array_equal(_nearest_positions(axis, settings), np.arange(axis.after) // factor):
            return None
        factors[axis.index - 2] = float(factor)
    if not 1 <= rank - 2 <= 3:
        return None
    return lambda x: F.interpolate(x, scale_factor=factors, mode="nearest")


# ---- one axis at a time -------------------------------------------------------------------------------------------
def _chain(functions: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for function in functions:
            x = function(x)
        return x

    return run


def _on_integers(run: Callable[[Tensor], Tensor], settings: _Settings) -> Callable[[Tensor], Tensor]:
    if settings.mode == "nearest":
        return lambda x: run(x.double()).to(x.dtype)

    def rounded(x: Tensor) -> Tensor:
        limits = torch.iinfo(x.dtype)
        return run(x.float()).clamp(limits.min, limits.max).to(x.dtype)

    return rounded


def _resize_axis(axis: _Axis, settings: _Settings, context: Context) -> Callable[[Tensor], Tensor]:
    outside = _outside(axis, settings)
    if settings.mode == "nearest":
        positions = context.tensor(_nearest_positions(axis, settings))

        def interpolate(x: Tensor) -> Tensor:
            return x.index_select(axis.index, positions)
    else:
        matrix = context.tensor(_matrix(axis, settings))

        def interpolate(x: Tensor) -> Tensor:
            return (x.movedim(axis.index, -1) @ matrix.to(x.dtype)).movedim(-1, axis.index)

    if outside is None or not outside.any():
        return interpolate
    mask, fill = context.tensor(outside), settings.extrapolation

    def run(x: Tensor) -> Tensor:
        along = [1] * x.dim()
        along[axis.index] = -1
        return torch.where(mask.reshape(along), fill, interpolate(x))

    return run


def _source(axis: _Axis, settings: _Settings) -> Floats:
    """Return where on the input's axis each output element lies."""
    y = np.arange(axis.after, dtype=np.float64)
    width = axis.scale * axis.before  # can be fractional
    mode = settings.coordinates
    if mode == "align_corners":
        return np.zeros_like(y) if width == 1 else y * (axis.before - 1) / (width - 1)
    if mode == "asymmetric":
        return y / axis.scale
    if mode == "tf_crop_and_resize":
        start, end = axis.roi
        if width == 1:
            return np.full_like(y, (start + end) * (axis.before - 1) / 2)
        # In this order, as the specification has it: positions often lie halfway, where rounding decides.
        return y * (end - start) * (axis.before - 1) / (width - 1) + start * (axis.before - 1)
    if mode == "pytorch_half_pixel" and width == 1:
        return np.full_like(y, -0.5)
    shift = 0.0
    if mode == "half_pixel_symmetric":
        shift = axis.before / 2 * (1 - axis.after / width)
    return shift + (y + 0.5) / axis.scale - 0.5


def _outside(axis: _Axis, settings: _Settings) -> npt.NDArray[np.bool_] | None:
    if settings.coordinates != "tf_crop_and_resize":
        return None
    x = _source(axis, settings)
    return (x < 0) | (x > axis.before - 1)


def _nearest_positions(axis: _Axis, settings: _Settings) -> npt.NDArray[np.int64]:
    x = _source(axis, settings)
    rounding: dict[str, Callable[[Floats], Any]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
        "simple": np.ceil if axis.scale < 1 else np.floor,
    }
    positions: npt.NDArray[np.int64] = rounding[settings.nearest](x).clip(0, axis.before - 1).astype(np.int64)
    return positions


def _matrix(axis: _Axis, settings: _Settings) -> Floats:
    """Return the weights of the input elements (rows) in the output elements (columns)."""
    x = _source(axis, settings)
    stretch = max(1.0, 1.0 / axis.scale) if settings.antialias else 1.0
    reach = (2 if settings.mode == "cubic" else 1) * stretch
    left = np.floor(x).astype(np.int64)
    taps = left[:, None] + np.arange(-math.ceil(reach), math.ceil(reach) + 2)
    distance = np.abs(taps - x[:, None]) / stretch
    weights = _cubic(distance, settings.cubic_a) if settings.mode == "cubic" else np.clip(1 - distance, 0, None)
    if settings.exclude_outside:
        weights = np.where((taps < 0) | (taps >= axis.before), 0.0, weights)
    if settings.exclude_outside or settings.antialias:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    matrix = np.zeros((axis.before, axis.after))
    np.add.at(matrix, (taps.clip(0, axis.before - 1), np.arange(axis.after)[:, None]), weights)
    return matrix


def _cubic(distance: Floats, a: float) -> Floats:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
