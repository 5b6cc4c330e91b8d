"""The shared pass: forward and backward run of a program, block by block.

The published code runs the whole network with autograd, saves every activation, and then computes each block's
vector-Jacobian product. Each of those needs only the block's own input and output, so this pass processes one block at
a time and gives the same numbers:

    f_0                    = stem(input)             nothing saved for a backward pass
    f_1, g_1 = block 1, its vector-Jacobian product  then everything inside block 1 is freed
    f_2, g_2 = block 2, ...

A tensor that later blocks read is detached: it was computed before f_{l-1} or beside it, so no gradient between f_l and
f_{l-1} passes through it. Steps after the last block are not run.

The loop never waits for the device. Matrices stay there until the end (or until they take much memory); then their
spectra are computed together and transferred to the host at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from aznas_onnx.blocks.types import Block
from aznas_onnx.convert.optimise import optimised
from aznas_onnx.convert.program import Program, execute, is_out_of_memory
from aznas_onnx.errors import ModelError, first_line
from aznas_onnx.initialise import Stream, WeightSource, generator, rademacher
from aznas_onnx.proxies.engine.block_statistics import BlockStatistics
from aznas_onnx.proxies.engine.compiled_network import CompiledNetwork
from aznas_onnx.proxies.engine.evidence import BlockEvidence
from aznas_onnx.proxies.engine.shared_jacobians import representatives
from aznas_onnx.proxies.engine.stages import Stage, stages_of
from aznas_onnx.timing import Clock

__all__ = ["BlockPass", "Signs", "signs_of"]

Tensor = torch.Tensor
Signs = Callable[[int, Tensor], Tensor]
"""From a block's index and output to the output gradient: signs, of the output's shape and memory order."""


class BlockPass:
    """A program divided into blocks, ready to be measured under any number of seeds.

    Constants in `sampled` are sampled for each seed and need no data. As published, `debias` is False (it removes the
    noise of few samples from spectral norms), and `find_representatives` None (blocks that share another's Jacobian).
    """

    def __init__(
        self,
        program: Program,
        blocks: Sequence[Block],
        sampled: Collection[str] = (),
        *,
        debias: bool = False,
        find_representatives: Callable[[Sequence[Stage]], Mapping[int, int]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock(is_running=False)
        self._debias = debias
        self._blocks = tuple(blocks)
        self._constants = {name: tensor for name, tensor in program.constants.items() if name not in sampled}
        self._stages = stages_of(program, blocks, frozenset(sampled))
        self.representatives = {} if find_representatives is None else find_representatives(self._stages)

    @classmethod
    def of(
        cls,
        network: CompiledNetwork,
        blocks: Sequence[Block],
        *,
        debias: bool = False,
        share_repeats: bool = False,
        clock: Clock | None = None,
    ) -> BlockPass:
        """Divide a compiled network, whose steps can overwrite tensors that no other step needs.

        - `share_repeats`: Whether blocks that repeat each other share one Jacobian; False is as published.
        """
        graph, infos = network.model.graph, network.model.infos
        wanted = {block.output for block in blocks}
        program = network.program
        if network.dtype is torch.float32:
            program = optimised(program, graph, infos, wanted, network.device)
        return cls(
            program,
            blocks,
            sampled=network.plan,
            debias=debias,
            find_representatives=partial(representatives, graph=graph, infos=infos, weights=network.plan)
            if share_repeats
            else None,
            clock=clock,
        )

    def measure(
        self, feeds: Mapping[str, Tensor], weights: WeightSource | None, signs: Signs | None
    ) -> tuple[BlockEvidence, ...]:
        """Run the pass.

        - `feeds`: The graph's inputs, on the device.
        - `weights`: Samples the constants of `sampled`; None where there are none.
        - `signs`: Makes the output gradients; None for a forward pass only.

        Returns: One per block; equal seeds give equal numbers on one machine.
        """
        environment: dict[str, Tensor] = {**self._constants, **feeds}
        measuring = BlockStatistics(debias=self._debias)
        previous: Stage | None = None
        for stage in self._stages:
            if weights is not None:
                with self._clock.phase("draw weights"):
                    environment.update((name, weights.draw(name)) for name in stage.weights)
            if previous is None or signs is None or stage.block.index in self.representatives:
                with self._clock.phase("forward"):
                    _run(stage, environment)
            else:
                _run_with_gradient(previous, stage, environment, signs, measuring, self._clock)
            with self._clock.phase("second moments"):
                measuring.add_features(stage.block, environment[stage.block.output])
            for name in stage.dropped_last:
                environment.pop(name, None)
            previous = stage
        with self._clock.phase("spectra"):
            found = measuring.finish(self._blocks)
        return found if signs is None else _shared(found, self._blocks, self.representatives)


def _shared(
    found: Sequence[BlockEvidence], blocks: Sequence[Block], representatives: Mapping[int, int]
) -> tuple[BlockEvidence, ...]:
    """Give blocks that were not measured the Jacobian of their stand-in."""
    by_index = {block.index: evidence for block, evidence in zip(blocks, found, strict=True)}

    def shared(block: Block, own: BlockEvidence) -> BlockEvidence:
        other = by_index[representatives.get(block.index, block.index)]
        return replace(own, sigma=other.sigma, is_identity=other.is_identity, unmeasured=other.unmeasured)

    return tuple(map(shared, blocks, found)) if representatives else tuple(found)


def signs_of(seed: int) -> Signs:
    """Return the Rademacher output gradients of a seed."""

    def make(index: int, output: Tensor) -> Tensor:
        # Sampled in the output's memory order, so that neither the backward pass nor the sums have to copy.
        order = sorted(range(output.dim()), key=output.stride, reverse=True)
        source = generator(seed, Stream.RADEMACHER, index, output.device)
        drawn = rademacher(tuple(output.shape[axis] for axis in order), output.device, source)
        return drawn.permute([order.index(axis) for axis in range(output.dim())])

    return make


@torch.no_grad()
def _run(stage: Stage, environment: dict[str, Tensor]) -> None:
    _run_steps(stage, environment)


def _run_with_gradient(
    previous: Stage,
    stage: Stage,
    environment: dict[str, Tensor],
    signs: Signs,
    measuring: BlockStatistics,
    clock: Clock,
) -> None:
    """Run a stage, take its vector-Jacobian product, and free its autograd graph."""
    block, source = stage.block, previous.block
    if not stage.is_connected:
        with clock.phase("forward"):
            _run(stage, environment)
        if stage.is_constant:
            measuring.add_zero_gradient(block, environment[block.output].device)
        else:
            measuring.skip(block, f"block {block.name!r} does not depend on block {source.name!r}")
        return
    leaf = environment[source.output] = environment[source.output].detach().requires_grad_()
    with torch.enable_grad(), clock.phase("forward"):
        _run_steps(stage, environment)
    output = environment[block.output]
    with clock.phase("backward"):
        g_out = _signs(signs, block, output)
        g_in = _vector_jacobian_product(block, output, leaf, g_out) if output.requires_grad else None
    for name in stage.handed_on:
        environment[name] = environment[name].detach()
    environment[block.output] = output = output.detach()
    if g_in is None:
        measuring.skip(block, f"block {block.name!r} has no derivative in the output of block {source.name!r}")
    else:
        with clock.phase("second moments"):
            measuring.add_gradient(source, block, g_in, g_out)
            if stage.joins:
                measuring.add_joined(source, block, leaf.detach(), output)


def _signs(signs: Signs, block: Block, output: Tensor) -> Tensor:
    """Return the output gradient of a block; the same for one network wherever its files have the batch."""
    if not block.batch_axis:
        return signs(block.index, output)
    return signs(block.index, output.movedim(block.batch_axis, 0).contiguous()).movedim(0, block.batch_axis)


def _vector_jacobian_product(block: Block, output: Tensor, leaf: Tensor, g_out: Tensor) -> Tensor | None:
    try:
        with torch.enable_grad():
            start = _Begin.apply(output, g_out.to(output.dtype))
        return torch.autograd.grad(start, leaf, allow_unused=True)[0]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"block {block.name!r} cannot be differentiated: {first_line(error)}") from error


class _Begin(torch.autograd.Function):
    """A scalar whose derivative is the given output gradient.

    Giving it to ``torch.autograd.grad`` is the same, but to compare two shapes that imports sympy: half a second and
    tens of megabytes in every process that scores.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, g_out: Tensor) -> Tensor:
        ctx.g_out = g_out
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.g_out, None


def _run_steps(stage: Stage, environment: dict[str, Tensor]) -> None:
    execute(zip(stage.steps, stage.dropped, strict=True), environment)
