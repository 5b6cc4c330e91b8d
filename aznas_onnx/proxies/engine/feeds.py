"""The inputs of a network for one seed."""

from __future__ import annotations

import math

import torch

from aznas_onnx.caches import cached
from aznas_onnx.graph import Model
from aznas_onnx.initialise import Stream, generator, neutral_inputs

__all__ = ["FeedSource"]

Tensor = torch.Tensor
_MOST_CACHED = 2**22  # numbers: a batch of 16 at 224x224, which adds little to the peak of memory


class FeedSource:
    """Samples the inputs of a model at its batch size; those of floats are in `dtype`."""

    def __init__(self, sized: Model, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._device = device
        self._dtype = dtype
        self._sampled = sized.inputs.sampled
        self._batch_axes = sized.inputs.batch_axes
        self._shapes = sized.inputs.shapes(sized.infos.batch_size)
        self._dtypes = {name: sized.infos[name].dtype for name in self._shapes}
        leaked = [name for name in self._shapes if name not in self._sampled and name not in self._batch_axes]
        self._values = sized.inputs.values
        self._indices = sized.inputs.indices
        self._neutral = {**sized.inputs.fills, **neutral_inputs(sized.graph, leaked)}

    def draw(self, seed: int, number: int = 0, *, ones: bool = False) -> dict[str, Tensor]:
        """Sample batch `number` of standard normal inputs, or ones; inputs without samples get a neutral value."""
        first = number * len(self._shapes)
        drawn = {
            name: self._feed(name, shape, (seed, Stream.INPUT, first + index, self._device), ones=ones)
            for index, (name, shape) in enumerate(self._shapes.items())
        }
        return {name: one.to(self._dtype) if one.is_floating_point() else one for name, one in drawn.items()}

    def _feed(
        self, name: str, shape: tuple[int, ...], stream: tuple[int, Stream, int, torch.device], *, ones: bool
    ) -> Tensor:
        if name in self._values:
            return torch.as_tensor(self._values[name], device=self._device).expand(shape).contiguous()
        is_sample, dtype = name in self._sampled, getattr(torch, self._dtypes[name].name)
        if name in self._indices:
            source = generator(*stream)
            return torch.randint(self._indices[name], shape, generator=source, device=self._device).to(dtype)
        if is_sample and not ones:
            of = (shape, self._batch_axes.get(name, 0), stream)
            return _last_gaussian(*of).detach() if math.prod(shape) <= _MOST_CACHED else _gaussian(*of)
        value = 1.0 if is_sample else self._neutral.get(name, 1.0)
        return torch.full(shape, value, dtype=dtype, device=self._device)


def _gaussian(shape: tuple[int, ...], batch_axis: int, stream: tuple[int, Stream, int, torch.device]) -> Tensor:
    """Sample one after the other, so that a network has equal inputs on every batch axis."""
    source, device = generator(*stream), stream[-1]
    if batch_axis:
        first = (shape[batch_axis], *shape[:batch_axis], *shape[batch_axis + 1 :])
        return torch.randn(first, generator=source, device=device).movedim(0, batch_axis).contiguous()
    tensor = torch.randn(shape, generator=source, device=device)
    has_channels_first = len(shape) == 4 and shape[1] < shape[3]
    # In channels-last memory order a feature map is a matrix of samples and channels without a copy; convolutions
    # preserve the order, and are not slower.
    return tensor.contiguous(memory_format=torch.channels_last) if has_channels_first else tensor


_last_gaussian = cached(1, "a search scores every candidate on the same input, and sampling takes ten times a copy")(
    _gaussian
)
