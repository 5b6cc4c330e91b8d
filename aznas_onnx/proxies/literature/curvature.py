"""grasp: the effect of the loss's curvature on its gradient."""

from __future__ import annotations

import torch

from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import SeededNetwork, gradients_of, require_gradients
from aznas_onnx.proxies.literature.layer_weights import is_layer_weight

__all__ = ["measure_curvature"]


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
