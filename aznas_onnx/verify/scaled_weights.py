"""Random weights under which the output depends on the samples.

With weights of zeros, or weights under which every unit dies, the output is a constant and every conversion seems
right. So each constant is initialised by its role, and one pass over samples rescales each layer and moves each shift,
so that every channel has about mean 0 and variance 1 over the samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

from aznas_onnx.convert import compile_program
from aznas_onnx.convert.program import Step, run_step
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir.graph import Constant, FoldedFrom, Node
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, uses
from aznas_onnx.operators.sets import CONVOLUTIONS, RECURRENT
from aznas_onnx.verify.reference_run import constant_tensors

__all__ = ["draw_weights", "materialise_filled", "rescale_weights"]

Array = npt.NDArray[Any]

_FILL_ELEMENTS = 16  # smaller constants without a role are shapes, scales and bounds: they mean something
_SHIFT = 0.3
_DRAWN_SHIFT = 0.05
_SIZE = 0.3  # of a layer's output (root mean square); with more, attention saturates and amplifies rounding
_GAINS = (0.4, 1.0)
_INTEGER_STD = 36.0  # of 8 bits: the largest of some hundred normal numbers is the end of their range
# The difference between samples has at least this share of a layer's output, because part of the common mean is
# subtracted. A deep network that subtracted all of it at each layer would amplify rounding.
_LEAST_SHARE = 0.3
_LEAST_VARIANCE = 0.1  # of the average channel's
_SHARE_OF_RANGE = 1 / 3  # of a quantised range above zero, that a layer's output has for its size
_LEAST_SIZE = 1e-12
_AROUND_ZERO = (ConstantRole.BIAS, ConstantRole.NORM_SHIFT, ConstantRole.NORM_MEAN, ConstantRole.POSITION)
_AROUND_ONE = (ConstantRole.NORM_SCALE, ConstantRole.NORM_VARIANCE, ConstantRole.SCALE)


def materialise_filled(model: onnx.ModelProto) -> None:
    """Turn weights that a ConstantOfShape node makes, as in files without weights, into initialisers, in place."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "ConstantOfShape" or node.input[0] not in known:
            continue
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None and value.data_type != onnx.TensorProto.FLOAT:
            continue
        shape = tuple(int(size) for size in numpy_helper.to_array(known[node.input[0]]))
        if int(np.prod(shape, dtype=np.int64)) >= _FILL_ELEMENTS:
            fill = 0.0 if value is None else float(numpy_helper.to_array(value).reshape(-1)[0])
            filled = np.full(shape, fill, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(filled, node.output[0]))
            model.graph.node.remove(node)


def draw_weights(model: onnx.ModelProto, prepared: Model, rng: np.random.Generator) -> None:
    """Replace the trained constants of a model by random numbers, in place.

    Quantised weights keep their values, unless all are zero: their scales were made for them, and with others every
    activation would saturate. Untrained constants keep theirs, unless they are tables of zeros, and so do zeros from a
    node: they are not blank weights but the missing shift of a standardised weight.

    - `model`: In float32.
    - `prepared`: The same model as converted, with the roles.
    """
    found = _roles_of_roots(prepared)
    weights = {tensor.name for tensor in model.graph.initializer}
    for name, tensor in constant_tensors(model).items():
        array = numpy_helper.to_array(tensor)
        fresh = None
        if array.dtype == np.float32 and (name in weights or array.any()):
            fresh = _sampled(array, found[name], rng) if name in found else _sampled_by_shape(array, rng)
        elif array.dtype in (np.int8, np.uint8) and array.size >= _FILL_ELEMENTS and not array.any():
            bounds = np.iinfo(array.dtype)
            centre = 0 if bounds.min else 128
            fresh = np.clip(centre + _INTEGER_STD * rng.standard_normal(array.shape), bounds.min, bounds.max).round()
        if fresh is not None:
            tensor.CopyFrom(numpy_helper.from_array(fresh.astype(array.dtype), tensor.name))


def _roles_of_roots(prepared: Model) -> dict[str, tuple[ConstantRole, int]]:
    """Return role and fan-in of each constant of the file that reaches one use unchanged up to data movement."""
    found: dict[str, tuple[ConstantRole, int]] = {}
    for use in uses(prepared.graph):
        constant = prepared.graph.constants[use.name]
        root = _sole_root(prepared, constant)
        if root is not None and found.get(root, (ConstantRole.FIXED,))[0] is ConstantRole.FIXED:
            found[root] = use.role, _fan_in(use.node, use.index, constant)
    for look_up in prepared.inputs.look_ups.values():  # besides positions and types
        if len(look_up.constant.sources) == 1:
            (table,) = look_up.constant.sources
            found.setdefault(table, (ConstantRole.EMBEDDING, 1))
    return found


def _sole_root(prepared: Model, constant: Constant) -> str | None:
    if len(constant.sources) != 1:
        return None
    (name,) = constant.sources
    root = prepared.graph.constants.get(name)
    return name if root is not None and root.elements == constant.elements else None


def _fan_in(node: Node, index: int, constant: Constant) -> int:
    """Return about how many products are summed into one output element; the rescaling does the rest."""
    shape = constant.shape
    if node in CONVOLUTIONS:
        return max(1, int(np.prod(shape[1:])))
    return shape[-1] if index == 0 or node.attributes.get("transB") or len(shape) == 1 else shape[-2]


def _sampled(array: Array, found: tuple[ConstantRole, int], rng: np.random.Generator) -> Array | None:
    role, fan_in = found
    if role is ConstantRole.FIXED:
        return None if array.any() else _sampled_by_shape(array, rng)
    if role in _AROUND_ZERO:
        return _DRAWN_SHIFT * rng.standard_normal(array.shape)
    if role in _AROUND_ONE:
        return rng.uniform(*_GAINS, array.shape)
    if role is ConstantRole.SLOPE:
        return rng.uniform(0.1, 0.4, array.shape)
    if role is ConstantRole.EMBEDDING:
        return rng.standard_normal(array.shape)
    if role is ConstantRole.RECURRENT_WEIGHT:
        return rng.standard_normal(array.shape) / math.sqrt(array.shape[-1])
    return rng.standard_normal(array.shape) * math.sqrt(2.0 / fan_in)


def _sampled_by_shape(array: Array, rng: np.random.Generator) -> Array | None:
    """Sample constants without a role: vectors of their former size, matrices with a gain below one.

    A vector can have axes of size one around it, like a scale or a gain per channel.
    """
    if array.size < _FILL_ELEMENTS:
        return None
    if sum(size > 1 for size in array.shape) < 2:
        present = array.astype(np.float64)
        return np.where(present == 0.0, 1.0, present) * rng.uniform(*_GAINS, array.shape)
    fan_in = max(1, int(np.prod(array.shape[1:]))) if array.ndim > 2 else max(array.shape)
    return 0.6 * rng.standard_normal(array.shape) / math.sqrt(fan_in)


def rescale_weights(
    model: onnx.ModelProto, prepared: Model, feeds: Mapping[str, torch.Tensor], rng: np.random.Generator
) -> None:
    """Rescale each layer and move each shift, in place, so that samples stay different.

    - `prepared`: The model as converted, with the initialised weights, at the batch size of the samples.
    - `feeds`: The samples.
    """
    program = compile_program(prepared.graph, prepared.infos, {}, device=torch.device("cpu"))
    with torch.inference_mode():
        program.run(feeds, hook=_Rescaling(model, prepared, rng).visit)


class _Rescaling:
    def __init__(self, model: onnx.ModelProto, prepared: Model, rng: np.random.Generator) -> None:
        self._tensors = constant_tensors(model)
        self._rng = rng
        self._graph = prepared.graph
        self._batch_axes = prepared.layout.batch_axes
        self._nodes = {node.name: node for node in prepared.graph.nodes}
        self._places: dict[tuple[str, ConstantRole], int] = {}  # which operand of a node is the first of a role
        self._roots: dict[str, str] = {}
        readers = Counter[str]()
        for use in uses(prepared.graph):
            root = _sole_root(prepared, prepared.graph.constants[use.name])
            if root is not None and root in self._tensors:
                self._places.setdefault((use.node.name, use.role), use.index)
                self._roots[use.name] = root
                readers[root] += 1
        # Rounding to 8 bits swallows what samples differ in, and the last bits of floats with it.
        is_quantised = any(node.is_op("QuantizeLinear") for node in prepared.graph.nodes)
        self._share, self._shift = (0.5, 0.1) if is_quantised else (_LEAST_SHARE, _SHIFT)
        self._shared = {root for root, count in readers.items() if count > 1}
        self._readings = Counter(name for node in model.graph.node for name in node.input)

    def visit(self, step: Step, environment: dict[str, torch.Tensor]) -> None:
        """Rescale the weights of one node, and thereby its output."""
        node = self._nodes[step.node]
        if node.is_op("BatchNormalization"):
            self._normalise(node, step, environment)
        elif node in RECURRENT:
            pass  # their gates bound the output, and their bias is added inside
        elif len(step.outputs) == 1 and environment[step.outputs[0]].is_floating_point():
            weight = self._own(node, ConstantRole.CONV_WEIGHT) or self._own(node, ConstantRole.LINEAR_WEIGHT)
            shift = self._own(node, ConstantRole.BIAS) if node.attributes.get("beta", 1.0) == 1.0 else ""
            if weight or shift:
                self._rescale(node, weight, shift, step, environment)

    def _own(self, node: Node, role: ConstantRole) -> str:
        """Return the operand of a role if it is a tensor of the file that nothing else reads, else an empty name."""
        place = self._places.get((node.name, role))
        if place is None or self._roots.get(node.inputs[place], "") in {"", *self._shared}:
            return ""
        return node.inputs[place]

    def _store(self, name: str, values: torch.Tensor, environment: dict[str, torch.Tensor]) -> None:
        """Store a shift or a statistic, as multiples of its scale where it is quantised."""
        tensor = self._tensors[self._roots[name]]
        fresh = values.numpy().astype(np.float32).reshape(tuple(tensor.dims))
        if tensor.data_type != onnx.TensorProto.FLOAT:
            origin = _dequantised(self._graph.constants[name])
            scale = None if origin is None else origin.inputs[1]
            if scale is None or scale.read is None or origin is None or origin.node.input(2):
                return
            integers = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            bounds = np.iinfo(integers)
            fresh = np.clip(np.rint(fresh / scale.read()), bounds.min, bounds.max).astype(integers)
            values = torch.from_numpy((fresh * scale.read()).astype(np.float32))
        environment[name] = values.reshape(environment[name].shape)
        tensor.CopyFrom(numpy_helper.from_array(fresh, tensor.name))

    def _normalise(self, node: Node, step: Step, environment: dict[str, torch.Tensor]) -> None:
        """Set the statistics of a batch normalisation to those of its input."""
        x = environment[node.inputs[0]]
        mean, variance = self._own(node, ConstantRole.NORM_MEAN), self._own(node, ConstantRole.NORM_VARIANCE)
        if mean not in environment or variance not in environment or x.numel() < 2 * x.shape[1]:
            return
        axes = [axis for axis in range(x.ndim) if axis != 1]
        centre = x.mean(axes)
        removed = self._removed(node.inputs[0], x, x.mean(axes, keepdim=True))
        squares = x.var(axes, correction=0) + (1.0 - removed) ** 2 * centre.square()
        if bool(squares.isfinite().all()):
            least = _LEAST_VARIANCE * float(squares.mean()) + _LEAST_SIZE
            self._store(mean, removed * centre, environment)
            self._store(variance, squares.clamp_min(least), environment)
            run_step(step, environment)

    def _rescale(self, node: Node, weight: str, shift: str, step: Step, environment: dict[str, torch.Tensor]) -> None:
        """Give a layer's output the wanted size, and take away what samples have in common as far as needed."""
        y = environment[step.outputs[0]]
        if shift:
            y = y - _aligned(node, environment[shift], y)
        axes = _averaged(node, y, environment[shift].shape) if shift else []
        centre = y.mean(axes, keepdim=True) if axes else torch.zeros_like(y[:0])
        common = centre * self._removed(step.outputs[0], y, centre) if axes else torch.zeros(())
        size = float((y - common).square().mean().sqrt()) + _LEAST_SIZE
        if not np.isfinite(size):
            return
        factor = self._wanted_size(step.outputs[0]) / size if weight else 1.0
        if weight:
            factor = self._multiply(weight, factor, environment)
        if shift:
            noise = self._rng.standard_normal(tuple(environment[shift].shape)).astype(np.float32)
            moved = self._shift * size * factor * torch.from_numpy(noise)
            if axes:
                moved = moved - (common * factor).reshape(moved.shape)
            self._store(shift, moved, environment)
        run_step(step, environment)

    def _multiply(self, weight: str, factor: float, environment: dict[str, torch.Tensor]) -> float:
        """Multiply a weight, a quantised one by its own scale; return the factor, or 1 where that is not possible."""
        name = self._roots[weight]
        if self._tensors[name].data_type != onnx.TensorProto.FLOAT:
            origin = _dequantised(self._graph.constants[weight])
            name = "" if origin is None else origin.node.inputs[1]
            if self._readings[name] != 1 or name not in self._tensors:
                return 1.0
        tensor = self._tensors[name]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
        environment[weight] = environment[weight] * factor
        return factor

    def _wanted_size(self, name: str) -> float:
        """Return the size that a layer's output is to have: where it is quantised, one that the range is made for."""
        readers = self._graph.consumers.get(name, ())
        while len(readers) == 1 and readers[0].is_op("Relu", "Clip", "Add", "Reshape", "Transpose"):
            readers = self._graph.consumers.get(readers[0].outputs[0], ())
        scale = readers[0].inputs[1] if readers and readers[0].is_op("QuantizeLinear") else ""
        if scale not in self._tensors:
            return _SIZE
        zero = self._tensors.get(readers[0].input(2))
        bounds = np.iinfo(np.uint8 if zero is None else onnx.helper.tensor_dtype_to_np_dtype(zero.data_type))
        steps = bounds.max - (bounds.min if zero is None else int(numpy_helper.to_array(zero).max()))
        return _SHARE_OF_RANGE * max(steps, 1) * float(numpy_helper.to_array(self._tensors[scale]).max())

    def _removed(self, name: str, y: torch.Tensor, centre: torch.Tensor) -> float:
        """Return the share of each channel's mean to subtract, from 0 to 1, so that samples stay different."""
        axis = self._batch_axes.get(name, 0)
        half = y.shape[axis] // 2 if axis < y.ndim else 0
        if half == 0 or y.numel() < 2 * centre.numel():
            return 0.0
        varied = float((y.narrow(axis, 0, half) - y.narrow(axis, half, half)).square().mean()) / 2.0
        common, spread = float(centre.square().mean()), float((y - centre).square().mean())
        kept = (varied / self._share**2 - spread) / (common + _LEAST_SIZE)
        return 1.0 - float(np.sqrt(np.clip(kept, 0.0, 1.0)))


def _dequantised(constant: Constant) -> FoldedFrom | None:
    """Return the node that dequantised a constant, past data movement; None where it is a float of the file."""
    found: Constant | None = constant
    while found is not None and found.origin is not None:
        if found.origin.node.is_op("DequantizeLinear"):
            return found.origin
        found = found.origin.inputs[0] if found.origin.inputs else None
    return None


def _aligned(node: Node, shift: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a shift with the axes that it broadcasts to an output by."""
    return shift.reshape(-1, *(1 for _ in range(y.ndim - 2))) if node in CONVOLUTIONS else shift


def _averaged(node: Node, y: torch.Tensor, kept: Sequence[int]) -> list[int]:
    """Return the axes of an output that its shift is one number for; those of a convolution come after its channels."""
    if node in CONVOLUTIONS:
        return [axis for axis in range(y.ndim) if axis != 1]
    aligned = (*(1 for _ in range(y.ndim - len(kept))), *kept)
    return [axis for axis, size in enumerate(aligned) if size == 1]
