"""Initialise constants by their role with seeded random weights."""

from aznas_onnx.initialise.plan import Distribution, Weight, neutral_inputs, plan_weights
from aznas_onnx.initialise.random_weights import WeightSource, draw
from aznas_onnx.initialise.streams import Stream, generator, rademacher

__all__ = [
    "Distribution",
    "Stream",
    "Weight",
    "WeightSource",
    "draw",
    "generator",
    "neutral_inputs",
    "plan_weights",
    "rademacher",
]
