"""Compare the converted network with ONNX Runtime on equal weights and samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from aznas_onnx.convert import compile_program
from aznas_onnx.demand import check_copies
from aznas_onnx.errors import ModelError, first_line
from aznas_onnx.graph import Document, InputPlan, Limits, Model, Value, prepare, specialise
from aznas_onnx.graph.files.inputs import NO_PADDING
from aznas_onnx.graph.files.load import Loaded, load, source_name
from aznas_onnx.graph.files.precision import OTHER_FLOATS
from aznas_onnx.graph.prepare import error_context
from aznas_onnx.operators.sets import MOVES_DATA
from aznas_onnx.verify.reference_run import (
    compare_before_softmax,
    constant_tensors,
    end_at,
    in_float32,
    last_varying,
    root_mean_square,
    run_reference,
    runs_in_pieces,
    spread,
    use_running_statistics,
    without_dropout,
)
from aznas_onnx.verify.scaled_weights import draw_weights, materialise_filled, rescale_weights
from aznas_onnx.verify.verdict import LEAST_VARIATION, Comparison, Verdict, Verification, VerificationError

__all__ = ["verify"]

Array = npt.NDArray[Any]

# A last bit of a sum can tip a rounding to 8 bits over, which is a step of 1/255 in the next layer: there, one step of
# the output's own rounding counts as equal, too, on average.
_TOLERANCE, _QUANTISED_TOLERANCE = 1e-3, 3e-2
_MOST_STEPS = 0.7  # of the difference between two samples; with coarser rounding two networks cannot be distinguished
_COPIES = 6  # copies: read, initialised, with more outputs, serialised, in ONNX Runtime and torch
_NUDGE = 1e-7  # about the last bit of single precision
_BEYOND_NOISE = 1000.0  # times what such a nudge does is a difference that rounding does not explain
_SIZES_OF_SAMPLES = (1.0, 128.0, 1.0)  # the second is of pixel size: some networks scale pixels themselves
_SIZES = 0.25  # standard deviation of the logarithms of the samples' sizes
_FEWEST_SAMPLES = 4  # that weights are rescaled on
# Operators that round their input to integers.
_ROUNDS = re.compile(r"^(Dynamic)?Quantize|^Q(Linear|Gemm|Attention)|Integer")


def verify(
    source: Document,
    *,
    batch_size: int = 2,
    seed: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    cut_at: Sequence[str] = (),
    values: Mapping[str, Value] | None = None,
    limits: Limits | None = None,
    feed_zeros: bool = False,
) -> Verification:
    """Run a model here and in ONNX Runtime, and compare.

    Weights are initialised so that samples stay different up to the output. The difference between the two sides is
    relative to that between samples: an output that hardly depends on the sample proves nothing, and the last earlier
    tensors that do are compared instead. Both sides compute in float32. A quantised file is compared with its rounding,
    which scoring removes.

    A model with a fixed batch size runs in ONNX Runtime once per sample, here as one batch; this also tests that
    samples do not mix. For batch normalisation in training mode, which mixes samples, both sides use running
    statistics.

    Parameters
    ----------
    source
        Path of an ONNX file, or a ModelProto.
    batch_size
        Number of samples.
    seed
        Seed of weights and input. Where the outputs of two samples hardly differ, up to two more are tried.
    input_shapes, cut_at, values
        As for :func:`aznas_onnx.graph.prepare`.
    feed_zeros
        Test the comparison: the samples of the converted network are zeros, so the result has to be a difference.

    Returns
    -------
    Verification
        Smaller differences are better; 1e-3 is far above float32 rounding and far below any real error.

    Raises
    ------
    ModelError
        If the model cannot be read or converted.
    VerificationError
        If ONNX Runtime refuses the model.
    """
    with error_context(source_name(source)):
        limits = limits or Limits()
        convert = partial(prepare, input_shapes=input_shapes, values=values, keep_graph=True, limits=limits)
        network = _Network.of(load(source, limits, cut_at=cut_at), convert, limits)
        for draw, size in enumerate(_SIZES_OF_SAMPLES):
            result = network.verify(batch_size, seed + draw, size, feed_zeros=feed_zeros)
            if result.verdict is not Verdict.CANNOT_TELL:
                break
        inner = result.inner
        if result.verdict is not Verdict.CANNOT_TELL or not inner:
            return replace(result, inner=())
        try:
            ended = _Network.of(load(source, limits, cut_at=inner), convert, limits)
            before = ended.verify(batch_size, result.seed, size, feed_zeros=feed_zeros)
        except (ModelError, VerificationError):  # it cannot end there
            return replace(result, inner=())
        varying = tuple(one for one in result.outputs if one.verdict is not Verdict.CANNOT_TELL)
        return replace(before, outputs=(*varying, *before.outputs), inner=tuple(one.output for one in before.outputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A file as it was loaded, the model that is converted, and the reader of further versions of it."""

    loaded: Loaded
    read: Model
    convert: Callable[[onnx.ModelProto | Loaded], Model]
    limits: Limits

    @classmethod
    def of(cls, loaded: Loaded, convert: Callable[[onnx.ModelProto | Loaded], Model], limits: Limits) -> _Network:
        read = convert(loaded)
        check_copies(read.graph, _COPIES, f"{read.name}: comparing it with ONNX Runtime")
        return cls(loaded=loaded, read=read, convert=convert, limits=limits)

    def verify(self, batch_size: int, seed: int, size: float, *, feed_zeros: bool) -> Verification:
        """Compare once; for outputs that samples do not change, `inner` has the last tensors that they change."""
        read, plan, limits = self.read, self.read.inputs, self.limits
        batch_size = _size(read, batch_size)
        model = self._in_float32()
        if runs_in_pieces(plan, batch_size):
            use_running_statistics(model)
        rng = np.random.default_rng(seed)
        draw_weights(model, read, rng)
        precision = _precision(self.loaded.model)
        _rescale(model, self.convert(model), size, rng, limits)
        feeds, others = (_feeds(model, plan, batch_size, size, rng) for _ in range(2))
        expected = run_reference(model, feeds, read, batch_size)
        varied = [run_reference(model, other, read, batch_size) for other in (others, _zeros(feeds, plan))]
        feeds_there = dict(feeds)
        _begin_at_look_ups(feeds, expected, plan, batch_size)
        if feed_zeros:
            feeds = _zeros(feeds, plan)
        converted = self.convert(model)
        actual = _run_here(converted, feeds, batch_size, limits)
        if not any(array.dtype.kind in "fiub" for array in expected.values()):
            raise VerificationError("no output holds numbers that could be compared")
        sides = _Sides(model=model, expected=expected, varied=varied, actual=actual)
        result = _verification(sides, converted, batch_size, seed, precision, {})
        if result.verdict is Verdict.CANNOT_TELL:
            constant = [one.output for one in result.outputs if one.verdict is Verdict.CANNOT_TELL]
            inner = _inner(model, constant, (feeds_there, others, _zeros(feeds_there, plan)), read)
            return replace(result, inner=inner)
        if result.verdict is not Verdict.DIFFERS or precision == "int8":
            return result
        # Is it rounding that this network amplifies?
        nearby = {name: _nudged(array, rng) for name, array in feeds_there.items()}
        rounding = run_reference(model, nearby, read, batch_size)
        noise = {name: _largest(array, expected[name]) for name, array in rounding.items() if name in expected}
        return _verification(sides, converted, batch_size, seed, precision, noise)

    def _in_float32(self) -> onnx.ModelProto:
        """Return the file with its data, as ONNX Runtime computes it, to be filled with weights."""
        model = onnx.ModelProto()
        model.CopyFrom(self.loaded.model)
        end_at(model, self.read.graph.outputs)
        if self.loaded.folder is not None:
            try:
                onnx.external_data_helper.load_external_data_for_model(model, str(self.loaded.folder))
            except (onnx.checker.ValidationError, OSError) as error:  # to be read, weights need not be there
                raise ModelError(
                    f"ONNX Runtime needs the external data of the file to run it: {first_line(error)}"
                ) from error
        model.graph.name = model.graph.name or Path(self.loaded.name).stem
        in_float32(model)
        without_dropout(model)
        materialise_filled(model)
        compare_before_softmax(model)
        return model


def _inner(
    model: onnx.ModelProto, constant: Sequence[str], feeds: Sequence[Mapping[str, Array]], read: Model
) -> tuple[str, ...]:
    try:
        return last_varying(model, constant, feeds, read)
    except VerificationError:  # ONNX Runtime does not give out every tensor
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Outputs of ONNX Runtime, of it for other samples and for zeros, and of the converted network."""

    model: onnx.ModelProto
    expected: Mapping[str, Array]
    varied: Sequence[Mapping[str, Array]]
    actual: Mapping[str, Array]


def _verification(
    sides: _Sides, converted: Model, batch_size: int, seed: int, precision: str, noise: Mapping[str, float]
) -> Verification:
    reached = _reached(converted)
    steps = _output_steps(sides.model) if precision == "int8" else {}
    return Verification(
        outputs=tuple(
            _comparison(name, sides, name in reached, precision, steps.get(name, 0.0), noise.get(name, 0.0))
            for name in dict.fromkeys(output.name for output in sides.model.graph.output)
            if sides.expected[name].dtype.kind in "fiub"
        ),
        batch_size=batch_size,
        seed=seed,
        precision=precision,
    )


def _zeros(feeds: Mapping[str, Array], plan: InputPlan) -> dict[str, Array]:
    """Return zeros in place of samples and of ids."""
    samples = {*plan.sampled, *plan.look_ups, *(look_up.ids for look_up in plan.look_ups.values())}
    return {name: np.zeros_like(array) if name in samples else array for name, array in feeds.items()}


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    """Return nearly the same samples, to see how much a network amplifies what rounding does to them."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1.0 + _NUDGE * rng.standard_normal(array.shape)), dtype=array.dtype)


def _largest(left: Array, right: Array) -> float:
    if left.shape != right.shape or left.dtype.kind not in "fiub":
        return 0.0
    return float(np.max(np.abs(left.astype(np.float64) - right.astype(np.float64)), initial=0.0))


def _size(model: Model, wanted: int) -> int:
    """Return the batch size to compare at: a file's own, or twice that where it runs at any here, as two pieces.

    In pieces, a batch that is rounded by its range has the ranges of its pieces.
    """
    own = model.inputs.declared_batch
    is_dynamic = any(node.is_op("DynamicQuantizeLinear") for node in model.graph.nodes)
    if model.fixed_batch or (is_dynamic and not model.inputs.batch_is_free):
        return own
    return wanted if model.inputs.batch_is_free or own == 1 else 2 * own


def _rescale(model: onnx.ModelProto, prepared: Model, size: float, rng: np.random.Generator, limits: Limits) -> None:
    """Rescale the weights on a few samples; on one, where the file does not run on more."""
    plan = prepared.inputs
    batch_size = plan.declared_batch if prepared.fixed_batch else max(plan.declared_batch, _FEWEST_SAMPLES)
    sized = specialise(prepared, batch_size, limits)
    feeds = _feeds(model, plan, batch_size, size, rng)
    for name, shape in plan.shapes(batch_size).items():
        if name in plan.look_ups:
            feeds[name] = rng.standard_normal(shape).astype(np.float32)
    rescale_weights(model, sized, {name: torch.from_numpy(array) for name, array in feeds.items()}, rng)


def _feeds(
    model: onnx.ModelProto, plan: InputPlan, batch_size: int, size: float, rng: np.random.Generator
) -> dict[str, Array]:
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    shapes = plan.shapes(batch_size)
    feeds = {}
    for name in (name for name in shapes if name not in plan.look_ups):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name])
        if name in plan.values:
            feeds[name] = np.broadcast_to(plan.values[name], shapes[name]).astype(dtype)
            continue
        if name in plan.sampled:
            values: Array = size * _samples(shapes[name], plan.batch_axes.get(name, 0), rng)
        else:
            values = np.full(shapes[name], plan.fills.get(name, 1))
        if name in plan.indices:
            values = rng.integers(plan.indices[name], size=shapes[name])
        feeds[name] = values.astype(dtype)
    rows: dict[str, int] = {}  # of the smallest table that ids are looked up in
    for look_up in plan.look_ups.values():
        rows[look_up.ids] = min(look_up.rows, rows.get(look_up.ids, look_up.rows))
    for name, count in rows.items():
        feeds[name] = rng.integers(min(NO_PADDING, count - 1), count, shapes[name]).astype(feeds[name].dtype)
    return feeds


def _samples(shape: tuple[int, ...], batch_axis: int, rng: np.random.Generator) -> Array:
    """Sample inputs that stay different when averaged: noise, a profile along each axis, and a scale for each."""
    values = 0.5 * rng.standard_normal(shape)
    for other in {*range(len(shape))} - {batch_axis}:
        profile = [size if axis in (batch_axis, other) else 1 for axis, size in enumerate(shape)]
        values = values + rng.standard_normal(profile)
    own = tuple(axis for axis in range(len(shape)) if axis != batch_axis)
    values = values / np.sqrt(np.mean(np.square(values), axis=own, keepdims=True) + 1e-12)
    sizes = np.exp(_SIZES * rng.standard_normal([n if axis == batch_axis else 1 for axis, n in enumerate(shape)]))
    return np.asarray(values * sizes)


def _begin_at_look_ups(feeds: dict[str, Array], expected: dict[str, Array], plan: InputPlan, batch_size: int) -> None:
    """Feed what was looked up in ONNX Runtime to the network here, which begins there."""
    for name, shape in plan.shapes(batch_size).items():
        if name in plan.look_ups:
            rows, look_up = expected.pop(name), plan.look_ups[name]
            if rows.dtype.kind in "iu" and look_up.constant.read is not None:  # of a quantised table, as floats
                rows = look_up.constant.read()[feeds[look_up.ids]]
            feeds[name] = rows
            if feeds[name].shape != shape:
                raise ModelError(f"{name!r} has shape {shape} here, but {feeds[name].shape} in ONNX Runtime")


def _run_here(prepared: Model, feeds: Mapping[str, Array], batch_size: int, limits: Limits) -> dict[str, Array]:
    sized = specialise(prepared, batch_size, limits)
    program = compile_program(sized.graph, sized.infos, {}, device=torch.device("cpu"))
    with torch.inference_mode():
        results = program.run({name: torch.from_numpy(array) for name, array in feeds.items()})
    return {name: tensor.numpy() for name, tensor in results.items()}


def _reached(model: Model) -> frozenset[str]:
    """Return the tensors that depend on the samples."""
    reached = {*model.inputs.sampled, *model.inputs.look_ups}
    for node in model.graph.nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
    return frozenset(reached)


def _comparison(name: str, sides: _Sides, is_reached: bool, precision: str, step: float, noise: float) -> Comparison:
    """Compare one output.

    Parameters
    ----------
    step
        Step of its rounding; 0 without rounding.
    noise
        Its change under a small change of the samples, where that was measured.
    """
    expected, found = sides.expected[name], sides.actual[name]
    if found.shape != expected.shape:
        raise ModelError(f"output {name!r} has shape {found.shape} here, but {expected.shape} in ONNX Runtime")
    largest = float(np.max(np.abs(expected.astype(np.float64)), initial=0.0))
    if not np.isfinite(largest):
        raise VerificationError(f"output {name!r} of ONNX Runtime itself is not finite with random weights")
    variation = min(spread(expected, other[name]) for other in sides.varied)
    tolerance = _QUANTISED_TOLERANCE if precision == "int8" else _TOLERANCE
    clear = is_reached and variation > LEAST_VARIATION * largest and step <= _MOST_STEPS * variation
    scale = variation if clear else largest or 1.0
    tolerance = max(tolerance, step / scale)
    difference = (root_mean_square if precision == "int8" else _largest)(found, expected)
    return Comparison(
        output=name,
        difference=difference / scale,
        variation=variation / (largest or 1.0),
        tolerance=tolerance,
        is_evidence=clear and not difference < _BEYOND_NOISE * noise,
        must_vary=is_reached and expected.dtype.kind == "f" and expected.size > 0,
    )


def _precision(model: onnx.ModelProto) -> str:
    if any(_ROUNDS.search(node.op_type) for node in model.graph.node):
        return "int8"
    types = {tensor.data_type for tensor in constant_tensors(model).values()}
    found = [name for kind, name in OTHER_FLOATS.items() if kind in types]
    return found[0] if found else "float32"


def _output_steps(model: onnx.ModelProto) -> dict[str, float]:
    """Return the step of rounding of each output that was rounded last, behind what only moves it."""
    scales = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found, moves = {}, frozenset(MOVES_DATA)
    for output in model.graph.output:
        node = makers.get(output.name)
        while node is not None and (node.op_type in moves or node.op_type == "MaxPool"):
            node = makers.get(node.input[0])
        if node is not None and node.op_type == "DequantizeLinear" and node.input[1] in scales:
            found[output.name] = float(onnx.numpy_helper.to_array(scales[node.input[1]]).max())
    return found
