"""Estimates from networks that somebody has measured: the bundled ``imagenet``, or a user's own."""

from aznas_onnx.calibration.calibration import BUNDLED_CALIBRATIONS, Calibration, MeasuredNetwork, find_calibration
from aznas_onnx.calibration.estimate import (
    EstimatedGap,
    ValueEstimate,
    compare,
    design_distance,
    estimate,
    has_same_parts,
    outside,
)
from aznas_onnx.calibration.network_traits import NEEDED, NETWORK_TRAITS, traits_of
from aznas_onnx.calibration.regression import Covariance, Prediction, Regression

__all__ = [
    "BUNDLED_CALIBRATIONS",
    "Calibration",
    "EstimatedGap",
    "Covariance",
    "ValueEstimate",
    "MeasuredNetwork",
    "NEEDED",
    "NETWORK_TRAITS",
    "Prediction",
    "Regression",
    "compare",
    "design_distance",
    "estimate",
    "find_calibration",
    "has_same_parts",
    "outside",
    "traits_of",
]
