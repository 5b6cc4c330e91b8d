"""Proxies of the graph alone: sizes and paths. They need no pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.proxy import Direction, Need, Proxy

__all__ = ["STRUCTURAL"]


@dataclass(frozen=True, slots=True)
class _Field:
    """One number of the structure. A class and no closure: proxies cross process boundaries."""

    name: str

    def __call__(self, evidence: Evidence) -> Outcome:
        if evidence.structure is None:
            return Outcome.inapplicable("the structure of the graph was not measured")
        found = float(getattr(evidence.structure, self.name))
        if math.isinf(found):
            return Outcome(value=found, reason="no path leads from an input to an output")
        return Outcome.of(found)


def _params(evidence: Evidence) -> Outcome:
    return Outcome(value=float(evidence.params))


def _proxy(
    name: str,
    description: str,
    equation: str,
    field: str | None = None,
    direction: Direction = Direction.HIGHER_IS_BETTER,
) -> Proxy:
    return Proxy(
        name=name,
        description=description,
        equation=equation,
        direction=direction,
        needs=Need.GRAPH,
        evaluate=_Field(field or name),
        uses_structure=True,
        origin="this project",
        cost="no pass: one walk over the graph, which all of its kind share",
        fidelity="this project's own",
    )


STRUCTURAL = (
    Proxy(
        name="params",
        description="trainable parameters",
        equation="number of elements of all trainable tensors",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRAPH,
        evaluate=_params,
        origin="AZ-NAS (CVPR 2024), Table 1, a baseline",
        cost="no pass: they are counted anyway",
        fidelity="as published",
    ),
    _proxy("layers", "convolutions, linear and recurrent layers that carry a signal", "number of weighted operators"),
    _proxy("depth", "most layers on any path from input to output", "max over paths of layers"),
    _proxy(
        "shortest_path",
        "fewest layers on any path from input to output: the way that shortcuts leave open",
        "min over paths of layers",
        direction=Direction.LOWER_IS_BETTER,
    ),
    _proxy("mean_path", "layers on a path, on average over all paths", "sum over paths of layers / number of paths"),
    _proxy(
        "paths", "number of distinct paths from input to output, as its logarithm", "ln(number of paths)", "log_paths"
    ),
    _proxy(
        "spatial_depth",
        "most convolutions wider than one position on any path",
        "max over paths of convolutions with a kernel above 1",
    ),
    _proxy(
        "width",
        "geometric mean of the layers' output channels, as its logarithm",
        "mean of ln(channels)",
        "mean_log_width",
    ),
    _proxy(
        "receptive_field",
        "positions of the input that one can see through convolutions and pooling windows",
        "1 + sum of (kernel - 1) * dilation * step, on the path that reaches farthest",
    ),
    _proxy(
        "activations",
        "elements of all tensors that are computed, for one sample",
        "sum of elements",
        "activation_elements",
    ),
    _proxy(
        "live_macs",
        "multiply-adds of operators on a path from input to output",
        "sum of MACs of live operators",
    ),
    _proxy(
        "live_params",
        "trainable parameters of operators on a path from input to output",
        "sum of parameters of live operators",
    ),
    _proxy(
        "live_activations",
        "elements that operators on a path from input to output compute, for one sample",
        "sum of elements of live operators",
        "live_activation_elements",
    ),
    _proxy(
        "spatial_layers",
        "convolutions wider than one position that carry a signal",
        "number of convolutions with a kernel above 1",
    ),
    _proxy(
        "log_widths",
        "product of the layers' output channels, as its logarithm",
        "sum of ln(channels)",
    ),
    _proxy(
        "layer_macs",
        "geometric mean of the layers' multiply-adds, as its logarithm",
        "mean of ln(MACs)",
        "mean_log_macs",
    ),
    _proxy(
        "final_positions",
        "positions of the last feature map",
        "height times width of the output of the last layer that has several",
    ),
    replace(
        _proxy(
            "spectral_capacity",
            "logarithm of the volume that the layers' random weights span",
            "sum over weights of E ln det(I + W^T W), by the law of Marchenko and Pastur",
        ),
        origin="Zhu, Zhao and Lu, Neural Spectral Capacity, 2026",
        fidelity="as published for convolutions and linear layers, where attention is not divided into heads",
    ),
)
"""All are defined for any graph; a proxy that a space does not vary is constant there."""
