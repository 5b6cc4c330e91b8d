"""The spectra of per-sample gradients: te_nas's neural tangent kernel and gradsign's agreements. Imports torch."""

from __future__ import annotations

import math

import torch

from aznas_onnx.proxies.evidence import Measured
from aznas_onnx.proxies.network import (
    Instance,
    as_pytorch_makes_them,
    gradients_of,
    is_layer_weight,
    is_weight_or_scale,
    require_gradients,
    wide,
)

__all__ = ["measure_agreement", "measure_tangent_kernel"]

Tensor = torch.Tensor


def measure_tangent_kernel(instance: Instance) -> Measured:
    """Measure the condition number of the empirical neural tangent kernel of the summed logits."""
    compiled = instance.network.at()
    weights = instance.weights(compiled, as_pytorch_makes_them)
    parameters = require_gradients(compiled, weights, is_weight_or_scale)
    sums = instance.logits(compiled, weights, instance.feeds(compiled)).sum(dim=1)
    rows = []
    for index in range(len(sums)):
        gradients = gradients_of(sums[index], parameters, keep_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
    jacobian = torch.stack(rows)
    kernel = wide(torch.mm(jacobian, jacobian.t())).cpu()
    if not bool(kernel.isfinite().all()):
        return Measured(values={"condition": math.nan})
    spectrum = torch.linalg.eigvalsh(kernel)
    condition = (spectrum[-1] / spectrum[0]).item() if spectrum[0] > 0 else math.inf
    return Measured(values={"condition": condition})


def measure_agreement(instance: Instance) -> Measured:
    """Measure gradsign: how far the samples' own gradients agree in sign, sum over weights of ``|sum of signs|``.

    Each sample runs alone, normalised by its own statistics, as published.
    """
    samples = instance.network.at()
    compiled = instance.network.at(1)
    weights = instance.weights(compiled, as_pytorch_makes_them)
    layers = require_gradients(compiled, weights, is_layer_weight)
    feeds = instance.feeds(samples)
    count = samples.model.facts.batch_size
    batched = samples.model.inputs.batched
    labels: Tensor | None = None
    totals = [torch.zeros_like(layer) for layer in layers]
    for index in range(count):
        one = {name: tensor[index : index + 1] if name in batched else tensor for name, tensor in feeds.items()}
        logits = instance.logits(compiled, weights, one)
        if labels is None:
            labels = instance.labels(logits.shape[1], count)
        loss = torch.nn.functional.cross_entropy(logits, labels[index : index + 1])
        gradients = gradients_of(loss, layers)
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total += gradient.sign()
    agreement = torch.stack([wide(total.abs()).sum() for total in totals]).sum()
    return Measured(values={"gradsign": agreement.item()})
