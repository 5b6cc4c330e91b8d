"""Statistics of gradients: grad_norm, snip and zico of a loss with random labels; grasp, synflow and jacov."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aznas_onnx.initialise import Weight
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import (
    InapplicableError,
    SeededNetwork,
    gradients_of,
    require_gradients,
    wide,
)
from aznas_onnx.proxies.literature.layer_weights import as_pytorch_makes_them, is_any_parameter, is_layer_weight

__all__ = [
    "measure_curvature",
    "measure_jacobian",
    "measure_sensitivity",
    "measure_signal_to_noise",
    "measure_synaptic_flow",
]

Tensor = torch.Tensor
_CORRELATION_OFFSET = 1e-5  # of the published jacov
_BATCHES = 2  # of the published ZiCo


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LossGradients:
    """One backward pass: pairs of a layer's weight, where the loss depends on it, and its gradient, and the others."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    others: tuple[Tensor, ...]


def loss_gradients(
    instance: SeededNetwork, number: int = 0, distribution: Callable[[Weight], Weight] | None = None
) -> _LossGradients:
    """Return the gradients of the loss of batch `number`, computed once for all statistics that need them.

    - `distribution`: As in :meth:`SeededNetwork.weights`.
    """
    key = ("loss gradients", number, distribution)
    return instance.once(key, lambda: _loss_gradients(instance, number, distribution))


def _loss_gradients(
    instance: SeededNetwork, number: int, distribution: Callable[[Weight], Weight] | None
) -> _LossGradients:
    compiled = instance.network.at()
    weights = instance.weights(compiled, distribution)
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
    return _LossGradients(layers=tuple(layers), others=tuple(others))


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
    """Measure zico: the sum over layers of ln(sum of E|g| / sd(g)) over batches.

    The code of Table 1 leaves the weights as PyTorch makes them, where other gradients there are of Kaiming's.
    """
    distribution = as_pytorch_makes_them if instance.network.as_published else None
    batches = [loss_gradients(instance, number, distribution).layers for number in range(_BATCHES)]
    terms = []
    for layer in zip(*batches, strict=True):
        gradients = torch.stack([gradient for _, gradient in layer])
        spread = gradients.std(dim=0, correction=0)
        ratio = torch.where(spread > 0, gradients.abs().mean(dim=0) / spread, 0.0)
        total = ratio.sum()
        terms.append(torch.where(total > 0, total.log(), 0.0))
    return StatisticResult(values={"zico": torch.stack(terms).sum().item()})


def measure_curvature(instance: SeededNetwork) -> StatisticResult:
    """Measure grasp: minus the sum of w * (H g), the Hessian-gradient product by a second backward pass."""
    compiled = instance.network.at()
    weights = instance.weights(compiled)
    layers = require_gradients(compiled, weights, is_layer_weight)
    gradients = gradients_of(instance.loss(compiled, weights), layers, differentiable=True)
    squares = [(gradient.detach() * gradient).sum() for gradient in gradients if gradient is not None]
    products = gradients_of(torch.stack(squares).sum(), layers)
    terms = [
        -(layer.detach() * product).sum()
        for layer, product in zip(layers, products, strict=True)
        if product is not None
    ]
    return StatisticResult(values={"grasp": torch.stack(terms).sum().item()})


def measure_synaptic_flow(instance: SeededNetwork) -> StatisticResult:
    """Measure synflow: the sum of w * dR/dw, R the sum of outputs for an input of ones and weights made positive.

    In double precision, because without normalisation the flow of a deep network leaves the range of single.
    """
    compiled = instance.network.at(1, dtype=torch.float64, use_batch_statistics=False)
    weights = {name: weight.abs() for name, weight in instance.weights(compiled).items()}
    layers = require_gradients(compiled, weights, is_layer_weight)
    output = instance.logits(compiled, weights, instance.feeds(compiled, ones=True))
    gradients = gradients_of(output.sum(), layers)
    terms = [
        (layer.detach() * gradient).abs().sum()
        for layer, gradient in zip(layers, gradients, strict=True)
        if gradient is not None
    ]
    return StatisticResult(values={"synflow": torch.stack(terms).sum().item()})


def measure_jacobian(instance: SeededNetwork) -> StatisticResult:
    """Measure jacov: minus the sum of ln(v + k) + 1 / (v + k) over the eigenvalues of the samples' correlations."""
    compiled = instance.network.at()
    if compiled.model.infos.batch_size < 2:
        raise InapplicableError("it compares samples, and the batch has one")
    feeds = instance.feeds(compiled)
    samples = feeds[compiled.model.inputs.primary].requires_grad_()
    logits = instance.logits(compiled, instance.weights(compiled), feeds)
    gradient = gradients_of(logits.sum(), [samples])[0]
    if gradient is None:
        raise InapplicableError("the output does not depend on the input")
    gradient = compiled.samples_first(compiled.model.inputs.primary, gradient)
    correlation = torch.corrcoef(wide(gradient.flatten(1)).cpu())
    if not bool(correlation.isfinite().all()):
        return StatisticResult(values={"jacov": float("nan")})
    spectrum = torch.linalg.eigvalsh(correlation).clamp_min(0.0) + _CORRELATION_OFFSET
    return StatisticResult(values={"jacov": -(spectrum.log() + 1.0 / spectrum).sum().item()})
