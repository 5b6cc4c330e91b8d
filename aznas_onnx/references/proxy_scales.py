"""The spread of each proxy between the networks of one space."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aznas_onnx.proxies import PROXIES, Direction

__all__ = ["PROXY_SCALES", "ProxyScale", "scale_for"]


@dataclass(frozen=True, slots=True)
class ProxyScale:
    """How a proxy varies between networks of one space: a standard deviation, on the scale where it is even."""

    scale: Callable[[float], float]
    deviation: float

    def between(self, value: float, other: float) -> float:
        """Return how far a value lies above another, in standard deviations."""
        return (self.scale(value) - self.scale(other)) / self.deviation


def _log(value: float) -> float:
    return math.log(max(value, 1e-9))


def _below_best(value: float) -> float:
    """Return trainability, which is 0 at best and has a long tail below, on a logarithmic scale."""
    return -math.log1p(max(-value, 0.0))


# The first four: output of benchmarks/gate_spreads.py for the bundled convolutional reference sets, rounded: 0.17 to
# 0.23 for expressivity, 0.19 to 0.56 for progressivity, 0.07 to 0.22 for trainability. Multiply-adds spread by 1.07
# over all of NAS-Bench-201, and by 0.14 in the windows of the mbv2 reference sets, which cut them off; half of the
# former is taken. The others: the distance between the quartiles over 1.349 on cells of NAS-Bench-201, from the
# scores that docs/proxies.md is made of, rounded. Widths, blocks and ceilings do not vary there, and regions hardly:
# half of the deviation of macs. Live counts have that of all; a halved side of the last map is two deviations.
PROXY_SCALES: Mapping[str, ProxyScale] = MappingProxyType(
    {
        "expressivity": ProxyScale(_log, 0.2),
        "progressivity": ProxyScale(float, 0.4),
        "trainability": ProxyScale(_below_best, 0.15),
        "macs": ProxyScale(_log, 0.5),
        "bottleneck": ProxyScale(_log, 0.2),
        "final_expressivity": ProxyScale(_log, 0.3),
        "flatness": ProxyScale(float, 0.5),
        "effective_rank": ProxyScale(float, 0.6),
        "expressivity_ceiling": ProxyScale(_log, 0.25),
        "block_count": ProxyScale(_log, 0.25),
        "gain": ProxyScale(float, 0.7),
        "params": ProxyScale(_log, 0.5),
        "layers": ProxyScale(_log, 0.25),
        "depth": ProxyScale(_log, 0.4),
        "shortest_path": ProxyScale(_log, 1.2),
        "mean_path": ProxyScale(_log, 0.5),
        "paths": ProxyScale(float, 4.5),
        "spatial_depth": ProxyScale(_log, 1.0),
        "width": ProxyScale(float, 0.25),
        "receptive_field": ProxyScale(_log, 0.4),
        "activations": ProxyScale(_log, 0.25),
        "live_macs": ProxyScale(_log, 0.5),
        "live_params": ProxyScale(_log, 0.5),
        "live_activations": ProxyScale(_log, 0.35),
        "spatial_layers": ProxyScale(_log, 1.4),
        "log_widths": ProxyScale(_log, 0.6),
        "layer_macs": ProxyScale(float, 1.1),
        "final_positions": ProxyScale(_log, 0.7),
        "spectral_capacity": ProxyScale(_log, 0.45),
        "idle_blocks": ProxyScale(float, 1.0),
        "grad_norm": ProxyScale(_log, 1.3),
        "snip": ProxyScale(_log, 1.5),
        "grasp": ProxyScale(math.asinh, 2.0),
        "synflow": ProxyScale(_log, 23.0),
        "naswot": ProxyScale(_log, 0.05),
        "te_nas_ntk": ProxyScale(_log, 0.9),
        "te_nas_regions": ProxyScale(_log, 0.25),
        "zen": ProxyScale(_log, 0.6),
        "gradsign": ProxyScale(_log, 0.8),
        "zico": ProxyScale(_log, 0.6),
        "jacov": ProxyScale(float, 2.4),
        "vkdnw": ProxyScale(_log, 0.25),
        "vkdnw_entropy": ProxyScale(float, 0.2),
        "swap": ProxyScale(_log, 0.25),
        "meco": ProxyScale(_log, 1.2),
        "near": ProxyScale(_log, 0.7),
    }
)
"""Deviation of each built-in proxy; the user gives that of a user proxy."""


def scale_for(proxy: str, given: Mapping[str, float]) -> ProxyScale:
    """Return the spread of a proxy, upwards where higher is better.

    - `proxy`: Its name; it must be in `given` or in :data:`PROXY_SCALES`.
    - `given`: Deviations by name, of values as they are; they come first.
    """
    spread = ProxyScale(float, given[proxy]) if proxy in given else PROXY_SCALES[proxy]
    if PROXIES[proxy].direction is Direction.LOWER_IS_BETTER:
        return ProxyScale(spread.scale, -spread.deviation)
    return spread
