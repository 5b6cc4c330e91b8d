"""Proxies of per-sample gradients: te_nas's neural tangent kernel and gradsign."""

from __future__ import annotations

import math

import numpy as np
import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import SeededNetwork, gradients_of, require_gradients, wide
from aznas_onnx.proxies.literature.layer_weights import as_pytorch_makes_them, is_layer_weight, is_weight_or_scale

__all__ = ["measure_agreement", "measure_tangent_kernel"]

Tensor = torch.Tensor
_PUBLISHED_NAN = 1e5  # what the code of Table 1 puts in the place of 0 / 0


def measure_tangent_kernel(instance: SeededNetwork) -> StatisticResult:
    """Measure the condition number of the empirical neural tangent kernel of the summed logits."""
    compiled = instance.network.at()
    weights = instance.weights(compiled, as_pytorch_makes_them)
    parameters = require_gradients(compiled, weights, is_weight_or_scale)
    sums = instance.logits(compiled, weights, instance.feeds(compiled)).sum(dim=1)
    samples = [gradients_of(total, parameters, keep_graph=True) for total in sums]
    kernel = _gram(samples, len(parameters))
    condition = _published_condition(kernel) if instance.network.as_published else _condition(kernel)
    return StatisticResult(values={"condition": condition})


def _condition(kernel: Tensor) -> float:
    """Return the largest eigenvalue over the smallest: infinite where that is not positive, NaN where one is NaN."""
    kernel = wide(kernel).cpu()
    if not bool(kernel.isfinite().all()):
        return math.nan
    spectrum = torch.linalg.eigvalsh(kernel)
    return (spectrum[-1] / spectrum[0]).item() if spectrum[0] > 0 else math.inf


def _published_condition(kernel: Tensor) -> float:
    """Return the ratio of Table 1's code: of float32 eigenvalues as they are, negative ones too, and never missing."""
    kernel = kernel.cpu()
    spectrum = torch.linalg.eigvalsh(kernel) if bool(kernel.isfinite().all()) else kernel.new_full((1,), math.nan)
    return float(np.nan_to_num((spectrum[-1] / spectrum[0]).item(), nan=_PUBLISHED_NAN))


def _gram(samples: list[list[Tensor | None]], layers: int) -> Tensor:
    """Return the inner products of the samples' gradients, (samples, samples), added up layer by layer.

    The gradients are consumed: only one layer's are copied at a time.
    """
    total: Tensor | None = None
    for _ in range(layers):
        rows = [gradient.flatten() for gradient in (one.pop() for one in samples) if gradient is not None]
        if rows:  # a weight that the output does not depend on has a gradient for no sample
            layer = torch.stack(rows)
            product = torch.mm(layer, layer.t())
            total = product if total is None else total.add_(product)
    assert total is not None  # gradients_of refuses an output that depends on no weight
    return total


def measure_agreement(instance: SeededNetwork) -> StatisticResult:
    """Measure gradsign: how far the samples' own gradients agree in sign, sum over weights of ``|sum of signs|``.

    Each sample runs alone, normalised by its own statistics, as published.
    """
    samples = instance.network.at()
    compiled = instance.network.at(1)
    weights = instance.weights(compiled, as_pytorch_makes_them)
    layers = require_gradients(compiled, weights, is_layer_weight)
    feeds = instance.feeds(samples)
    count = samples.model.infos.batch_size
    axes = samples.model.inputs.batch_axes
    labels: Tensor | None = None
    totals = [torch.zeros_like(layer) for layer in layers]
    for index in range(count):
        one = {name: tensor.narrow(axes[name], index, 1) if name in axes else tensor for name, tensor in feeds.items()}
        logits = instance.logits(compiled, weights, one)
        if labels is None:
            labels = instance.labels(logits.shape[1], count)
        loss = torch.nn.functional.cross_entropy(logits, labels[index : index + 1])
        gradients = gradients_of(loss, layers)
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total += gradient.sign()
    agreement = torch.stack([wide(total.abs()).sum() for total in totals]).sum()
    return StatisticResult(values={"gradsign": agreement.item()})
