"""Whether the numbers of a constant follow a formula, were trained, or show neither.

A matrix of random or trained numbers follows no formula, so a table that does was computed and is not trained. A
constant of one value is undecided: many parameters have one value before training.

=======================  ============================================================================
Formula                  Tables that follow it
=======================  ============================================================================
few values               masks, strides, averages, blur kernels, permutations
sparse, none below zero  identity, one-hot and interpolation matrices, mel filters
whole and half numbers   coordinates of pixels, anchors, bins of a distribution, Sobel kernels
equal steps              grids, ramps, ALiBi
repeated, in few rows    normalised grids, anchors and their inverse sigmoids
sinusoids                positions, rotary factors, DCT and Fourier matrices, windows
=======================  ============================================================================
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from aznas_onnx.caches import register_cache
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Array, Constant
from aznas_onnx.graph.ir.stored_data import StoredData
from aznas_onnx.graph.ir.uniform_constants import is_filled
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap

__all__ = ["Content", "content", "content_of", "is_mask", "is_table", "is_uniform", "read", "read_at", "varying"]

READ_ELEMENTS = 2**20  # larger constants are not read
_FEW_VALUES = 8
_REPETITIONS = 8
_OF_EACH = 4  # in a grid of boxes; of rounded weights, those far from the others occur once
_FEW_ROWS = 8  # numbers that describe one position: a box has four
_FAR_BELOW = -1e4  # what masks add to forbid
_LINES, _POINTS = 64, 512  # of a table that are read
_FEW_LINES, _FEW_POINTS = 4, 64  # that are read first
_FEWEST = 5  # predicted numbers needed to exclude chance
_SHORTEST = 4  # points that identify a sinusoid, where there are many lines
_LONG = 32  # points from which a sinusoid in a window differs from any other numbers
_WINDOWED = 6  # numbers before the next one, which follows from them: three sinusoids
_TOLERANCE = 2e-3

_Values: TypeAlias = npt.NDArray[Any]
_known: WeakKeyDictionary[Constant, dict[bool, Content]] = WeakKeyDictionary()
register_cache(
    f"{__name__}._known",
    None,
    "the graphs of one network have most of their constants in common",
    size=_known.__len__,
    clear=_known.clear,
)


class Content(str, enum.Enum):
    """The verdict on the numbers of a constant."""

    UNKNOWN = "unknown"  # they cannot be read, or are too many
    UNIFORM = "uniform"
    FORMULA = "formula"
    FREE = "free"  # nothing but training or chance makes such numbers


def read(constant: Constant, limit: int = READ_ELEMENTS) -> Array | None:
    """Return the data of a float constant where it can be read quickly, else None."""
    if not constant.is_float or not constant.elements or constant.elements > limit or not is_cheap(constant):
        return None
    assert constant.read is not None  # or it would not be cheap
    try:
        return constant.read()
    except ModelError:  # data that is not there: only this reads it
        return None


def read_at(constant: Constant, positions: Sequence[int], limit: int = READ_ELEMENTS) -> Array | None:
    """Return some numbers of a constant, by their rising places in its order, where :func:`read` returns them all."""
    if not isinstance(constant.read, StoredData):
        values = read(constant, limit)
        return None if values is None else values.reshape(-1)[list(positions)]
    if not constant.is_float or not 0 < constant.elements <= limit:
        return None
    return constant.read.at(positions)


def varying(values: Array) -> Array:
    """Return one slice of each axis along which an array repeats itself: the result varies along each axis."""
    for axis, size in enumerate(values.shape):
        first = values.take([0], axis=axis)
        if size > 1 and bool((values.take([1], axis=axis) == first).all()) and bool((values == first).all()):
            values = first
    return values


def content_of(constant: Constant, *, repeats: bool = True) -> Content:
    """Judge the numbers of a constant, as :func:`content` does."""
    if is_filled(constant):
        return Content.UNIFORM
    known = _known.setdefault(constant, {})
    if repeats not in known:
        known[repeats] = content(read(constant), repeats=repeats)
    return known[repeats]


def content(values: Array | None, *, repeats: bool = True) -> Content:
    """Judge numbers.

    - `values`: They, or None where they are not known.
    - `repeats`: Whether numbers that occur many times speak for a formula. Those of a relative position table do so,
      too, once an exporter has looked up each pair of positions in it.
    """
    if values is None or not values.size:
        return Content.UNKNOWN
    if is_uniform(values):
        return Content.UNIFORM
    core = np.squeeze(varying(values))
    return Content.FORMULA if _follows_a_formula(core, repeats) else Content.FREE


def is_uniform(values: Array) -> bool:
    """Whether all elements of an array are equal."""
    flat = values.reshape(-1)
    return bool(flat[0] == flat[-1]) and bool((flat[:_POINTS] == flat[0]).all()) and bool((flat == flat[0]).all())


def is_mask(values: Array) -> bool:
    """Whether numbers that are added to attention scores allow some and forbid others, or are few."""
    flat = values.reshape(-1)
    return bool((flat <= _FAR_BELOW).any()) or _has_few_values(values)


def is_table(constant: Constant) -> bool:
    """Whether a constant is a mask or fixed filter by its values: from two to eight of them, eight times each or more.

    Constants that cannot be read, or are too large to, are not.
    """
    values = read(constant, 4 * READ_ELEMENTS)
    return values is not None and _has_few_values(values)


def _follows_a_formula(core: _Values, repeats: bool) -> bool:
    return (
        _has_few_values(core)
        or _is_sparse_and_not_negative(core)
        or _is_whole(core)
        or not bool(np.isfinite(core).all())
        or (repeats and _repeats_in_few_rows(core))
        or any(_is_computed_along(core, axis) for axis in range(core.ndim))
    )


def _has_few_values(values: Array) -> bool:
    flat = values.reshape(-1)
    if flat.size < 2 * _FEW_VALUES or np.unique(flat[:1024]).size > _FEW_VALUES:
        return False
    return 2 <= np.unique(flat).size <= min(_FEW_VALUES, flat.size // _REPETITIONS)


def _is_sparse_and_not_negative(core: _Values) -> bool:
    """Whether at least half of a matrix is zero and nothing is negative; a vector has one other value."""
    if bool((core.reshape(-1)[:_POINTS] < 0).any()) or core.min() < 0 or 2 * int((core == 0).sum()) < core.size:
        return False
    return core.ndim > 1 or np.unique(core).size == 2


def _is_whole(core: _Values) -> bool:
    """Whether all are multiples of a half, and not just zeros and ones."""
    with np.errstate(all="ignore"):
        if bool((np.mod(core.reshape(-1)[:_POINTS], 0.5) != 0).any()) or np.abs(core).max() <= 1:
            return False
        return bool((np.mod(core, 0.5) == 0).all())


def _repeats_in_few_rows(core: _Values) -> bool:
    """Whether a few numbers occur many times each, more evenly than those of weights that were rounded to 16 bits."""
    if core.ndim == 0 or (core.ndim > 1 and min(core.shape) > _FEW_ROWS):
        return False
    counts = np.unique(core, return_counts=True)[1]
    return 2 <= counts.size <= core.size // _REPETITIONS and int(counts.min()) >= _OF_EACH


def _is_computed_along(core: _Values, axis: int) -> bool:
    """Whether the lines along an axis go in equal steps or are sinusoids."""
    count = core.shape[axis]
    if count < _SHORTEST:
        return False
    moved = np.moveaxis(core, axis, -1)[..., :_POINTS]
    number = core.size // count
    chosen = np.linspace(0, number - 1, min(number, _LINES)).astype(np.int64)
    if len(chosen) * (count - 3) < _FEWEST:
        return False

    def lines(places: _Values, points: int) -> _Values:
        found = moved[np.unravel_index(places, moved.shape[:-1])] if core.ndim > 1 else moved[None]
        return np.asarray(found[:, :points], dtype=np.float64)

    tests = [_has_equal_steps, _has_equal_ratios, _is_sinusoidal, *([_is_windowed] if count >= _LONG else [])]
    few = lines(chosen[:: max(1, len(chosen) // _FEW_LINES)], _FEW_POINTS)
    return any(test(few) and test(lines(chosen, _POINTS)) for test in tests)


def _has_equal_ratios(lines: _Values) -> bool:
    """Whether the values of each line are a geometric series, each value once or twice, or two behind each other."""
    if bool((lines[:, :-1] * lines[:, 1:] <= 0).any()):
        return False
    for lag in range(1, min(2, lines.shape[1] // 4) + 1):
        ratios = lines[:, lag:] / lines[:, :-lag]
        usual = _median(ratios)
        share = (np.abs(ratios / usual - 1) <= 1e-3).mean(axis=1)
        if bool((share >= 0.6).all()) and bool((np.abs(usual - 1) > 1e-3).any()):
            return True
    return False


def _has_equal_steps(lines: _Values) -> bool:
    """Whether the same number separates most values from the next, or from the next of the same kind of anchor."""
    count = lines.shape[1]
    scale = _scale(lines)
    for lag in _lags_of_equal_steps(lines[0], scale):
        steps = lines[:, lag:] - lines[:, :-lag]
        usual = _median(steps)
        share = (np.abs(steps - usual) <= 1e-3 * np.abs(usual) + 1e-6 * scale).mean(axis=1)
        if bool((share >= 0.6).all()) and bool((np.abs(usual) > 1e-3 * scale / count).any()):
            return True
    return False


def _lags_of_equal_steps(line: _Values, scale: float) -> list[int]:
    """Return the distances at which most steps of one line are equal; all at once, because usually there are none."""
    count = len(line)
    lags = np.arange(1, min(17, count // 4 + 1))
    ends = np.arange(count) + lags[:, None]
    is_inside = ends < count
    steps = line[np.minimum(ends, count - 1)] - line
    usual = _median_of(steps, is_inside)
    is_equal = np.abs(steps - usual) <= 1e-3 * np.abs(usual) + 1e-6 * scale
    return [int(lag) for lag in lags[(is_equal & is_inside).sum(axis=1) >= 0.6 * is_inside.sum(axis=1)]]


def _is_sinusoidal(lines: _Values) -> bool:
    """Whether x[n + 1] + x[n - 1] = 2 cos(w) x[n] along each line, or its differences, but where rows of an image end.

    At least a quarter of the lines must vary.
    """
    explained = _follow_a_sinusoid(lines)
    if lines.shape[1] > 2 * _SHORTEST:
        explained = np.maximum(explained, _follow_a_sinusoid(np.diff(lines, axis=1)))
    moving = (np.abs(np.diff(lines, axis=1)) > 1e-6 * _scale(lines)).mean(axis=1) > 0.5
    return bool((explained > 0.6).mean() > 0.95) and float(moving.mean()) >= 0.25


def _follow_a_sinusoid(lines: _Values) -> _Values:
    """Return the share of each line's points that follow from the two before them."""
    middle, around = lines[:, 1:-1], lines[:, 2:] + lines[:, :-2]
    scale = np.maximum(_median(np.abs(lines)), 1e-6 * _scale(lines))
    usable = np.abs(middle) > 0.05 * scale
    with np.errstate(all="ignore"):
        factors = _median_of(around / middle, usable)
    fits = np.abs(around - factors * middle) <= _TOLERANCE * scale
    return np.asarray(fits.mean(axis=1))


def _is_windowed(lines: _Values) -> bool:
    """Whether each number of a line follows from the six before it: a sinusoid in a window made of one."""
    if len(lines) < _FEW_LINES:
        return False
    for line in lines[:: max(1, len(lines) // 8)]:
        windows = line[np.arange(line.size - _WINDOWED)[:, None] + np.arange(_WINDOWED + 1)]
        factors, *_ = np.linalg.lstsq(windows[:, :-1], windows[:, -1], rcond=None)
        error = windows[:, :-1] @ factors - windows[:, -1]
        if np.abs(error).max() > 1e-4 * max(np.abs(line).max(), 1e-12):
            return False
    return True


def _median(lines: _Values) -> _Values:
    """Return the median of each line of numbers."""
    ordered, count = np.sort(lines, axis=1), lines.shape[1]
    return np.asarray((ordered[:, [(count - 1) // 2]] + ordered[:, [count // 2]]) / 2)


def _median_of(lines: _Values, usable: _Values) -> _Values:
    """Return the median of each line's usable numbers; zero where there are none.

    NumPy's median takes ten times as long on lines this short, of which a network has thousands.
    """
    ordered = np.sort(np.where(usable, lines, np.inf), axis=1)
    counts, rows = usable.sum(axis=1), np.arange(len(lines))
    middle = (ordered[rows, (counts - 1) // 2] + ordered[rows, np.minimum(counts // 2, lines.shape[1] - 1)]) / 2
    return np.asarray(np.where(counts > 0, middle, 0.0)[:, None])


def _scale(lines: _Values) -> float:
    return max(float(np.abs(lines).max()), 1e-12)
