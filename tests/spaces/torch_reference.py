"""Runs a built network with random weights, for comparison with an independent one in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F

from aznas_onnx.graph.building.builder import fill_weights, weight_shapes

__all__ = ["Weights", "batch_norm", "largest_difference"]

Weights: TypeAlias = "dict[str, torch.Tensor]"


def batch_norm(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    parameters = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    mean, variance, weight, bias = parameters
    return F.batch_norm(x, mean, variance, weight, bias)


def largest_difference(
    model: onnx.ModelProto,
    forward: Callable[[torch.Tensor, Weights], torch.Tensor],
    ids: npt.NDArray[np.int64] | None = None,
) -> float:
    """Return the largest difference between ONNX Runtime and `forward`, over the range of the outputs.

    The input is `ids`, or random where there are none.
    """
    import onnxruntime

    rng = np.random.default_rng(0)
    values = {name: _random(rng, name, shape) for name, shape in weight_shapes(model).items()}
    filled = fill_weights(model, values)
    onnx.checker.check_model(filled, full_check=True)
    (entry,) = model.graph.input
    shape = [dim.dim_value or 2 for dim in entry.type.tensor_type.shape.dim]
    samples = rng.standard_normal(shape).astype(np.float32) if ids is None else ids
    session = onnxruntime.InferenceSession(filled.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {entry.name: samples})
    with torch.no_grad():
        expected = forward(torch.from_numpy(samples), {name: torch.from_numpy(v) for name, v in values.items()}).numpy()
    assert found.shape == expected.shape
    assert np.ptp(expected) > 1e-3  # a network that answers nothing agrees with everything
    return float(np.abs(found - expected).max() / np.ptp(expected))


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a weight that keeps activations of a sensible size, and makes every parameter matter."""
    noise = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + 0.5 * np.abs(noise)
    if name.endswith("running_mean") or name.endswith("bias"):
        return 0.1 * noise
    if len(shape) == 1:
        return 1 + 0.1 * noise
    fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[-2] if len(shape) == 2 else 4
    return noise * np.float32(np.sqrt(1.5 / fan_in))
