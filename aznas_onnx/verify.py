"""Comparison of the converted network with ONNX Runtime, on random weights and random input.

Weights are filled with random numbers first: zeros make any conversion look right. For the same reason the tensor
before a final Softmax is compared, not the nearly equal probabilities behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from aznas_onnx.demand import check_copies
from aznas_onnx.errors import AznasError, ModelError
from aznas_onnx.graph import Document, InputPlan, Limits, Model, Value, prepare, specialise
from aznas_onnx.graph.inputs import NO_PADDING
from aznas_onnx.graph.load import load, source_name
from aznas_onnx.graph.prepare import named
from aznas_onnx.runtime import onnxruntime

__all__ = ["Verification", "VerificationError", "fill_weights", "verify"]

_COPIES = 6  # of all weights: as read, filled, with more outputs, serialised, in ONNX Runtime and in torch
_FILL_ELEMENTS = 16  # smaller constants are shapes, scales and bounds: they mean something
_GAIN = 0.6
# A last bit of a sum can tip a rounding to 8 bits over, which is a step of 1/255 in the next layer.
_TOLERANCE = {"float32": 1e-3, "float16": 3e-2, "bfloat16": 3e-2, "int8": 3e-2}


class VerificationError(AznasError, RuntimeError):
    """ONNX Runtime itself cannot run the model, so there is nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far the converted network is from ONNX Runtime.

    Attributes
    ----------
    relative_difference
        Largest absolute difference over the largest absolute output, the worst of all outputs.
    output
        The tensor that was compared and gave it.
    batch_size, seed
        What it was computed with.
    precision
        The file's own arithmetic: ``float32``, ``float16``, ``bfloat16`` or, with fake quantisation, ``int8``.
    tolerance
        What counts as equal at that precision.
    """

    relative_difference: float
    output: str
    batch_size: int
    seed: int
    precision: str
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is finite and within the tolerance."""
        return bool(np.isfinite(self.relative_difference)) and self.relative_difference <= self.tolerance


def verify(
    source: Document,
    *,
    batch_size: int = 2,
    seed: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    cut_at: Sequence[str] = (),
    values: Mapping[str, Value] | None = None,
    limits: Limits | None = None,
) -> Verification:
    """Run a model here and in ONNX Runtime, and compare.

    A model that is written for one batch size runs in ONNX Runtime once per sample, here as one batch; so this also
    proves that samples do not mix. Where they are meant to, in the statistics of batch normalisation in training mode,
    the running statistics are used on both sides.

    Parameters
    ----------
    source
        Path of an ONNX file, or a ModelProto.
    batch_size
        Number of samples; a model that works at one batch size only is run at that.
    seed
        For weights and input.
    input_shapes, cut_at, values
        As for :func:`aznas_onnx.graph.prepare`.

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
    with named(source_name(source)):
        given = {"input_shapes": input_shapes, "values": values}
        return _verify(source, batch_size, seed, given, cut_at, limits or Limits())


def _verify(
    source: Document, batch_size: int, seed: int, given: Mapping[str, Any], cut_at: Sequence[str], limits: Limits
) -> Verification:
    read = prepare(source, **given, cut_at=cut_at, keep_graph=True, limits=limits)
    plan = read.inputs
    check_copies(read.graph, _COPIES, f"{read.name}: comparing it with ONNX Runtime")
    batch_size = _size(read, batch_size)
    loaded = load(source, limits, cut_at=cut_at)
    proto, folder = loaded.model, loaded.folder
    filled = onnx.ModelProto()
    filled.CopyFrom(proto)
    _end_at(filled, read.graph.outputs)
    if folder is not None:
        onnx.external_data_helper.load_external_data_for_model(filled, str(folder))
    rng = np.random.default_rng(seed)
    fill_weights(filled, rng)
    compare_before_softmax(filled)
    if _runs_in_pieces(plan, batch_size):
        use_running_statistics(filled)
    filled.graph.name = filled.graph.name or Path(source_name(source)).stem
    feeds = _feeds(filled, plan, batch_size, rng)
    embedding = onnx.ModelProto()
    embedding.CopyFrom(filled)
    embedding.graph.output.extend(_embedded(filled, plan))
    expected = _run_onnxruntime(embedding, feeds, read, batch_size)
    for name, shape in plan.shapes(batch_size).items():
        if name in plan.look_ups:  # here, the network begins at these
            feeds[name] = expected.pop(name)
            if feeds[name].shape != shape:
                raise ModelError(f"{name!r} has shape {shape} here, but {feeds[name].shape} in ONNX Runtime")
    actual = _run_here(filled, feeds, batch_size, given, limits)
    output, difference = _largest_difference(expected, actual)
    precision = _precision(proto)
    return Verification(
        relative_difference=difference,
        output=output,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
        tolerance=_TOLERANCE[precision],
    )


def fill_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Replace every weight-like constant of a model, in place, by random numbers of sensible size.

    Quantised weights keep their values, unless all are zero: their scales were made for them, and with others every
    activation would saturate. So do zeros that a node makes: they are no blank weights but the missing shift of a
    standardised weight, and with another the network would overflow.
    """
    for tensor in model.graph.initializer:
        _fill(tensor, rng)
    for tensor in _constants(model):
        if numpy_helper.to_array(tensor).any():
            _fill(tensor, rng)
    _materialise_constant_of_shape(model, rng)


def _fill(tensor: onnx.TensorProto, rng: np.random.Generator) -> None:
    array = numpy_helper.to_array(tensor)
    if array.size < _FILL_ELEMENTS:
        return
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        fresh = _random_floats(array, rng).astype(array.dtype)
    elif array.dtype in (np.int8, np.uint8) and not array.any():
        bounds = np.iinfo(array.dtype)
        fresh = rng.integers(bounds.min, bounds.max, array.shape, dtype=array.dtype, endpoint=True)
    else:
        return
    tensor.CopyFrom(numpy_helper.from_array(fresh, tensor.name))


def _constants(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")


def _random_floats(array: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Vectors of the size that they had (they may be variances, scales or gains), matrices with a gain below one.

    A vector may be written with axes of size one around it, as a scale or a gain per channel is.
    With a larger gain, attention scores of networks without normalisation saturate their Softmax, which turns the
    last bit of a float32 into a visible difference that no converter is to blame for.
    """
    if sum(size > 1 for size in array.shape) < 2:
        present = array.astype(np.float64)
        return np.where(present == 0.0, 1.0, present) * rng.uniform(0.5, 1.5, array.shape)
    fan_in = max(1, int(np.prod(array.shape[1:]))) if array.ndim > 2 else max(array.shape)
    return np.asarray(_GAIN * rng.standard_normal(array.shape) / np.sqrt(fan_in), dtype=np.float64)


def _materialise_constant_of_shape(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Turn weights that a ConstantOfShape node makes (the zoo's light models) into random initialisers."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "ConstantOfShape" or node.input[0] not in known:
            continue
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None and value.data_type != onnx.TensorProto.FLOAT:
            continue
        shape = tuple(int(size) for size in numpy_helper.to_array(known[node.input[0]]))
        if int(np.prod(shape, dtype=np.int64)) >= _FILL_ELEMENTS:
            fresh = _random_floats(np.ones(shape), rng).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(fresh, node.output[0]))
            model.graph.node.remove(node)


def _end_at(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make a model end where it is scored up to, in place: some of its outputs may be left out, or be cut short."""
    own = {value.name: value for value in model.graph.output}
    outputs = [own.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    if own.keys() != set(names):
        del model.graph.output[:]
        model.graph.output.extend(outputs)


def compare_before_softmax(model: onnx.ModelProto) -> None:
    """Make the input of a final Softmax the model's output, in place."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for output in model.graph.output:
        node = producers.get(output.name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = producers.get(node.input[0])
        if node is not None and node.op_type in ("Softmax", "LogSoftmax"):
            output.name = node.input[0]


def use_running_statistics(model: onnx.ModelProto) -> None:
    """Take batch normalisation out of training mode, in place: in pieces, a batch has the statistics of its pieces."""
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or read.intersection(node.output[1:]):
            continue
        kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
        del node.attribute[:], node.output[1:]
        node.attribute.extend(kept)


def _size(model: Model, wanted: int) -> int:
    """Return the batch size to compare at: a file's own, or twice that where it runs at any here, as two pieces."""
    own = model.inputs.declared_batch
    if model.fixed_batch:
        return own
    return wanted if model.inputs.batch_is_free or wanted % own == 0 else 2 * own


def _runs_in_pieces(plan: InputPlan, batch_size: int) -> bool:
    return not plan.batch_is_free and batch_size != plan.declared_batch


def _feeds(
    model: onnx.ModelProto, plan: InputPlan, batch_size: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    shapes = plan.shapes(batch_size)
    feeds = {}
    for name in shapes.keys() - plan.look_ups.keys():
        dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name])
        if name in plan.values:
            feeds[name] = np.broadcast_to(plan.values[name], shapes[name]).astype(dtype)
            continue
        is_sample = name in plan.sampled
        values = rng.standard_normal(shapes[name]) if is_sample else np.full(shapes[name], plan.fills.get(name, 1))
        feeds[name] = values.astype(dtype)
    rows: dict[str, int] = {}  # of the smallest table that ids are looked up in
    for look_up in plan.look_ups.values():
        rows[look_up.ids] = min(look_up.rows, rows.get(look_up.ids, look_up.rows))
    for name, count in rows.items():
        feeds[name] = rng.integers(min(NO_PADDING, count - 1), count, shapes[name]).astype(feeds[name].dtype)
    return feeds


def _embedded(model: onnx.ModelProto, plan: InputPlan) -> Iterator[onnx.ValueInfoProto]:
    """Yield outputs for what is looked up by ids."""
    makers = {output: node for node in model.graph.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name in plan.look_ups:
        table = makers[name].input[0]
        while table in makers and makers[table].op_type == "Identity":
            table = makers[table].input[0]
        kind = types[table] if table in types else _type_made(makers[table])
        yield onnx.helper.make_tensor_value_info(name, kind, None)


def _type_made(node: onnx.NodeProto) -> int:
    """Return the type of what a Cast or a Constant makes; others make single precision."""
    for attribute in node.attribute:
        if attribute.name in ("to", "value"):
            return int(attribute.i) if node.op_type == "Cast" else int(attribute.t.data_type)
    return int(onnx.TensorProto.FLOAT)


def _run_onnxruntime(
    model: onnx.ModelProto, feeds: Mapping[str, npt.NDArray[Any]], own: Model, batch_size: int
) -> dict[str, npt.NDArray[Any]]:
    plan = own.inputs
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    names = [output.name for output in model.graph.output]
    loose = onnx.ModelProto()
    loose.CopyFrom(model)
    for output in loose.graph.output:  # a file may declare a shape that holds at its own batch size only
        if output.HasField("type"):
            output.type.tensor_type.ClearField("shape")
    try:
        session = runtime.InferenceSession(loose.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if not _runs_in_pieces(plan, batch_size):
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        step = plan.declared_batch
        chunks = [
            session.run(
                names, {name: _piece(value, plan.batch_axes.get(name), i, step) for name, value in feeds.items()}
            )
            for i in range(0, batch_size, step)
        ]
        axes = own.layout.batch_axes
        return {
            name: np.concatenate([chunk[index] for chunk in chunks], axis=axes.get(name, 0))
            for index, name in enumerate(names)
        }
    except Exception as error:  # ONNX Runtime raises its own classes straight from Exception
        raise VerificationError(f"ONNX Runtime cannot run the model: {str(error).splitlines()[0]}") from error


def _piece(value: npt.NDArray[Any], axis: int | None, start: int, step: int) -> npt.NDArray[Any]:
    """Return some samples of what is fed; all of an input without a batch."""
    return value if axis is None else value.take(range(start, start + step), axis)


def _run_here(
    model: onnx.ModelProto,
    feeds: Mapping[str, npt.NDArray[Any]],
    batch_size: int,
    given: Mapping[str, Any],
    limits: Limits,
) -> dict[str, npt.NDArray[Any]]:
    import torch

    from aznas_onnx.convert import compile_program

    prepared = specialise(prepare(model, **given, keep_graph=True, limits=limits), batch_size, limits)
    device = torch.device("cpu")
    program = compile_program(prepared.graph, prepared.facts, {}, device=device)
    with torch.inference_mode():
        tensors = {}
        for name, array in feeds.items():
            is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
            tensors[name] = torch.from_numpy(array.astype(np.float32) if is_float else array)
        results = program.run(tensors)
    return {name: tensor.numpy() for name, tensor in results.items()}


def _largest_difference(
    expected: Mapping[str, npt.NDArray[Any]], actual: Mapping[str, npt.NDArray[Any]]
) -> tuple[str, float]:
    worst_name, worst = "", -1.0
    for name, reference in expected.items():
        if reference.dtype.kind not in "fiub":
            continue
        result = actual[name]
        if result.shape != reference.shape:
            raise ModelError(f"output {name!r} has shape {result.shape} here, but {reference.shape} in ONNX Runtime")
        wanted, found = reference.astype(np.float64), result.astype(np.float64)
        largest = float(np.max(np.abs(wanted), initial=0.0))
        if not np.isfinite(largest):
            raise VerificationError(f"output {name!r} of ONNX Runtime itself is not finite with random weights")
        difference = float(np.max(np.abs(wanted - found), initial=0.0)) / (largest or 1.0)
        if not np.isfinite(difference) or difference > worst:
            worst_name, worst = name, difference
            if not np.isfinite(difference):
                break
    return worst_name, worst


def _precision(model: onnx.ModelProto) -> str:
    types = {tensor.data_type for tensor in (*model.graph.initializer, *_constants(model))}
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    if onnx.TensorProto.FLOAT16 in types:
        return "float16"
    return "bfloat16" if onnx.TensorProto.BFLOAT16 in types else "float32"
