"""Random uses of single operators, in all their versions: what the comparison with ONNX Runtime runs.

Each function takes a seeded generator and returns a :class:`Sample`. They stay within what the specification and
ONNX Runtime agree on; where they do not, a comment says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One use of an operator; the inputs at the positions in `constants` are initialisers."""

    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int
    constants: Sequence[int] = ()
    outputs: int = 1


class Random:
    """Shorthands for drawing."""

    def __init__(self, seed: Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def ints(self, count: int, low: int, high: int) -> list[int]:
        return [int(value) for value in self.rng.integers(low, high + 1, count)]

    def floats(self, *shape: int) -> Array:
        return np.asarray(self.rng.standard_normal(shape), dtype=np.float32)

    def sizes(self, axes: int) -> list[int]:
        return self.ints(axes, 5, 10)


def _i64(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


# ---- convolutions and pools ---------------------------------------------------------------------------------------
def conv(r: Random) -> Sample:
    axes, group = r.pick(1, 2, 3), r.pick(1, 2)
    kernel = r.ints(axes, 1, 4)
    attributes: dict[str, Any] = {"group": group, "strides": r.ints(axes, 1, 3)}
    mode = r.pick("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID")
    if mode == "pads":
        attributes |= {"pads": r.ints(2 * axes, 0, 3), "dilations": r.ints(axes, 1, 2)}
    else:
        attributes["auto_pad"] = mode
    inputs = [r.floats(2, 2 * group, *r.sizes(axes)), r.floats(3 * group, 2, *kernel)]
    if r.pick(True, False):
        inputs.append(r.floats(3 * group))
    return Sample(inputs=inputs, attributes=attributes, opset=r.pick(7, 11, 22))


def conv_transpose(r: Random) -> Sample:
    axes, group = r.pick(1, 2, 3), r.pick(1, 2)
    sizes, kernel, strides, dilations = r.sizes(axes), r.ints(axes, 1, 4), r.ints(axes, 1, 3), r.ints(axes, 1, 2)
    attributes: dict[str, Any] = {"group": group, "strides": strides, "dilations": dilations}
    mode = r.pick("pads", "output_padding", "auto_pad", "output_shape")
    if mode == "pads":
        attributes["pads"] = r.ints(2 * axes, 0, 1)
    elif mode == "output_padding":
        attributes |= {"output_padding": [int(r.rng.integers(stride)) for stride in strides]}
        attributes["pads"] = 2 * r.ints(axes, 0, 1)
    elif mode == "auto_pad":
        attributes["auto_pad"] = r.pick("SAME_UPPER", "SAME_LOWER")
    else:
        natural = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
        attributes["output_shape"] = [max(1, size - r.pick(0, 1, 2)) for size in natural]
    inputs = [r.floats(2, 2 * group, *sizes), r.floats(2 * group, 3, *kernel)]
    if r.pick(True, False):
        inputs.append(r.floats(3 * group))
    return Sample(inputs=inputs, attributes=attributes, opset=r.pick(7, 11, 22))


def _pool(r: Random, opset: int, ceil_since: int, dilations_since: int) -> tuple[list[int], dict[str, Any]]:
    """Return spatial sizes and attributes.

    With auto_pad no dilations and no stride beyond the kernel: ONNX Runtime leaves dilations out of the padding, and
    makes negative pads where the stride is larger.
    """
    axes = r.pick(1, 2, 3)
    kernel = r.ints(axes, 1, 4)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": r.ints(axes, 1, 3)}
    mode = r.pick("pads", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID")
    if mode != "pads":
        attributes["auto_pad"] = mode
        attributes["strides"] = [min(pair) for pair in zip(kernel, attributes["strides"], strict=True)]
        return r.sizes(axes), attributes
    attributes["pads"] = [int(r.rng.integers(width)) for width in kernel * 2]
    if opset >= ceil_since:
        attributes["ceil_mode"] = r.pick(0, 1)
    if opset >= dilations_since:
        attributes["dilations"] = r.ints(axes, 1, 2)
    return [size + 2 for size in r.sizes(axes)], attributes


def max_pool(r: Random) -> Sample:
    opset = r.pick(7, 8, 10, 11, 12, 22)
    sizes, attributes = _pool(r, opset, 10, 10)
    outputs = 1 if opset < 8 else r.pick(1, 2)
    if outputs == 2:
        attributes["storage_order"] = r.pick(0, 1)
    return Sample(inputs=[r.floats(2, 3, *sizes)], attributes=attributes, opset=opset, outputs=outputs)


def average_pool(r: Random) -> Sample:
    opset = r.pick(7, 10, 11, 19, 22)
    sizes, attributes = _pool(r, opset, 10, 19)
    attributes["count_include_pad"] = r.pick(0, 1)
    return Sample(inputs=[r.floats(2, 3, *sizes)], attributes=attributes, opset=opset)


def lp_pool(r: Random) -> Sample:
    opset = r.pick(7, 11, 18, 22)
    sizes, attributes = _pool(r, opset, 18, 18)
    attributes["p"] = r.pick(1, 2, 3)
    return Sample(inputs=[r.floats(2, 3, *sizes)], attributes=attributes, opset=opset)


def global_pool(r: Random) -> Sample:
    return Sample(inputs=[r.floats(2, 3, *r.sizes(r.pick(1, 2, 3)))], opset=r.pick(7, 22))


def global_lp_pool(r: Random) -> Sample:
    return Sample(inputs=[r.floats(2, 3, *r.sizes(r.pick(1, 2, 3)))], attributes={"p": r.pick(1, 2, 3)}, opset=7)


def roi_align(r: Random) -> Sample:
    opset = r.pick(10, 16)  # ONNX Runtime has no 22 yet
    attributes = {"output_height": 3, "output_width": 2, "spatial_scale": 0.5, "sampling_ratio": r.pick(0, 2)}
    if opset == 16:
        attributes["coordinate_transformation_mode"] = r.pick("half_pixel", "output_half_pixel")
    corners = np.sort(12 * r.rng.random((4, 2, 2)), axis=1).reshape(4, 4).astype(np.float32)
    return Sample(inputs=[r.floats(2, 3, 8, 8), corners, _i64(0, 1, 0, 1)], attributes=attributes, opset=opset)


# ---- resizing -----------------------------------------------------------------------------------------------------
def resize(r: Random) -> Sample:
    """Draw sizes, or scales that lead to whole sizes.

    For other scales the specification's tests and ONNX Runtime put align_corners differently, and for nearest in
    tf_crop_and_resize it is rounding errors that decide. A result of one element is left out for cubic.
    """
    opset, mode = r.pick(11, 13, 18, 19), r.pick("nearest", "linear", "cubic")
    axes = 2 if mode == "cubic" else r.pick(1, 2, 3)
    if axes == 3 and mode == "linear" and opset < 13:
        axes = 2
    sizes = [6, 8, 10][:axes]
    coordinates = r.pick("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = r.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": r.pick(-0.5, -0.75), "exclude_outside": r.pick(0, 1)}
    if opset >= 18 and mode != "nearest" and coordinates != "align_corners":
        attributes["antialias"] = r.pick(0, 1)
    empty = np.empty(0, dtype=np.float32)
    x = r.floats(1, 2, *sizes)
    if mode != "nearest" and r.pick(True, False):
        goals = _i64(1, 2, *(r.pick(3, 5, size, 12, 13) for size in sizes))
        return Sample(inputs=[x, empty, empty, goals], attributes=attributes, opset=opset, constants=(1, 2, 3))
    scales = np.array([1, 1, *(r.pick(0.5, 1, 1.5, 2, 3) for _ in sizes)], dtype=np.float32)
    return Sample(inputs=[x, empty, scales], attributes=attributes, opset=opset, constants=(1, 2))


def resize_10(r: Random) -> Sample:
    scales = np.array([1, 1, r.pick(0.5, 0.6, 2, 3), r.pick(0.5, 1.5, 2)], dtype=np.float32)
    mode = {"mode": r.pick("nearest", "linear")}
    return Sample(inputs=[r.floats(1, 2, 6, 7), scales], attributes=mode, opset=10, constants=(1,))


def upsample(r: Random) -> Sample:
    scales = [1.0, 1.0, r.pick(1.0, 2.0, 3.0), r.pick(1.5, 2.0)]
    mode = {"mode": r.pick("nearest", "linear")}
    if r.pick(True, False):
        return Sample(inputs=[r.floats(1, 2, 5, 6)], attributes=mode | {"scales": scales}, opset=7)
    inputs = [r.floats(1, 2, 5, 6), np.array(scales, dtype=np.float32)]
    return Sample(inputs=inputs, attributes=mode, opset=9, constants=(1,))


def grid_sample(r: Random) -> Sample:
    opset = r.pick(16, 20)
    mode = r.pick("nearest", "bilinear", "bicubic") if opset == 16 else r.pick("nearest", "linear", "cubic")
    axes = 3 if opset == 20 and mode != "cubic" and r.pick(True, False) else 2
    attributes = {
        "mode": mode,
        "padding_mode": r.pick("zeros", "border", "reflection"),
        "align_corners": r.pick(0, 1),
    }
    grid = 0.8 * r.floats(2, *[4, 3, 5][:axes], axes)
    return Sample(inputs=[r.floats(2, 3, *[5, 6, 4][:axes]), grid], attributes=attributes, opset=opset)


# ---- moving elements ----------------------------------------------------------------------------------------------
def pad(r: Random) -> Sample:
    opset = r.pick(7, 11, 13, 18, 19, 21)
    mode = r.pick("constant", "reflect", "edge", *(["wrap"] if opset >= 19 else []))
    pads = r.ints(8, 0, 3)
    if mode == "reflect":
        pads = [min(value, 1) for value in pads]
    elif r.pick(True, False):
        pads[3], pads[7] = -1, -2
    x = r.floats(2, 2, 5, 6)
    if opset < 11:
        return Sample(inputs=[x], attributes={"mode": mode, "pads": pads, "value": 0.5}, opset=opset)
    inputs = [x, _i64(*pads), np.array(0.7, dtype=np.float32)]
    return Sample(inputs=inputs, attributes={"mode": mode}, opset=opset, constants=(1, r.pick(1, 2)))


def slice_(r: Random) -> Sample:
    opset = r.pick(7, 10, 13)
    axes = [int(axis) for axis in r.rng.permutation(3)[: r.pick(1, 2, 3)]]
    starts = [r.pick(0, 1, 2, -1, -3, 100, -100) for _ in axes]
    ends = [r.pick(0, 3, 5, -1, -2, 1000, -1000) for _ in axes]
    if opset < 10:
        attributes = {"starts": starts, "ends": ends, "axes": axes}
        return Sample(inputs=[r.floats(5, 6, 7)], attributes=attributes, opset=opset)
    steps = [r.pick(1, 2, -1, -2) for _ in axes]
    inputs = [r.floats(5, 6, 7), _i64(*starts), _i64(*ends), _i64(*axes), _i64(*steps)]
    return Sample(inputs=inputs, opset=opset, constants=(1, 2, 3, 4))


def split(r: Random) -> Sample:
    opset, x = r.pick(7, 11, 13, 18), r.floats(4, 6)
    if opset < 13:
        attributes = {"axis": 1} | r.pick({}, {"split": [1, 2, 3]})
        return Sample(inputs=[x], attributes=attributes, opset=opset, outputs=3)
    if r.pick(True, False):
        return Sample(inputs=[x, _i64(1, 2, 3)], attributes={"axis": -1}, opset=opset, constants=(1,), outputs=3)
    if opset < 18:
        return Sample(inputs=[x], attributes={"axis": 1}, opset=opset, outputs=3)
    uneven = r.floats(4, 7)  # 2, 2, 2, 1; with 6 columns the last part would be empty, which ONNX Runtime refuses
    return Sample(inputs=[uneven], attributes={"axis": 1, "num_outputs": 4}, opset=18, outputs=4)


def squeeze(r: Random) -> Sample:
    opset, x = r.pick(7, 11, 13, 21), r.floats(1, 3, 1, 2)
    if r.pick(True, False):
        return Sample(inputs=[x], opset=opset)
    if opset < 13:
        return Sample(inputs=[x], attributes={"axes": [0, 2]}, opset=opset)
    return Sample(inputs=[x, _i64(0, -2)], opset=opset, constants=(1,))


def unsqueeze(r: Random) -> Sample:
    opset, x = r.pick(7, 11, 13, 21), r.floats(3, 2)
    if opset < 13:
        return Sample(inputs=[x], attributes={"axes": r.pick([0, 3], [1])}, opset=opset)
    return Sample(inputs=[x, r.pick(_i64(3, -4), _i64(-1), _i64(2, 0))], opset=opset, constants=(1,))


def flatten(r: Random) -> Sample:
    return Sample(inputs=[r.floats(2, 3, 4)], attributes={"axis": r.pick(0, 1, 2, 3)}, opset=r.pick(7, 9, 11, 13, 21))


def depth_to_space(r: Random) -> Sample:
    opset = r.pick(7, 11, 13)
    attributes: dict[str, Any] = {"blocksize": 2}
    if opset >= 11:
        attributes["mode"] = r.pick("DCR", "CRD")
    return Sample(inputs=[r.floats(2, 8, 2, 3)], attributes=attributes, opset=opset)


def reverse_sequence(r: Random) -> Sample:
    axes = r.pick({"batch_axis": 1, "time_axis": 0}, {"batch_axis": 0, "time_axis": 1})
    lengths = _i64(1, 4, 2) if axes["batch_axis"] else _i64(1, 3, 2, 1)
    return Sample(inputs=[r.floats(4, 3, 2), lengths], attributes=axes, opset=10)


# ---- indices ------------------------------------------------------------------------------------------------------
def gather(r: Random) -> Sample:
    opset = r.pick(7, 11, 13)
    index = r.rng.integers(0 if opset < 11 else -3, 3, r.pick((), (2,), (2, 2)))
    inputs = [r.floats(3, 4, 5), np.asarray(index, dtype=np.int64)]
    return Sample(inputs=inputs, attributes={"axis": r.pick(0, 1, -1)}, opset=opset, constants=r.pick((), (1,)))


def gather_elements(r: Random) -> Sample:
    index = r.rng.integers(-3, 3, (2, 4))
    return Sample(inputs=[r.floats(3, 4), index], attributes={"axis": 0}, opset=r.pick(11, 13))


def gather_nd(r: Random) -> Sample:
    if r.pick(True, False):
        index = r.rng.integers(-4, 4, (3, 2, 1))
        return Sample(inputs=[r.floats(3, 4, 5), index], attributes={"batch_dims": 1}, opset=r.pick(12, 13))
    return Sample(inputs=[r.floats(3, 4, 5), r.rng.integers(0, 3, (2, 3, 2))], opset=r.pick(11, 12, 13))


def _scatter_reduction(r: Random, opset: int) -> dict[str, Any]:
    choices = {16: ("none", "add", "mul"), 18: ("none", "add", "mul", "max", "min")}
    return {"reduction": r.pick(*choices[opset])} if opset in choices else {}


def scatter_elements(r: Random) -> Sample:
    opset = r.pick(11, 13, 16, 18)
    index = np.stack([r.rng.permutation(5)[:3] - 5 for _ in range(4)])
    attributes = {"axis": 1} | _scatter_reduction(r, opset)
    return Sample(inputs=[r.floats(4, 5), index, r.floats(4, 3)], attributes=attributes, opset=opset)


def scatter_nd(r: Random) -> Sample:
    opset = r.pick(11, 13, 16, 18)
    index = r.rng.permutation(4)[:3].reshape(3, 1) - 2
    attributes = _scatter_reduction(r, opset)
    return Sample(inputs=[r.floats(4, 5, 2), index, r.floats(3, 5, 2)], attributes=attributes, opset=opset)


def top_k(r: Random) -> Sample:
    """Integers in disguise, so that there are ties."""
    opset, x = r.pick(7, 10, 11), r.rng.integers(0, 5, (3, 8)).astype(np.float32)
    if opset < 10:
        return Sample(inputs=[x], attributes={"k": 3, "axis": r.pick(0, 1)}, opset=opset, outputs=2)
    attributes = {"axis": r.pick(0, 1, -1)} | ({"largest": r.pick(0, 1)} if opset == 11 else {})
    return Sample(inputs=[x, _i64(3)], attributes=attributes, opset=opset, constants=(1,), outputs=2)


def one_hot(r: Random) -> Sample:
    values = np.array([0.2, 0.9], dtype=np.float32)
    inputs = [r.rng.integers(-4, 5, (2, 3)), _i64(4), values]
    return Sample(inputs=inputs, attributes={"axis": r.pick(-1, 0, 1)}, opset=r.pick(9, 11), constants=(1,))


# ---- reductions ---------------------------------------------------------------------------------------------------
def reduction(axes_input_since: int, *, integers: bool = True) -> Callable[[Random], Sample]:
    def draw(r: Random) -> Sample:
        opset, axes = r.pick(7, 11, 13, 18), r.pick(None, [0], [2], [0, 2], [1, 2])
        attributes: dict[str, Any] = {"keepdims": r.pick(0, 1)}
        x = np.abs(r.floats(2, 3, 4)) + np.float32(0.1)
        if integers and r.pick(True, False):
            x = r.rng.integers(1, 4, (2, 3, 4)).astype(np.int32)
        if opset < axes_input_since:
            return Sample(inputs=[x], attributes=attributes | ({"axes": axes} if axes else {}), opset=opset)
        if axes is None:
            attributes["noop_with_empty_axes"] = r.pick(0, 1)
            return Sample(inputs=[x], attributes=attributes, opset=opset)
        return Sample(inputs=[x, _i64(*axes)], attributes=attributes, opset=opset, constants=(1,))

    return draw


def arg_reduction(r: Random) -> Sample:
    opset = r.pick(7, 11, 12, 13)
    attributes = {"axis": r.pick(0, 1), "keepdims": r.pick(0, 1)}
    if opset >= 12:
        attributes["select_last_index"] = r.pick(0, 1)
    return Sample(inputs=[r.rng.integers(0, 4, (4, 5)).astype(np.float32)], attributes=attributes, opset=opset)


def cum_sum(r: Random) -> Sample:
    attributes = {"exclusive": r.pick(0, 1), "reverse": r.pick(0, 1)}
    axis = np.array(r.pick(0, 1, -1), dtype=np.int64)
    return Sample(inputs=[r.floats(3, 4), axis], attributes=attributes, opset=r.pick(11, 14), constants=(1,))


# ---- everything else ----------------------------------------------------------------------------------------------
def softmax(r: Random) -> Sample:
    return Sample(inputs=[r.floats(2, 3, 4)], attributes={"axis": r.pick(0, 1, 2)}, opset=r.pick(7, 11, 13))


def activation(low: int, *names: str) -> Callable[[Random], Sample]:
    """Draw a use of an activation with random values for the attributes called `names`."""

    def draw(r: Random) -> Sample:
        attributes = {name: float(r.rng.uniform(0.1, 0.9)) for name in names if r.pick(True, False)}
        return Sample(inputs=[2 * r.floats(2, 3, 4)], attributes=attributes, opset=low)

    return draw


def prelu(r: Random) -> Sample:
    slope = r.pick(r.floats(3, 1, 1), r.floats(1), r.floats(2, 3, 4, 5))
    return Sample(inputs=[r.floats(2, 3, 4, 5), slope], opset=r.pick(7, 9, 16))


def clip(r: Random) -> Sample:
    opset = r.pick(7, 11, 12, 13)
    if opset < 11:
        return Sample(inputs=[r.floats(3, 4)], attributes=r.pick({"min": -0.5}, {"min": 0.0, "max": 0.6}), opset=opset)
    low = r.pick(None, np.array(-0.5, dtype=np.float32), np.array(0, dtype=np.float32))
    inputs = [r.floats(3, 4), low, np.array(0.4, dtype=np.float32)]
    return Sample(inputs=inputs, opset=opset, constants=r.pick((), (1, 2)))


def power(r: Random) -> Sample:
    def operand() -> Array:
        if r.pick(True, False):
            return np.asarray(np.abs(r.floats(3, 4)) + np.float32(0.1))
        return np.asarray(r.rng.integers(1, 4, (3, 4)), dtype=r.pick(np.int32, np.int64))

    return Sample(inputs=[operand(), operand()], opset=r.pick(13, 15))


def modulo(r: Random) -> Sample:
    if r.pick(True, False):
        return Sample(inputs=[r.floats(3, 4), r.floats(3, 4)], attributes={"fmod": 1}, opset=13)
    divisor = r.pick(-1, 1) * r.rng.integers(1, 4, (3, 4))
    return Sample(inputs=[r.rng.integers(-9, 9, (3, 4)), divisor], attributes={"fmod": r.pick(0, 1)}, opset=13)


def gemm(r: Random) -> Sample:
    trans_a, trans_b = r.pick(0, 1), r.pick(0, 1)
    attributes = {"transA": trans_a, "transB": trans_b, "alpha": r.pick(1.0, 0.5), "beta": r.pick(1.0, 0.25)}
    inputs = [r.floats(*(2, 3) if trans_a else (3, 2)), r.floats(*(4, 2) if trans_b else (2, 4))]
    inputs.append(r.floats(*r.pick((4,), (1, 4), (3, 1), (), (1,), (3, 4))))
    return Sample(inputs=inputs, attributes=attributes, opset=r.pick(7, 9, 11, 13))


def einsum(r: Random) -> Sample:
    equation = r.pick("bij,bjk->bik", "bij, bjk -> bk", "...ij,...jk->...ik", "bij,bjk")
    return Sample(inputs=[r.floats(2, 3, 4), r.floats(2, 4, 5)], attributes={"equation": equation}, opset=12)


def batch_normalization(r: Random) -> Sample:
    x = r.floats(3, 4, *r.sizes(r.pick(0, 1, 2)))
    inputs = [x, r.floats(4), r.floats(4), r.floats(4), np.abs(r.floats(4)) + np.float32(0.1)]
    return Sample(inputs=inputs, attributes={"epsilon": 1e-3}, opset=r.pick(7, 9, 14, 15))


def instance_normalization(r: Random) -> Sample:
    return Sample(inputs=[r.floats(2, 3, *r.sizes(r.pick(1, 2, 3))), r.floats(3), r.floats(3)], opset=r.pick(7, 22))


def layer_normalization(r: Random) -> Sample:
    axis = r.pick(-1, 1, 2)
    shape = (4, 5) if axis == 1 else (5,)
    inputs = [r.floats(3, 4, 5), r.floats(*shape), r.floats(*shape)]
    return Sample(inputs=inputs, attributes={"axis": axis}, opset=17, outputs=r.pick(1, 3))


def lrn(r: Random) -> Sample:
    """Odd sizes: ONNX Runtime takes no others."""
    attributes = {"size": r.pick(1, 3, 5), "alpha": 0.1, "beta": 0.6, "bias": 1.5}
    return Sample(inputs=[r.floats(2, 7, 3, 3)], attributes=attributes, opset=r.pick(7, 13))


def recurrent(gates: int) -> Callable[[Random], Sample]:
    def draw(r: Random) -> Sample:
        time, batch, size, hidden = 4, 3, 2, 5
        direction = r.pick("forward", "reverse", "bidirectional")
        ways = 2 if direction == "bidirectional" else 1
        attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden} | r.pick({}, {"clip": 0.5})
        if gates == 3:
            attributes["linear_before_reset"] = r.pick(0, 1)
        if gates == 4:
            attributes["input_forget"] = r.pick(0, 0, 1)
        count = ways * {1: 1, 3: 2, 4: 3}[gates]
        if r.pick(True, False):  # bounded ones: others let rounding errors grow without bounds
            attributes["activations"] = [r.pick("Tanh", "Sigmoid", "HardSigmoid", "Softsign") for _ in range(count)]
        inputs: list[Array | None] = [
            r.floats(time, batch, size),
            r.floats(ways, gates * hidden, size),
            r.floats(ways, gates * hidden, hidden),
            r.pick(None, r.floats(ways, 2 * gates * hidden)),
            r.pick(None, np.array([4, 2, 3], dtype=np.int32)),
            r.pick(None, r.floats(ways, batch, hidden)),
        ]
        if gates == 4:
            inputs += [None if inputs[5] is None else r.floats(ways, batch, hidden)]
            inputs += [r.pick(None, r.floats(ways, 3 * hidden))]
        while inputs[-1] is None:
            inputs.pop()
        outputs = 3 if gates == 4 else 2
        return Sample(inputs=inputs, attributes=attributes, opset=r.pick(7, 14), outputs=outputs)

    return draw


SAMPLES: dict[str, Callable[[Random], Sample]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "GlobalLpPool": global_lp_pool,
    "RoiAlign": roi_align,
    "Resize": resize,
    "Resize 10": resize_10,
    "Upsample": upsample,
    "GridSample": grid_sample,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Flatten": flatten,
    "DepthToSpace": depth_to_space,
    "ReverseSequence": reverse_sequence,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TopK": top_k,
    "OneHot": one_hot,
    "ReduceSum": reduction(13),
    "ReduceMean": reduction(18),
    "ReduceMax": reduction(18),
    "ReduceMin": reduction(18),
    "ReduceProd": reduction(18),
    "ReduceL1": reduction(18),
    "ReduceL2": reduction(18),
    "ReduceSumSquare": reduction(18),
    "ReduceLogSum": reduction(18, integers=False),
    "ReduceLogSumExp": reduction(18, integers=False),
    "ArgMax": arg_reduction,
    "ArgMin": arg_reduction,
    "CumSum": cum_sum,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Hardmax": softmax,
    "LeakyRelu": activation(16, "alpha"),
    "Elu": activation(7, "alpha"),
    "Selu": activation(7, "alpha", "gamma"),
    "Celu": activation(12, "alpha"),
    "ThresholdedRelu": activation(10, "alpha"),
    "Shrink": activation(9, "bias", "lambd"),
    "HardSigmoid": activation(7, "alpha", "beta"),
    "HardSwish": activation(14),
    "Gelu": activation(20),
    "Mish": activation(18),
    "Softplus": activation(7),
    "Softsign": activation(7),
    "PRelu": prelu,
    "Clip": clip,
    "Pow": power,
    "Mod": modulo,
    "Gemm": gemm,
    "Einsum": einsum,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LRN": lrn,
    "LSTM": recurrent(4),
    "GRU": recurrent(3),
    "RNN": recurrent(1),
}
