"""Random weights by role: what each constant is drawn from, and the draw itself. Imports torch."""

from aznas_onnx.initialise.draw import WeightSource, draw
from aznas_onnx.initialise.plan import Law, Weight, neutral_inputs, plan_weights
from aznas_onnx.initialise.sized import sized_and_planned
from aznas_onnx.initialise.streams import Stream, generator, rademacher

__all__ = [
    "Law",
    "Stream",
    "Weight",
    "WeightSource",
    "draw",
    "generator",
    "neutral_inputs",
    "plan_weights",
    "rademacher",
    "sized_and_planned",
]
