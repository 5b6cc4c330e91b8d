"""zen: sensitivity of the last feature map to the input, times the normalised scale."""

from __future__ import annotations

import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import CompiledNetwork, InapplicableError, SeededNetwork, StepRecord
from aznas_onnx.proxies.literature.layer_weights import standard_normal

__all__ = ["measure_zen"]

Tensor = torch.Tensor
_MIXED_IN = 1e-2
_MOMENTUM = 0.1  # of PyTorch's BatchNorm2d


class _Variances:
    """Collects what BatchNormalization divides by."""

    def __init__(self) -> None:
        self.means: list[Tensor] = []

    def __call__(self, seen: StepRecord) -> None:
        if seen.node.is_op("BatchNormalization") and seen.inputs[0] is not None:
            entering = seen.inputs[0].transpose(0, 1).flatten(1)
            self.means.append(entering.var(dim=1).mean())


def measure_zen(instance: SeededNetwork) -> StatisticResult:
    """Measure zen: ln E||f(x) - f(x + 0.01 e)||_1 + the sum of ln of the normalisations' mean standard deviations.

    The standard deviations are those of the running statistics after the two passes, as in the published code.
    """
    compiled = instance.network.at()
    last = _last_feature_map(compiled)
    weights = instance.weights(compiled, standard_normal)
    plain = instance.feeds(compiled)
    noise = instance.feeds(compiled, 1, noise=True)
    batched = compiled.model.inputs.batched
    mixed = {
        name: tensor + _MIXED_IN * noise[name] if name in batched and tensor.is_floating_point() else tensor
        for name, tensor in plain.items()
    }
    first, second = _Variances(), _Variances()
    with torch.no_grad():
        output = compiled.run(plain, weights, [last], first)[last]
        moved = compiled.run(mixed, weights, [last], second)[last]
        distance = compiled.samples_first(last, output - moved).abs().flatten(1).sum(dim=1).mean()
        scaling = torch.zeros_like(distance)
        for one, two in zip(first.means, second.means, strict=True):
            running = (1 - _MOMENTUM) * (1 - _MOMENTUM + _MOMENTUM * one) + _MOMENTUM * two
            scaling = scaling + 0.5 * running.log()
        return StatisticResult(values={"zen": (distance.log() + scaling).item()})


def _last_feature_map(compiled: CompiledNetwork) -> str:
    """Return the last tensor on the way to the output that has positions: the input of global pooling."""
    infos = compiled.model.infos
    names = [name for name in compiled.model.graph.outputs if name in infos]
    producers = compiled.model.graph.producers
    seen: set[str] = set()
    while names:
        name = names.pop(0)
        shape = infos[name].shape if name in infos else None
        if shape is not None and len(shape) >= 3 and max(shape[2:]) > 1 and name in producers:
            return name
        if name in producers and name not in seen:
            seen.add(name)
            names += [value for value in producers[name].inputs if value and value not in compiled.plan]
    raise InapplicableError("it needs a feature map with positions, and the network has none")
