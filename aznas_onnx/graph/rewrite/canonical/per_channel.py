"""Arithmetic with one number per channel: scale, shift and statistics of a normalisation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.rewrite.canonical.linear import as_vector
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.operators.sets import ARITHMETIC

__all__ = ["Affine", "PerChannelStep", "affine_after", "combined", "scale_of", "shift_of", "per_channel_step"]

_Vector: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerChannelStep:
    """A node that multiplies, divides, adds or subtracts one number per channel of `x`.

    With `is_reversed`, `x` is the subtrahend.
    """

    node: Node
    x: str
    vector: Constant
    axis: int
    is_reversed: bool = False

    @property
    def is_factor(self) -> bool:
        """Whether it multiplies or divides."""
        return self.node.is_op("Mul", "Div")


def per_channel_step(editor: Editor, node: Node | None) -> PerChannelStep | None:
    """Return the step of a node on each channel; None for other nodes."""
    if node is None or not (node in ARITHMETIC or node.is_op("Sum")) or len(node.inputs) != 2:
        return None
    for x, name in (node.inputs, node.inputs[::-1])[: 1 if node.is_op("Div") else 2]:
        shape, constant = editor.shape(x), editor.constant(name)
        if constant is None or editor.constant(x) is not None or shape is None:
            continue
        axis = _axis(constant.shape, shape) if shape == editor.shape(node.outputs[0]) else 0
        vector = as_vector(editor, name, len(shape), axis, shape[axis]) if axis else None
        if vector is not None:
            is_reversed = node.is_op("Sub") and x == node.inputs[1]
            return PerChannelStep(node=node, x=x, vector=vector, axis=axis, is_reversed=is_reversed)
    return None


def _axis(vector: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the axis of a tensor, the second or the last, that a vector is aligned with; 0 where neither."""
    long = [index - len(vector) for index, size in enumerate(vector) if size > 1]
    if not long and len(shape) > 2:
        return 1 if shape[1] == 1 else 0
    axis = len(shape) + long[0] if len(long) == 1 else 0
    return axis if axis in (1, len(shape) - 1) else 0


def scale_of(steps: Sequence[PerChannelStep]) -> Constant | None:
    """Return the product of the factors among steps as one vector; None where there is none.

    Of several, the last that is not divided by is the trained one.
    """
    factors = [step for step in steps if step.is_factor]
    is_negative = sum(step.is_reversed for step in steps) % 2 == 1
    return _joined(factors, [(-1 if is_negative else 1) if step is factors[0] else 1 for step in factors])


def shift_of(steps: Sequence[PerChannelStep]) -> Constant | None:
    """Return the sum of the terms among steps as one vector; None where there is none. The last one is trained."""
    signs, terms, sign = list[int](), list[PerChannelStep](), 1
    for step in reversed(steps):
        if not step.is_factor:
            terms.insert(0, step)
            signs.insert(0, -sign if step.node.is_op("Sub") and not step.is_reversed else sign)
        sign = -sign if step.is_reversed else sign
    return _joined(terms, signs)


def _joined(steps: Sequence[PerChannelStep], signs: Sequence[int]) -> Constant | None:
    """Return the product or sum of vectors, each with a sign and divided by where its node divides."""
    if not steps:
        return None
    divides = [step.node.is_op("Div") for step in steps]
    if len(steps) == 1 and signs[0] == 1 and not divides[0]:
        return steps[0].vector
    parameter = [step for step in steps if not step.node.is_op("Div")] or steps
    together = operator.mul if steps[0].is_factor else operator.add

    def join(*values: _Vector) -> _Vector:
        parts = [1 / v if divided else v for v, divided in zip(values, divides, strict=True)]
        return reduce(together, (sign * part for sign, part in zip(signs, parts, strict=True))).astype(values[0].dtype)

    return combined(join, parameter[-1].vector, *(step.vector for step in steps))


def combined(function: Callable[..., _Vector], parameter: Constant, *parts: Constant) -> Constant:
    """Return the result of a function of vectors, with the role of the trained vector `parameter`."""
    reads = [part.read for part in parts]

    def read() -> _Vector:
        return function(*(read() for read in reads if read is not None))

    readable = all(part is not None for part in reads)
    return replace(parameter, read=read if readable else None, origin=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The last node of a scale and shift, and the vectors; None where there is none."""

    root: Node
    scale: Constant | None
    shift: Constant | None


def affine_after(editor: Editor, node: Node, axis: int) -> Affine:
    """Return the scale and shift per channel that follow a node, past no-ops."""
    root, steps = node, list[PerChannelStep]()
    while (reader := editor.sole_reader(root.outputs[0])) is not None:
        step = per_channel_step(editor, reader)
        if step is not None and step.axis == axis and not (step.is_factor and steps and not steps[-1].is_factor):
            if step.is_reversed:
                break
            steps.append(step)
        elif not _changes_nothing(editor, reader, root.outputs[0]):
            break
        root = reader
    return Affine(root=root, scale=scale_of(steps), shift=shift_of(steps))


def _changes_nothing(editor: Editor, node: Node, x: str) -> bool:
    """Whether a node multiplies by the number one or adds the number zero."""
    if node not in ARITHMETIC or editor.shape(x) != editor.shape(node.outputs[0]):
        return False
    other = node.inputs[1] if node.inputs[0] == x else node.inputs[0] if node.is_op("Mul", "Add") else ""
    return editor.scalar(other) == (1.0 if node.is_op("Mul", "Div") else 0.0)
