"""jacov: similarity of the input gradients of different samples."""

from __future__ import annotations

import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import InapplicableError, SeededNetwork, gradients_of, wide

__all__ = ["measure_jacobian"]

_OFFSET = 1e-5


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
    spectrum = torch.linalg.eigvalsh(correlation).clamp_min(0.0) + _OFFSET
    return StatisticResult(values={"jacov": -(spectrum.log() + 1.0 / spectrum).sum().item()})
