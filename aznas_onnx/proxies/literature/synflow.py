"""synflow: the sum over all paths of positive weights."""

from __future__ import annotations

import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import SeededNetwork, gradients_of, require_gradients
from aznas_onnx.proxies.literature.layer_weights import is_layer_weight

__all__ = ["measure_synaptic_flow"]


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
