"""Sample constants as torch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from aznas_onnx.initialise.plan import TRUNCATED_AT, Distribution, Weight
from aznas_onnx.initialise.streams import Stream, generator

__all__ = ["WeightSource", "draw"]

_UNREACHED = 10.0  # deviations: no normal number in float32 is further out, and sampling without a cut is much faster


class WeightSource:
    """The weights of one network for one seed, sampled on request.

    A second request for a name samples equal numbers, so nothing is stored.

    - `plan`: From :func:`~aznas_onnx.initialise.plan_weights`.
    - `seed`: Together with a weight's place in the graph it determines the weight.
    - `device`, `dtype`: Of the tensors; their numbers are sampled in float32.
    """

    def __init__(
        self, plan: Mapping[str, Weight], seed: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._device = device
        self._dtype = dtype

    def __contains__(self, name: object) -> bool:
        return name in self._plan

    def draw(self, name: str) -> torch.Tensor:
        """Return a fresh tensor for a constant of the plan."""
        weight = self._plan[name]
        if not weight.is_shared_by_samples:
            return self._draw(weight, weight.shape).to(self._dtype)
        return self._draw(weight, (1, *weight.shape[1:])).to(self._dtype).expand(weight.shape)

    def _draw(self, weight: Weight, shape: tuple[int, ...]) -> torch.Tensor:
        if weight.distribution is Distribution.CONSTANT:
            return torch.full(shape, weight.parameter, device=self._device)
        source = generator(self._seed, Stream.WEIGHT, weight.index, self._device)
        tensor = torch.empty(shape, device=self._device)
        if weight.distribution is Distribution.NORMAL or (
            weight.distribution is Distribution.TRUNCATED_NORMAL and weight.parameter * _UNREACHED <= TRUNCATED_AT
        ):
            return tensor.normal_(0.0, weight.parameter, generator=source)
        if weight.distribution is Distribution.UNIFORM:
            return tensor.uniform_(-weight.parameter, weight.parameter, generator=source)
        return torch.nn.init.trunc_normal_(
            tensor, std=weight.parameter, a=-TRUNCATED_AT, b=TRUNCATED_AT, generator=source
        )  # in place, which needs no torch.no_grad(): it wants no derivative yet


def draw(
    plan: Mapping[str, Weight], *, seed: int, device: torch.device, names: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """Sample all weights of a plan, or the named ones.

    Returns: float32 tensors on `device`.
    """
    source = WeightSource(plan, seed, device)
    return {name: source.draw(name) for name in (plan if names is None else names)}
