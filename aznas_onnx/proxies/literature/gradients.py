"""Proxies of the gradient of a loss with random labels: grad_norm, snip and zico."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import InapplicableError, SeededNetwork, gradients_of, require_gradients
from aznas_onnx.proxies.literature.layer_weights import is_any_parameter

__all__ = ["LossGradients", "measure_sensitivity", "measure_signal_to_noise"]

Tensor = torch.Tensor
_BATCHES = 2  # of the published ZiCo


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossGradients:
    """One backward pass.

    Attributes
    ----------
    layers
        Pairs of a layer's weight and its gradient; weights that the loss does not depend on are left out.
    others
        Gradients of all other parameters.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    others: tuple[Tensor, ...]


def loss_gradients(instance: SeededNetwork, number: int = 0) -> LossGradients:
    """Return the gradients of the loss of batch `number`, computed once for all statistics that need them."""
    return instance.once(("loss gradients", number), lambda: _loss_gradients(instance, number))


def _loss_gradients(instance: SeededNetwork, number: int) -> LossGradients:
    compiled = instance.network.at()
    weights = instance.weights(compiled)
    parameters = require_gradients(compiled, weights, is_any_parameter)
    gradients = gradients_of(instance.loss(compiled, weights, number), parameters)
    plans = [weight for weight in compiled.plan.values() if is_any_parameter(weight)]
    layers: list[tuple[Tensor, Tensor]] = []
    others: list[Tensor] = []
    for plan, parameter, gradient in zip(plans, parameters, gradients, strict=True):
        if gradient is None:
            continue
        if plan.role.is_weight:
            layers.append((parameter.detach(), gradient))
        else:
            others.append(gradient)
    if not layers:
        raise InapplicableError("the loss depends on no convolution or linear layer")
    return LossGradients(layers=tuple(layers), others=tuple(others))


def measure_sensitivity(instance: SeededNetwork) -> StatisticResult:
    """Measure grad_norm and snip."""
    found = loss_gradients(instance)
    norms = [torch.linalg.vector_norm(gradient) for _, gradient in found.layers]
    others = [torch.linalg.vector_norm(gradient) for gradient in found.others]
    saliency = [(weight * gradient).abs().sum() for weight, gradient in found.layers]
    total = torch.linalg.vector_norm(torch.stack([*norms, *others]))
    grad_norm, snip = torch.stack([total, torch.stack(saliency).sum()]).tolist()
    return StatisticResult(values={"grad_norm": grad_norm, "snip": snip})


def measure_signal_to_noise(instance: SeededNetwork) -> StatisticResult:
    """Measure zico: the sum over layers of ln(sum of E|g| / sd(g)) over batches."""
    batches = [loss_gradients(instance, number).layers for number in range(_BATCHES)]
    terms = []
    for layer in zip(*batches, strict=True):
        gradients = torch.stack([gradient for _, gradient in layer])
        spread = gradients.std(dim=0, correction=0)
        ratio = torch.where(spread > 0, gradients.abs().mean(dim=0) / spread, 0.0)
        total = ratio.sum()
        terms.append(torch.where(total > 0, total.log(), 0.0))
    return StatisticResult(values={"zico": torch.stack(terms).sum().item()})
