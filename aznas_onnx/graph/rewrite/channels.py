"""Arithmetic with one number per channel, which is what scales, shifts and statistics of a normalisation are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aznas_onnx.graph.ir import Constant, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.linear import as_vector

__all__ = ["Affine", "Step", "affine_after", "combined", "inverted", "joined", "step_of"]

_Vector: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node that does one thing with each channel of `x`: times or divided by, plus or minus a number of its own."""

    node: Node
    x: str
    vector: Constant
    axis: int

    @property
    def is_factor(self) -> bool:
        """Whether it multiplies or divides."""
        return self.node.is_op("Mul", "Div")


def step_of(editor: Editor, node: Node | None) -> Step | None:
    """Return what a node does with each channel; None where it does something else."""
    if node is None or not node.is_op("Mul", "Div", "Add", "Sub"):
        return None
    for x, name in (node.inputs, node.inputs[::-1])[: 2 if node.is_op("Mul", "Add") else 1]:
        shape, constant = editor.shape(x), editor.constant(name)
        if constant is None or editor.constant(x) is not None or shape is None:
            continue
        axis = _axis(constant.shape, shape) if shape == editor.shape(node.outputs[0]) else 0
        vector = as_vector(editor, name, len(shape), axis, shape[axis]) if axis else None
        if vector is not None:
            return Step(node=node, x=x, vector=vector, axis=axis)
    return None


def _axis(vector: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the axis of a tensor, the second or the last, that a vector goes along; 0 where it goes along neither."""
    long = [index - len(vector) for index, size in enumerate(vector) if size > 1]
    if not long and len(shape) > 2:
        return 1 if shape[1] == 1 else 0
    axis = len(shape) + long[0] if len(long) == 1 else 0
    return axis if axis in (1, len(shape) - 1) else 0


def joined(steps: Sequence[Step]) -> Constant | None:
    """Return the product of factors, or the sum of terms, as one vector; None where there are none.

    Of several, the last that is not divided by or subtracted is the trained one.
    """
    if not steps:
        return None
    plain = [step for step in steps if step.node.is_op("Mul", "Add")]
    if len(steps) == len(plain) == 1:
        return steps[0].vector
    parameter = (plain or steps)[-1].vector
    vectors = [inverted(step) for step in steps]
    together = operator.mul if steps[0].is_factor else operator.add
    return combined(lambda *values: reduce(together, values), parameter, *vectors)


def inverted(step: Step) -> Constant:
    """Return what is multiplied by where a step divides, and what is added where it subtracts."""
    if step.node.is_op("Div"):
        return combined(lambda v: (1.0 / v).astype(v.dtype), step.vector, step.vector)
    return combined(operator.neg, step.vector, step.vector) if step.node.is_op("Sub") else step.vector


def combined(function: Callable[..., _Vector], parameter: Constant, *parts: Constant) -> Constant:
    """Return what a function makes of vectors; it stands for the trained vector `parameter`."""
    reads = [part.read for part in parts]

    def read() -> _Vector:
        return function(*(read() for read in reads if read is not None))

    readable = all(part is not None for part in reads)
    return replace(parameter, read=read if readable else None, origin=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The node that ends a scale and shift, and the vectors; None where there is none."""

    root: Node
    scale: Constant | None
    shift: Constant | None


def affine_after(editor: Editor, node: Node, axis: int) -> Affine:
    """Return the scale and shift per channel that follow a node; what multiplies by one or adds zero goes with them."""
    root, factors, terms = node, list[Step](), list[Step]()
    while (reader := editor.sole_reader(root.outputs[0])) is not None:
        step = step_of(editor, reader)
        if step is not None and step.axis == axis and not (step.is_factor and terms):
            (factors if step.is_factor else terms).append(step)
        elif not _changes_nothing(editor, reader, root.outputs[0]):
            break
        root = reader
    return Affine(root=root, scale=joined(factors), shift=joined(terms))


def _changes_nothing(editor: Editor, node: Node, x: str) -> bool:
    """Whether a node multiplies by the number one or adds the number zero."""
    if not node.is_op("Mul", "Div", "Add", "Sub") or editor.shape(x) != editor.shape(node.outputs[0]):
        return False
    other = node.inputs[1] if node.inputs[0] == x else node.inputs[0] if node.is_op("Mul", "Add") else ""
    return editor.scalar(other) == (1.0 if node.is_op("Mul", "Div") else 0.0)
