"""How proxies vary between the networks of one space: which differences are large. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aznas_onnx.proxies import PROXIES, Direction

__all__ = ["SPREADS", "Spread", "spread_of"]


@dataclass(frozen=True, slots=True)
class Spread:
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


# The first four: what benchmarks/gate_spreads.py prints for the bundled convolutional populations, rounded: 0.17 to
# 0.23 for expressivity, 0.19 to 0.56 for progressivity, 0.07 to 0.22 for trainability. Multiply-adds spread by 1.07
# over all of NAS-Bench-201, and by 0.14 in the windows of the mbv2 populations, which cut them off; half of the
# former is taken. The others: the distance between the quartiles over 1.349 on cells of NAS-Bench-201, from the
# scores that docs/proxies.md is made of, rounded. Widths do not vary there, and regions hardly: half of the deviation
# of macs.
SPREADS: Mapping[str, Spread] = MappingProxyType(
    {
        "expressivity": Spread(_log, 0.2),
        "progressivity": Spread(float, 0.4),
        "trainability": Spread(_below_best, 0.15),
        "macs": Spread(_log, 0.5),
        "bottleneck": Spread(_log, 0.2),
        "final_expressivity": Spread(_log, 0.3),
        "gain": Spread(float, 0.7),
        "params": Spread(_log, 0.5),
        "layers": Spread(_log, 0.25),
        "depth": Spread(_log, 0.4),
        "shortest_path": Spread(_log, 1.2),
        "mean_path": Spread(_log, 0.5),
        "paths": Spread(float, 4.5),
        "spatial_depth": Spread(_log, 1.0),
        "width": Spread(float, 0.25),
        "receptive_field": Spread(_log, 0.4),
        "activations": Spread(_log, 0.25),
        "idle_blocks": Spread(float, 1.0),
        "grad_norm": Spread(_log, 1.3),
        "snip": Spread(_log, 1.5),
        "grasp": Spread(math.asinh, 2.0),
        "synflow": Spread(_log, 23.0),
        "naswot": Spread(_log, 0.05),
        "te_nas_ntk": Spread(_log, 0.9),
        "te_nas_regions": Spread(_log, 0.25),
        "zen": Spread(_log, 0.6),
        "gradsign": Spread(_log, 0.8),
        "zico": Spread(_log, 0.6),
        "jacov": Spread(float, 2.4),
        "vkdnw": Spread(_log, 0.25),
        "vkdnw_entropy": Spread(float, 0.2),
        "swap": Spread(_log, 0.25),
        "meco": Spread(_log, 1.2),
        "near": Spread(_log, 0.7),
    }
)
"""Of each built-in proxy; one of a user's own needs a deviation from its user."""


def spread_of(proxy: str, given: Mapping[str, float]) -> Spread:
    """Return the spread of a proxy, upwards where higher is better.

    Parameters
    ----------
    proxy
        Its name; it must be in `given` or in :data:`SPREADS`.
    given
        Deviations by name, of values as they are; they come first.
    """
    spread = Spread(float, given[proxy]) if proxy in given else SPREADS[proxy]
    if PROXIES[proxy].direction is Direction.LOWER_IS_BETTER:
        return Spread(spread.scale, -spread.deviation)
    return spread
