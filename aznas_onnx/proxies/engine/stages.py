"""Divide a program among its blocks: the steps before each block, and when tensors are freed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aznas_onnx.blocks.types import Block
from aznas_onnx.convert.program import Program, Step

__all__ = ["Stage", "stages_of"]

_AFTER = 2**31  # a place behind all steps of a stage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """The steps that compute one block's output from earlier tensors.

    `weights` are those that its steps are the first to read; `dropped` has the tensors that are unread after each step,
    `handed_on` those that later stages read and that can reference this stage's autograd graph. It is connected if its
    output depends on the previous block's, and constant if on no input of the graph. It joins if its steps also read
    what other blocks made of the samples.
    """

    block: Block
    steps: tuple[Step, ...]
    weights: tuple[str, ...]
    dropped: tuple[tuple[str, ...], ...]
    dropped_last: tuple[str, ...]
    handed_on: tuple[str, ...]
    is_connected: bool
    is_constant: bool
    joins: bool


def stages_of(program: Program, blocks: Sequence[Block], sampled: frozenset[str]) -> tuple[Stage, ...]:
    """Divide the steps that the blocks' outputs need, each to the first block that needs it.

    A step that no block's output depends on belongs to no stage; constants in `sampled` are sampled at the first read.
    """
    divided = _divide(program, blocks)
    last_read = _last_reads(divided, blocks)
    dependent = _reached(program.inputs, program.steps)
    ends: dict[int, list[str]] = {}
    for name, (position, at) in last_read.items():
        if at == _AFTER:
            ends.setdefault(position, []).append(name)
    stages: list[Stage] = []
    seen: set[str] = set()
    for position, (block, steps) in enumerate(zip(blocks, divided, strict=True)):
        previous = blocks[position - 1].output if position else ""
        touched = dict.fromkeys([previous, *(name for step in steps for name in step.outputs)])
        weights = [name for step in steps for name in step.inputs if name in sampled and name not in seen]
        seen.update(weights)
        stages.append(
            Stage(
                block=block,
                steps=steps,
                weights=tuple(dict.fromkeys(weights)),
                dropped=tuple(_dropped(step, (position, at), last_read) for at, step in enumerate(steps)),
                dropped_last=tuple(ends.get(position, ())),
                handed_on=tuple(name for name in touched if last_read.get(name, (0, 0))[0] > position),
                is_connected=bool(previous) and block.output in _reached([previous], steps),
                is_constant=block.output not in dependent,
                joins=not dependent.isdisjoint(_read(steps) - {previous}),
            )
        )
    return tuple(stages)


def _divide(program: Program, blocks: Sequence[Block]) -> list[tuple[Step, ...]]:
    producer = {name: index for index, step in enumerate(program.steps) for name in step.outputs if name}
    done: set[int] = set()
    divided = []
    for block in blocks:
        mine: set[int] = set()
        stack = [block.output]
        while stack:
            index = producer.get(stack.pop())
            if index is not None and index not in done and index not in mine:
                mine.add(index)
                stack.extend(program.steps[index].inputs)
        done |= mine
        divided.append(tuple(program.steps[index] for index in sorted(mine)))
    return divided


def _last_reads(divided: Sequence[tuple[Step, ...]], blocks: Sequence[Block]) -> dict[str, tuple[int, int]]:
    """Return the stage and step that reads each tensor last; a block's output is read last after the next stage."""
    last: dict[str, tuple[int, int]] = {}
    for position, steps in enumerate(divided):
        for at, step in enumerate(steps):
            last.update((name, (position, at)) for name in step.inputs if name)
        for block in blocks[max(position - 1, 0) : position + 1]:
            last[block.output] = max(last.get(block.output, (0, 0)), (position, _AFTER))
    return last


def _dropped(step: Step, place: tuple[int, int], last_read: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Return the names that are unread after a step, its own unread outputs included."""
    names = dict.fromkeys((*step.inputs, *step.outputs))
    return tuple(name for name in names if name and last_read.get(name, place) == place)


def _read(steps: Sequence[Step]) -> set[str]:
    """Return the tensors that steps read and do not make."""
    return {name for step in steps for name in step.inputs} - {name for step in steps for name in step.outputs}


def _reached(sources: Iterable[str], steps: Sequence[Step]) -> set[str]:
    """Return `sources` and everything that `steps` compute from them."""
    reached = set(sources)
    for step in steps:
        if not reached.isdisjoint(step.inputs):
            reached.update(step.outputs)
    return reached
