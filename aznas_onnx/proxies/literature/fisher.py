"""vkdnw: how evenly the Fisher information of the weights is spread."""

from __future__ import annotations

import torch

from aznas_onnx.graph.meaning.constant_roles import ConstantRole
from aznas_onnx.initialise import Stream, generator
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import (
    CompiledNetwork,
    InapplicableError,
    SeededNetwork,
    StepRecord,
    Weights,
    gradients_of,
    wide,
)

__all__ = ["measure_fisher"]

Tensor = torch.Tensor
_ROLES = (
    ConstantRole.CONV_WEIGHT,
    ConstantRole.LINEAR_WEIGHT,
    ConstantRole.BIAS,
    ConstantRole.NORM_SCALE,
    ConstantRole.NORM_SHIFT,
)
_SMOOTHING = 0.05  # of the published code: without it, a confident network has no information
_MOST_DIRECTIONS = 64  # backward passes; more classes than this are sampled
_OFFSET = 1e-10


class _Moves:
    """Shifts each parameter tensor's first element separately for each sample, as the `watch` of a run.

    The change of a layer's output per unit of the element equals the layer's output for a parameter that is 1 there and
    0 elsewhere; so one backward pass to the shifts gives the derivatives of all samples.
    """

    def __init__(self, compiled: CompiledNetwork, weights: Weights) -> None:
        self._compiled = compiled
        self._weights = weights
        self.shifts: dict[str, Tensor] = {}

    def __call__(self, seen: StepRecord) -> Tensor | None:
        plan, samples = self._compiled.plan, self._compiled.model.infos.batch_size
        names = dict.fromkeys(name for name in seen.node.inputs if name in plan and plan[name].role in _ROLES)
        output = seen.output
        for name in names:
            axis = self._compiled.batch_axis(seen.node.outputs[0])
            if name in self.shifts or output.shape[axis : axis + 1] != (samples,):
                continue
            with torch.no_grad():
                gain = self._made_of(seen, name, 1.0) - self._made_of(seen, name, 0.0)
            shift = torch.zeros(samples, device=output.device, dtype=output.dtype, requires_grad=True)
            self.shifts[name] = shift
            output = output + shift.view(*(-1 if place == axis else 1 for place in range(output.dim()))) * gain
        return output if names else None

    def _made_of(self, seen: StepRecord, name: str, value: float) -> Tensor:
        """Return the layer's output for a parameter that is 1 in its first element and 0 elsewhere."""
        element = torch.zeros_like(self._weights[name])
        element.view(-1)[0] = value
        inputs = [element if of == name else tensor for of, tensor in zip(seen.node.inputs, seen.inputs, strict=False)]
        result = seen.run(*inputs)
        return result if isinstance(result, Tensor) else result[0]


def measure_fisher(instance: SeededNetwork) -> StatisticResult:
    """Measure vkdnw: the entropy of the deciles of the Fisher information's spectrum, and the number of layers.

    The information is that of one element of each parameter tensor about the classes. There is no normalisation by
    batch statistics, so samples are independent.
    """
    compiled = instance.network.at(use_batch_statistics=False)
    weights = instance.weights(compiled)
    moves = _Moves(compiled, weights)
    name = compiled.logits
    logits = compiled.run(instance.feeds(compiled), weights, [name], moves)[name].flatten(1)
    shifts = list(moves.shifts.values())
    if not shifts:
        raise InapplicableError("it needs a convolution or a linear layer, and the network has none")
    none = torch.zeros_like(shifts[0])
    total = wide(torch.zeros(len(shifts), len(shifts), device=logits.device))
    for direction in _directions(logits, instance):
        gradients = gradients_of(logits, shifts, direction, keep_graph=True)
        rows = wide(torch.stack([none if gradient is None else gradient for gradient in gradients], dim=1))
        total += torch.mm(rows.t(), rows) / len(logits)
    if not bool(total.isfinite().all()):
        return StatisticResult(values={"entropy": float("nan"), "layers_and_entropy": float("nan")})
    spectrum = torch.linalg.eigvalsh(total.cpu()).clamp_min(0.0)
    deciles = torch.quantile(spectrum, torch.arange(1, 10, dtype=torch.float64, device=spectrum.device) / 10)
    shares = deciles / (deciles.sum() + _OFFSET)
    entropy = -(shares * (shares + _OFFSET).log()).sum().item()
    layers = sum(weight.role.is_weight for weight in compiled.plan.values())
    return StatisticResult(values={"entropy": entropy, "layers_and_entropy": layers + entropy})


def _directions(logits: Tensor, instance: SeededNetwork) -> list[Tensor]:
    """Return output gradients whose outer products sum to the covariance of the classes, diag(p) - p p^T."""
    classes = logits.shape[1]
    chance = logits.detach().softmax(dim=1) * (1 - _SMOOTHING) + _SMOOTHING / classes
    if classes <= _MOST_DIRECTIONS:
        chosen = torch.eye(classes, device=logits.device, dtype=logits.dtype)
    else:
        source = generator(instance.seed, Stream.DIRECTION, 0, logits.device)
        chosen = torch.randn(_MOST_DIRECTIONS, classes, generator=source, device=logits.device)
        chosen = chosen / _MOST_DIRECTIONS**0.5
    root = chance.sqrt()
    return [root * row - chance * torch.mv(root, row)[:, None] for row in chosen]
