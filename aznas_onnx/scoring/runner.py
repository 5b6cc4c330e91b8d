"""A model compiled for one batch size and device, to be measured under any number of seeds."""

from __future__ import annotations

import torch

from aznas_onnx.blocks import Blocks
from aznas_onnx.convert import compile_program
from aznas_onnx.graph import Limits, Model, specialise
from aznas_onnx.initialise import Stream, WeightSource, generator, neutral_inputs, plan_weights
from aznas_onnx.proxies import BlockEvidence
from aznas_onnx.proxies.blockpass import BlockPass, signs_of
from aznas_onnx.timing import Clock

__all__ = ["Runner"]

Tensor = torch.Tensor


class Runner:
    """Everything about a model that does not depend on the seed.

    Parameters
    ----------
    model
        As it was read, at any batch size.
    blocks
        The primary blocks.
    batch_size, device
        What to run with.
    limits
        What the model may ask for at that batch size.
    debias
        Whether to take the noise of few samples out of spectral norms; False is as published.
    clock
        Told of the phases of the pass.

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
        clock: Clock | None = None,
    ) -> None:
        sized = specialise(model, batch_size, limits or Limits())
        self._device = device
        self._inputs = sized.inputs
        self._shapes = sized.inputs.shapes(batch_size)
        self._dtypes = {name: sized.facts[name].dtype for name in self._shapes}
        leaked = [name for name in self._shapes if name not in sized.inputs.batched]
        self._neutral = neutral_inputs(sized.graph, leaked)
        self._weights = plan_weights(sized.graph, sized.facts, is_transformer=blocks.is_transformer)
        # BatchNormalization always uses the statistics of the batch. The published code runs transformers in eval
        # mode, which for them switches off dropout only; those that do have BatchNormalization would otherwise not
        # normalise at all, because there are no running statistics to use.
        program = compile_program(
            sized.graph,
            sized.facts,
            {name: torch.empty(weight.shape, device="meta") for name, weight in self._weights.items()},
            device=device,
            training=True,
            also={block.output for block in blocks.blocks},
        )
        self._pass = BlockPass(program, blocks.blocks, drawn=self._weights, debias=debias, clock=clock)

    def measure(self, seed: int, *, gradients: bool) -> tuple[BlockEvidence, ...]:
        """Draw weights, input and, where `gradients` are asked for, output gradients; run the pass."""
        return self._pass.measure(
            self._feeds(seed), WeightSource(self._weights, seed, self._device), signs_of(seed) if gradients else None
        )

    def _feeds(self, seed: int) -> dict[str, Tensor]:
        feeds = {}
        for index, (name, shape) in enumerate(self._shapes.items()):
            is_sample = name in self._inputs.batched and self._dtypes[name].kind == "f"
            if is_sample:
                feeds[name] = self._gaussian(shape, generator(seed, Stream.INPUT, index, self._device))
            else:
                dtype = getattr(torch, self._dtypes[name].name)
                feeds[name] = torch.full(shape, self._neutral.get(name, 1.0), dtype=dtype, device=self._device)
        return feeds

    def _gaussian(self, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        tensor = torch.randn(shape, generator=source, device=self._device)
        has_channels_first = len(shape) == 4 and shape[1] < shape[3]
        # Channels last makes a feature map a matrix of samples and channels as it lies in memory; convolutions keep
        # the order, and are no slower for it.
        return tensor.contiguous(memory_format=torch.channels_last) if has_channels_first else tensor
