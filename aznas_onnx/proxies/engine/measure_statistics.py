"""Measuring the network as a whole: each statistic once for all proxies that name it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch

from aznas_onnx.convert.program import is_out_of_memory
from aznas_onnx.errors import ModelError, first_line
from aznas_onnx.proxies.engine.compiled_network import InapplicableError, RandomNetwork
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import SeededNetwork
from aznas_onnx.proxies.engine.statistic import NetworkStatistic
from aznas_onnx.timing import Clock
from aznas_onnx.user_modules import place, summary

__all__ = ["measure"]


def measure(
    network: RandomNetwork,
    seed: int,
    measurements: Iterable[NetworkStatistic],
    clock: Clock,
    owners: Mapping[str, str] = MappingProxyType({}),
) -> Mapping[str, StatisticResult]:
    """Measure statistics of a network under a seed; one that fails or is not defined has a reason and is no error.

    `owners` has the user proxy that needs a statistic: an exception in it costs that proxy its value.
    """
    instance = SeededNetwork(network, seed)
    results = {}
    for measurement in measurements:
        with clock.phase(measurement.name):
            results[measurement.name] = _measure(measurement, instance, owners.get(measurement.name))
    return MappingProxyType(results)


def _measure(measurement: NetworkStatistic, instance: SeededNetwork, owner: str | None) -> StatisticResult:
    try:
        found: object = measurement.measure(instance)
    except (InapplicableError, ModelError) as error:
        return StatisticResult(reason=str(error))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        is_numerical = isinstance(error, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
        if owner is not None and not is_numerical and not _is_unsupported(error):
            return StatisticResult(reason=f"proxy {owner!r} fails: {summary(error)} ({place(error)})", is_lost=True)
        if not isinstance(error, RuntimeError):
            raise
        reason = f"torch cannot compute it here: {first_line(error)}"
        return StatisticResult(reason=reason, is_lost=not _is_unsupported(error))
    if isinstance(found, StatisticResult):
        return found
    mistake = f"run() gives a {type(found).__name__}; a StatisticResult is needed"
    return StatisticResult(reason=f"proxy {owner!r}: {mistake}", is_lost=True)


def _is_unsupported(error: Exception) -> bool:
    """Whether torch lacks the computation for any numbers; a spectrum that does not converge depends on the numbers."""
    return isinstance(error, NotImplementedError) or (
        isinstance(error, RuntimeError) and "not implemented" in str(error)
    )
