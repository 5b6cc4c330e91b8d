"""Divide a tensor once where several steps each select a part of it, as of queries, keys and values."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial

import torch

from aznas_onnx.convert.operators.indexing import AxisPart
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["with_joined_selections"]


def with_joined_selections(program: Program, infos: TensorInfos) -> Program:
    """Return a program in which selections of all parts of a tensor along an axis are one step.

    The derivative of one selection is as large as the tensor and mostly zeros, and those of all are added up; that of
    the joined step is one copy.

    - `infos`: Shapes of the tensors.
    """
    by_axis: dict[tuple[str, int], dict[int, Step]] = defaultdict(dict)
    for step in program.steps:
        if isinstance(step.run, AxisPart):
            by_axis[step.inputs[0], step.run.axis].setdefault(step.run.position, step)
    replaced: dict[str, Step | None] = {}
    for (name, axis), parts in by_axis.items():
        if 1 < len(parts) == infos.shape(name)[axis]:
            first, *others = nodes = [step.node for step in parts.values()]
            replaced.update(dict.fromkeys(others))
            replaced[first] = Step(
                node=nodes[-1],
                run=partial(torch.unbind, dim=axis),
                inputs=(name,),
                outputs=tuple(parts[position].outputs[0] for position in range(len(parts))),
                absorbed=tuple(nodes[:-1]),
            )
    steps = (replaced.get(step.node, step) for step in program.steps)
    return replace(program, steps=tuple(step for step in steps if step is not None))
