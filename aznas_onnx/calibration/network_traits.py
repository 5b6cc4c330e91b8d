"""What an estimate is made from: counts, proxies and the design of a network, as numbers of a similar size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aznas_onnx.errors import SettingsError
from aznas_onnx.results import ProxyScores

__all__ = ["DESIGN_TRAITS", "NEEDED", "NETWORK_TRAITS", "TRAIT_SCALES", "traits_of"]

_SIZES = ("macs", "activations")
_STRUCTURE = (
    *("depth", "layers", "mean_path", "spatial_layers", "block_count", "final_positions", "log_widths"),
    *("width", "layer_macs"),
)
_PROXIES = (
    *("expressivity", "expressivity_ceiling", "spectral_capacity"),
    *("flatness", "effective_rank", "final_expressivity", "bottleneck", "trainability"),
)
_AS_THEY_ARE = (
    *("width", "layer_macs", "flatness", "effective_rank", "final_expressivity", "bottleneck", "trainability"),
)
DESIGN_TRAITS = (
    *("depthwise_share", "grouped_share", "pointwise_share", "spatial_share", "large_kernel_share", "product_share"),
    *("mean_kernel", "depthwise_kernel", "relu_share", "swish_share", "hardswish_share", "gelu_share", "gates"),
    *("normalisations", "layer_norm_share", "softmaxes", "concatenations", "stem_stride"),
)
"""The traits that tell the kinds of layers, and not how large the network is."""
_LOWEST = -3.0  # of a proxy that is not defined, or far off

NEEDED = (*(name for name in (*_SIZES, *_STRUCTURE, *_PROXIES) if name != "macs"), "shortest_path")
"""Proxies that an estimate needs beside MACs; all from the pass of AZ-NAS and the graph."""

_SCALES = (
    ((*_SIZES, "body_params", "input_positions"), 2.8),
    ((*_STRUCTURE, "bypassed"), 0.35),
    (_PROXIES, 0.5),
    (DESIGN_TRAITS, 1.0),
)
NETWORK_TRAITS = tuple(name for names, _ in _SCALES for name in names)
"""The traits, in their order."""
TRAIT_SCALES = tuple(scale for names, scale in _SCALES for _ in names)
"""How much a standard deviation of each trait counts; chosen for `imagenet`, families left out."""


def traits_of(scores: ProxyScores) -> Mapping[str, float]:
    """Return the traits of a scored network by name, in their order.

    ``body_params`` are the parameters without the last linear layer, whose size follows from the number of classes;
    ``bypassed`` is how many times longer the longest path is than the shortest. Counts and sums are natural logarithms
    of one more.

    Raises SettingsError if it was scored without a proxy of :data:`NEEDED`.
    """
    values = {name: one.mean for name, one in scores.proxies.items()}
    values["macs"] = None if scores.macs is None else float(scores.macs)
    lacking = [name for name in NEEDED if name not in values]
    if lacking or not scores.design or scores.params is None:
        without = ", ".join(lacking) or "its design"
        raise SettingsError(f"{scores.model} was scored without {without}, which an estimate needs")
    logarithms = {name: math.log1p(max(0.0, one or 0.0)) for name, one in values.items()}
    found = {
        **{name: logarithms[name] for name in (*_SIZES, *_STRUCTURE, *_PROXIES)},
        "body_params": math.log1p(scores.params * (1 - scores.design["classifier_share"])),
        "input_positions": scores.design["input_positions"],
        "bypassed": logarithms["depth"] - logarithms["shortest_path"],
        **{name: _bounded(values[name]) for name in _AS_THEY_ARE},
        **{name: scores.design[name] for name in DESIGN_TRAITS},
    }
    return {name: found[name] for name in NETWORK_TRAITS}


def _bounded(value: float | None) -> float:
    return _LOWEST if value is None else max(_LOWEST, value)
