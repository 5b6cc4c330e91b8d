"""The shared pass: one forward and one backward run of a program, block by block. Imports torch.

The published code runs the whole network with autograd on, keeps every activation, and then asks for each block's
vector-Jacobian product. Each of those needs only the block's own input and output, so this pass does one block at a
time and gives the same numbers:

    f_0                    = stem(input)             nothing kept for a backward pass
    f_1, g_1 = block 1, its vector-Jacobian product  then everything inside block 1 is freed
    f_2, g_2 = block 2, ...

A tensor that later blocks read is handed on detached: it was computed before f_{l-1} or beside it, so no gradient
between f_l and f_{l-1} passes through it. Steps behind the last block are not run at all.

Nothing in the loop waits for the device. Matrices stay there until the end (or until they take much memory); then
their spectra are computed together, and one transfer brings all results to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from aznas_onnx.blocks.types import Block
from aznas_onnx.convert.program import Program, Step, run_step
from aznas_onnx.initialise import Stream, WeightSource, generator, rademacher
from aznas_onnx.proxies.evidence import BlockEvidence
from aznas_onnx.proxies.moments import covariance, entropies, jacobian_gram, spectra, spectral_norms
from aznas_onnx.proxies.positions import match

__all__ = ["BlockPass", "Signs", "signs_of"]

Tensor = torch.Tensor
Signs = Callable[[int, Tensor], Tensor]
"""From a block's index and output to the output gradient: signs, of the output's shape and memory order."""

_PENDING_BYTES = 2**26  # matrices that may wait for their spectra


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stage:
    """The steps that compute one block's output from what came before.

    `dropped` has, for each step, the names that nobody reads after it; `dropped_last` those after the whole stage.
    `handed_on` are tensors that later stages read and that may carry this stage's graph. `is_connected` says whether the output depends on
    the previous block's, `is_constant` whether it depends on nothing at all.
    """

    block: Block
    steps: tuple[Step, ...]
    weights: tuple[str, ...]
    dropped: tuple[tuple[str, ...], ...]
    dropped_last: tuple[str, ...]
    handed_on: tuple[str, ...]
    is_connected: bool
    is_constant: bool


class BlockPass:
    """A program divided into blocks, ready to be measured under any number of seeds.

    Parameters
    ----------
    program
        Its constants need not have data for the names that a weight source draws.
    blocks
        In dataflow order.
    drawn
        Names of the constants that are drawn anew for each seed.
    """

    def __init__(self, program: Program, blocks: Sequence[Block], drawn: Collection[str] = ()) -> None:
        self._constants = {name: tensor for name, tensor in program.constants.items() if name not in drawn}
        self._stages = _plan(program, blocks, frozenset(drawn) & program.constants.keys())

    def measure(
        self, feeds: Mapping[str, Tensor], weights: WeightSource | None, signs: Signs | None
    ) -> tuple[BlockEvidence, ...]:
        """Run the pass.

        Parameters
        ----------
        feeds
            The graph's inputs, on the device.
        weights
            Draws the constants that were named; None where there are none.
        signs
            Makes the output gradients; None for a forward pass only.

        Returns
        -------
        tuple of BlockEvidence
            One for each block; equal seeds give equal numbers on one machine.
        """
        environment: dict[str, Tensor] = {**self._constants, **feeds}
        results = _Results()
        previous: _Stage | None = None
        for stage in self._stages:
            if weights is not None:
                environment.update((name, weights.draw(name)) for name in stage.weights)
            leaf = None
            if previous is not None and signs is not None and stage.is_connected:
                leaf = environment[previous.block.output].detach().requires_grad_()
            _run_stage(stage, environment, previous, leaf)
            if previous is not None and signs is not None:
                _measure_gradient(previous, stage, environment, leaf, signs, results)
            output = environment[stage.block.output] = environment[stage.block.output].detach()
            results.add_features(stage.block.index, covariance(_channels_last(output, stage.block.channel_axis)))
            for name in stage.dropped_last:
                environment.pop(name, None)
            previous = stage
        return results.finish([stage.block for stage in self._stages])


def signs_of(seed: int) -> Signs:
    """Return the Rademacher output gradients of a seed."""

    def make(index: int, output: Tensor) -> Tensor:
        # Drawn in the output's own memory order, so that neither the backward pass nor the sums have to copy.
        order = sorted(range(output.dim()), key=output.stride, reverse=True)
        source = generator(seed, Stream.RADEMACHER, index, output.device)
        drawn = rademacher(tuple(output.shape[axis] for axis in order), output.device, source)
        return drawn.permute([order.index(axis) for axis in range(output.dim())])

    return make


def _run_stage(stage: _Stage, environment: dict[str, Tensor], previous: _Stage | None, leaf: Tensor | None) -> None:
    """Run a stage's steps, recording what the backward pass needs where there is a leaf to reach."""
    if leaf is not None and previous is not None:
        environment[previous.block.output] = leaf
    with torch.set_grad_enabled(leaf is not None):
        for step, dropped in zip(stage.steps, stage.dropped, strict=True):
            run_step(step, environment)
            for name in dropped:
                environment.pop(name, None)


def _measure_gradient(
    previous: _Stage, stage: _Stage, environment: dict[str, Tensor], leaf: Tensor | None, signs: Signs, results: _Results
) -> None:
    """Take a block's vector-Jacobian product and free its graph."""
    index, output = stage.block.index, environment[stage.block.output]
    g_in = g_out = None
    if leaf is not None and output.requires_grad:
        g_out = signs(index, output)
        (g_in,) = torch.autograd.grad(output, leaf, g_out, allow_unused=True)
    for name in stage.handed_on:
        environment[name] = environment[name].detach()
    if stage.is_constant:
        results.add_zero_gradient(index, output.device)
    elif g_in is None or g_out is None:
        results.skip(index, f"block {stage.block.name!r} does not depend on block {previous.block.name!r} differentiably")
    else:
        results.add_gradient(previous.block, stage.block, g_in, g_out)


def _channels_last(tensor: Tensor, channel_axis: int) -> Tensor:
    return tensor.movedim(channel_axis, -1)


class _Results:
    """What has been measured so far: matrices on the device, then numbers on the device, then plain numbers."""

    def __init__(self) -> None:
        self._covariances: list[tuple[int, Tensor]] = []
        self._grams: list[tuple[int, Tensor]] = []
        self._numbers: list[tuple[int, str, Tensor]] = []
        self._skipped: dict[int, str] = {}
        self._pending_bytes = 0

    def add_features(self, index: int, matrix: Tensor) -> None:
        self._covariances.append((index, matrix))
        self._numbers.append((index, "variance", matrix.diagonal().sum()))
        self._count(matrix)

    def add_gradient(self, previous: Block, block: Block, g_in: Tensor, g_out: Tensor) -> None:
        g_in, g_out = _channels_last(g_in, previous.channel_axis), _channels_last(g_out, block.channel_axis)
        are_tokens = block.channel_axis == previous.channel_axis == 2
        matching = match(tuple(g_in.shape[1:-1]), tuple(g_out.shape[1:-1]), are_tokens=are_tokens)
        if matching is None:
            sizes = " and ".join("x".join(map(str, g.shape[1:-1])) for g in (g_in, g_out))
            self.skip(block.index, f"the positions of block {block.name!r} ({sizes}) cannot be matched with its input's")
            return
        gram, is_identity = jacobian_gram(g_in, g_out, matching)
        self._grams.append((block.index, gram))
        self._numbers.append((block.index, "is_identity", is_identity))
        self._count(gram)

    def add_zero_gradient(self, index: int, device: torch.device) -> None:
        self._numbers.append((index, "sigma", torch.zeros((), device=device)))

    def skip(self, index: int, reason: str) -> None:
        self._skipped[index] = reason

    def _count(self, matrix: Tensor) -> None:
        self._pending_bytes += matrix.numel() * matrix.element_size()
        if self._pending_bytes > _PENDING_BYTES:
            self._reduce()

    def _reduce(self) -> None:
        """Replace the matrices by numbers, still on the device."""
        pending = [*self._covariances, *self._grams]
        found = spectra([_where_solvable(matrix) for _, matrix in pending])
        for (index, _), spectrum in zip(self._covariances, found[: len(self._covariances)], strict=True):
            self._numbers.append((index, "entropy", entropies(spectrum)))
        for (index, _), spectrum in zip(self._grams, found[len(self._covariances) :], strict=True):
            self._numbers.append((index, "sigma", spectral_norms(spectrum)))
        self._covariances, self._grams, self._pending_bytes = [], [], 0

    def finish(self, blocks: Sequence[Block]) -> tuple[BlockEvidence, ...]:
        """Bring everything to the host, in one transfer."""
        self._reduce()
        found: dict[int, dict[str, float]] = {block.index: {} for block in blocks}
        if self._numbers:
            device = self._numbers[-1][2].device
            values = torch.stack([number.to(device, torch.float32) for *_, number in self._numbers]).tolist()
            for (index, name, _), value in zip(self._numbers, values, strict=True):
                found[index][name] = value
        return tuple(self._evidence(block, found[block.index]) for block in blocks)

    def _evidence(self, block: Block, numbers: Mapping[str, float]) -> BlockEvidence:
        return BlockEvidence(
            name=block.name,
            entropy=numbers.get("entropy"),
            variance=numbers.get("variance"),
            sigma=numbers.get("sigma"),
            is_identity=bool(numbers.get("is_identity", 0.0)),
            unmeasured=self._skipped.get(block.index, ""),
        )


def _where_solvable(matrix: Tensor) -> Tensor:
    """Move a matrix to where its eigenvalues can be computed: Apple's GPUs have no solver."""
    return matrix.cpu() if matrix.device.type == "mps" else matrix


# ---- planning ----------------------------------------------------------------------------------------------------
_AFTER = 2**31  # a place behind all steps of a stage


def _plan(program: Program, blocks: Sequence[Block], drawn: frozenset[str]) -> tuple[_Stage, ...]:
    """Divide the steps that the last block needs among the blocks, each where it is first needed."""
    divided = _divide(program, blocks)
    last_read = _last_reads(divided, blocks)
    dependent = _reached(program.inputs, program.steps)
    stages: list[_Stage] = []
    seen: set[str] = set()
    for position, (block, steps) in enumerate(zip(blocks, divided, strict=True)):
        previous = blocks[position - 1].output if position else ""
        touched = dict.fromkeys([previous, *(name for step in steps for name in step.outputs)])
        weights = {name: None for step in steps for name in step.inputs if name in drawn and name not in seen}
        seen.update(weights)
        stages.append(
            _Stage(
                block=block,
                steps=steps,
                weights=tuple(weights),
                dropped=tuple(_dropped(step, (position, at), last_read) for at, step in enumerate(steps)),
                dropped_last=tuple(name for name, place in last_read.items() if place == (position, _AFTER)),
                handed_on=tuple(name for name in touched if last_read.get(name, (0, 0))[0] > position),
                is_connected=bool(previous) and block.output in _reached([previous], steps),
                is_constant=block.output not in dependent,
            )
        )
    return tuple(stages)


def _divide(program: Program, blocks: Sequence[Block]) -> list[tuple[Step, ...]]:
    """Return, for each block, the steps that its output needs and no earlier block's did, in the program's order."""
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
    """Return the names that nobody reads after a step, its own unread outputs included."""
    names = dict.fromkeys((*step.inputs, *step.outputs))
    return tuple(name for name in names if name and last_read.get(name, place) == place)


def _reached(sources: Iterable[str], steps: Sequence[Step]) -> set[str]:
    """Return `sources` and everything that `steps` compute from them."""
    reached = set(sources)
    for step in steps:
        if not reached.isdisjoint(step.inputs):
            reached.update(step.outputs)
    return reached
