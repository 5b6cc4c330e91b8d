"""The inputs of a network for one seed."""

from __future__ import annotations

import math

import torch

from aznas_onnx.caches import cached
from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Model
from aznas_onnx.initialise import Stream, generator, neutral_inputs
from aznas_onnx.proxies.engine.natural_images import natural_images
from aznas_onnx.proxies.feed import NATURAL, Feed, is_image

__all__ = ["FeedSource"]

Tensor = torch.Tensor
_Stream = tuple[int, Stream, int, torch.device]
_MOST_CACHED = 2**22  # numbers: a batch of 16 at 224x224, which adds little to the peak of memory


class FeedSource:
    """Samples the inputs of a model at its batch size; those of floats are in `dtype`.

    A user's own samples are those of the primary input; further inputs with samples get noise.
    """

    def __init__(
        self, sized: Model, device: torch.device, dtype: torch.dtype = torch.float32, feed: Feed | None = None
    ) -> None:
        self._feed = feed or Feed()
        self._primary = sized.inputs.primary
        self._batch_size = sized.infos.batch_size
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

    def draw(self, seed: int, number: int = 0, *, ones: bool = False, noise: bool = False) -> dict[str, Tensor]:
        """Sample batch `number` of inputs, or ones; inputs without samples get a neutral value.

        - `noise`: Whether samples are standard normal numbers, whatever the feed.

        Raises ModelError if a user's samples do not suffice for this batch.
        """
        first = number * len(self._shapes)
        drawn = {
            name: self._input(name, shape, (seed, Stream.INPUT, first + index, self._device), ones=ones, noise=noise)
            for index, (name, shape) in enumerate(self._shapes.items())
        }
        if not ones and not noise and self._primary in drawn:
            drawn |= self._given(seed, number)
        return {name: one.to(self._dtype) if one.is_floating_point() else one for name, one in drawn.items()}

    def _given(self, seed: int, number: int) -> dict[str, Tensor]:
        """Return the primary input of a batch of the user's own samples; nothing where there are none."""
        given = self._feed.samples()
        if given is None:
            return {}
        axis = self._batch_axes.get(self._primary)
        size = 1 if axis is None else self._batch_size
        chosen = given.choice(seed, size, number)
        if len(chosen) < size:
            needed = f"{number + 1} batches of {size} are needed"
            raise ModelError(f"{self._feed.path} has {given.count} samples, and {needed}")
        batch = torch.from_numpy(given.values[chosen]).to(self._device)
        return {self._primary: batch[0] if axis is None else _arranged(batch.movedim(0, axis), axis)}

    def _input(self, name: str, shape: tuple[int, ...], stream: _Stream, *, ones: bool, noise: bool) -> Tensor:
        if name in self._values:
            return torch.as_tensor(self._values[name], device=self._device).expand(shape).contiguous()
        is_sample, dtype = name in self._sampled, getattr(torch, self._dtypes[name].name)
        if name in self._indices:
            source = generator(*stream)
            return torch.randint(self._indices[name], shape, generator=source, device=self._device).to(dtype)
        if is_sample and not ones:
            axis = self._batch_axes.get(name)
            is_natural = self._feed.kind == NATURAL and not noise and is_image(_of_one(shape, axis))
            if is_natural:
                return _last_images(shape, axis, stream).detach() if _is_small(shape) else _images(shape, axis, stream)
            of = (shape, axis or 0, stream)
            return _last_gaussian(*of).detach() if _is_small(shape) else _gaussian(*of)
        value = 1.0 if is_sample else self._neutral.get(name, 1.0)
        return torch.full(shape, value, dtype=dtype, device=self._device)


def _is_small(shape: tuple[int, ...]) -> bool:
    return math.prod(shape) <= _MOST_CACHED


def _of_one(shape: tuple[int, ...], batch_axis: int | None) -> tuple[int, ...]:
    return shape if batch_axis is None else (*shape[:batch_axis], *shape[batch_axis + 1 :])


def _images(shape: tuple[int, ...], batch_axis: int | None, stream: _Stream) -> Tensor:
    noise = _gaussian(shape, batch_axis or 0, stream)
    if batch_axis is None:
        return natural_images(noise[None])[0].contiguous()
    return _arranged(natural_images(noise.movedim(batch_axis, 0)).movedim(0, batch_axis), batch_axis)


def _gaussian(shape: tuple[int, ...], batch_axis: int, stream: _Stream) -> Tensor:
    """Sample one after the other, so that a network has equal inputs on every batch axis."""
    source, device = generator(*stream), stream[-1]
    if batch_axis:
        first = (shape[batch_axis], *shape[:batch_axis], *shape[batch_axis + 1 :])
        return torch.randn(first, generator=source, device=device).movedim(0, batch_axis).contiguous()
    return _arranged(torch.randn(shape, generator=source, device=device), batch_axis)


def _arranged(tensor: Tensor, batch_axis: int) -> Tensor:
    """Return a tensor in the memory order that its operators are fastest on.

    In channels-last order a feature map is a matrix of samples and channels without a copy; convolutions preserve the
    order, and are not slower.
    """
    has_channels_first = not batch_axis and tensor.dim() == 4 and tensor.shape[1] < tensor.shape[3]
    return tensor.contiguous(memory_format=torch.channels_last if has_channels_first else torch.contiguous_format)


_last_gaussian = cached(1, "a search scores every candidate on the same input, and sampling takes ten times a copy")(
    _gaussian
)
_last_images = cached(1, "a search scores every candidate on the same images, which take a Fourier transform")(_images)
