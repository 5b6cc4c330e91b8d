"""Aggregate the outcomes of several seeds to one value per proxy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from aznas_onnx.proxies import PROXIES, Evidence, Outcome, Proxy
from aznas_onnx.results import ProxyValue

__all__ = ["impossible_values", "inapplicable", "value_of", "warnings_of"]


def inapplicable(proxy: Proxy) -> ProxyValue:
    """Return the value of a proxy that is not defined for a network."""
    return ProxyValue(mean=None, reason=f"{proxy.name} is not defined for transformers", applies=False)


def value_of(proxy: Proxy, outcomes: Sequence[Outcome]) -> ProxyValue:
    """Combine one proxy's outcomes, one for each seed.

    The mean is over the seeds that gave a finite value, where most did; a proxy without a finite value for half of
    its seeds or more has none.
    """
    per_seed = tuple(outcome.value for outcome in outcomes)
    undefined = next((outcome for outcome in outcomes if not outcome.applies), None)
    if undefined is not None:
        return ProxyValue(mean=None, reason=undefined.reason or f"{proxy.name} does not apply", applies=False)
    finite = [value for value in per_seed if math.isfinite(value)]
    if 2 * len(finite) <= len(per_seed):
        reason = next((outcome.reason for outcome in outcomes if outcome.reason), "the value is not finite")
        return ProxyValue(mean=None, per_seed=per_seed, reason=reason)
    stderr = None if proxy.is_exact or len(finite) < 2 else stdev(finite) / math.sqrt(len(finite))
    return ProxyValue(mean=fmean(finite), stderr=stderr, per_seed=per_seed)


def warnings_of(proxy: Proxy, outcomes: Sequence[Outcome]) -> list[str]:
    """Return what to doubt about a proxy, each sentence once."""
    found = dict.fromkeys(warning for outcome in outcomes for warning in outcome.warnings)
    lost = [outcome for outcome in outcomes if not math.isfinite(outcome.value)]
    if lost and 2 * len(lost) < len(outcomes):
        found[f"{proxy.name} has no finite value for {len(lost)} of {len(outcomes)} seeds: {lost[0].reason}"] = None
    return list(found)


def impossible_values(proxy: Proxy, evidence: Sequence[Evidence], outcomes: Sequence[Outcome]) -> list[str]:
    """Return a sentence where a built-in proxy is where no network can be, for the seed that is farthest out."""
    if not PROXIES.is_built_in(proxy.name):
        return []
    pairs = [(one, outcome.value) for one, outcome in zip(evidence, outcomes, strict=True)]
    found = [(value, doubt) for one, value in pairs if math.isfinite(value) and (doubt := proxy.doubt(one, value))]
    if not found:
        return []
    value, doubt = max(found, key=lambda pair: abs(pair[0]))
    return [f"{proxy.name} is {value:,.4g}, out of its range: {doubt}"]
