"""A model compiled for one batch size and device, for any number of seeds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

import torch

from aznas_onnx.blocks import Blocks
from aznas_onnx.convert import compile_program
from aznas_onnx.convert.optimise import optimised
from aznas_onnx.graph import Limits, Model
from aznas_onnx.initialise import WeightSource, prepare_for_batch
from aznas_onnx.proxies import BlockEvidence
from aznas_onnx.proxies.engine.blockpass import BlockPass, signs_of
from aznas_onnx.proxies.engine.feeds import FeedSource
from aznas_onnx.proxies.engine.shared_jacobians import representatives
from aznas_onnx.scoring.allocator import freed_memory_kept
from aznas_onnx.timing import Clock

__all__ = ["Runner"]


class Runner:
    """The seed-independent parts of a model's score.

    Parameters
    ----------
    model
        At any batch size.
    blocks
        The primary blocks.
    batch_size, device
        Batch size and device of the pass.
    limits
        Limits on the model at that batch size.
    debias
        Whether to remove the noise of few samples from spectral norms; False is as published.
    share_repeats
        Whether equal blocks share one Jacobian; False is as published.
    clock
        Measures the phases of the pass.

    Raises
    ------
    ModelError
        If the model does not run at the batch size, or an operator cannot be converted.
    """

    def __init__(
        self,
        model: Model,
        blocks: Blocks,
        *,
        batch_size: int,
        device: torch.device,
        limits: Limits | None = None,
        debias: bool = False,
        share_repeats: bool = False,
        clock: Clock | None = None,
    ) -> None:
        sized, self._weights = prepare_for_batch(model, batch_size, limits, is_transformer=blocks.is_transformer)
        self._largest_bytes = max((info.size_bytes for info in sized.infos.values()), default=0)
        self._device = device
        self._feeds = FeedSource(sized, device)
        # BatchNormalization always uses the statistics of the batch. The published code runs transformers in eval
        # mode, which for them switches off dropout only; those that do have BatchNormalization would otherwise not
        # normalise at all, because there are no running statistics to use.
        wanted = {block.output for block in blocks.blocks}
        blank = {shape: torch.empty(shape, device="meta") for shape in {w.shape for w in self._weights.values()}}
        program = compile_program(
            sized.graph,
            sized.infos,
            {name: blank[weight.shape] for name, weight in self._weights.items()},
            device=device,
            training=True,
            also=wanted,
        )
        find = partial(representatives, graph=sized.graph, infos=sized.infos, weights=self._weights)
        self._pass = BlockPass(
            optimised(program, sized.graph, sized.infos, wanted, device),
            blocks.blocks,
            drawn=self._weights,
            debias=debias,
            find_stand_ins=find if share_repeats else None,
            clock=clock,
        )

    @property
    def representatives(self) -> Mapping[int, int]:
        """Which blocks share another's Jacobian: from the index of each to that of the block that is measured."""
        return self._pass.representatives

    def measure(self, seed: int, *, gradients: bool) -> tuple[BlockEvidence, ...]:
        """Sample weights, input and, with `gradients`, output gradients; run the pass."""
        weights = WeightSource(self._weights, seed, self._device)
        with freed_memory_kept(self._largest_bytes) if self._device.type == "cpu" else nullcontext():
            return self._pass.measure(self._feeds.draw(seed), weights, signs_of(seed) if gradients else None)
