"""The weights that a published method measures, and their initialisation."""

from __future__ import annotations

from dataclasses import replace

from aznas_onnx.graph.meaning.constant_roles import ConstantRole
from aznas_onnx.initialise.plan import Distribution, Weight

__all__ = [
    "as_pytorch_makes_them",
    "is_any_parameter",
    "is_layer_weight",
    "is_weight_or_scale",
    "standard_normal",
]


def is_layer_weight(weight: Weight) -> bool:
    """Whether a constant is the weight of a convolution or of a linear or recurrent layer."""
    return weight.role.is_weight


def is_any_parameter(weight: Weight) -> bool:
    """Whether an optimiser would update a constant."""
    return weight.role.is_trainable


def is_weight_or_scale(weight: Weight) -> bool:
    """Whether PyTorch would call a parameter ``weight``: layers', and the scales of normalisation."""
    return weight.role.is_weight or weight.role is ConstantRole.NORM_SCALE


def as_pytorch_makes_them(weight: Weight) -> Weight:
    """Sample a convolution's or linear layer's weight as torch.nn does: uniform, up to 1 / sqrt(fan-in).

    Published code without its own initialisation measures these weights. Transformers, and all other constants, keep
    the project's initialisation.
    """
    if is_layer_weight(weight) and weight.distribution is Distribution.NORMAL:
        return replace(weight, distribution=Distribution.UNIFORM, parameter=weight.parameter / 2.0**0.5)
    return weight


def standard_normal(weight: Weight) -> Weight:
    """Sample a convolution's or linear layer's weight from the standard normal distribution."""
    return replace(weight, distribution=Distribution.NORMAL, parameter=1.0) if is_layer_weight(weight) else weight
