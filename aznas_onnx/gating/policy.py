"""The policy of a gate, validated on construction."""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Value
from aznas_onnx.proxies import PROXIES, is_reference
from aznas_onnx.ranking import Aggregation, Ensemble
from aznas_onnx.references.proxy_scales import PROXY_SCALES

__all__ = ["COMPARED", "Inconclusive", "Policy"]

COMPARED = ("expressivity", "progressivity", "trainability", "macs")
"""The proxies that a baseline is compared by where the policy names no others: those of AZ-NAS."""


_COMPARES_WITH = {
    "min_percentile": "reference",
    "tolerance": "baseline",
    "min_shortcuts": "baseline",
    "aggregate": "baseline",
}


class Inconclusive(str, enum.Enum):
    """What becomes of a candidate that the noise leaves undecided."""

    PASS = "pass"  # with a warning
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of a gate.

    Attributes
    ----------
    baseline
        Paths of the models that the candidate must not be worse than.
    reference
        Names or paths of the reference sets in which it must have its place.
    min_percentile
        The least percentile of the AZ score in each reference set.
    tolerance
        By how much the AZ score may fall below a baseline's, in a cohort around that baseline.
    min_shortcuts
        The least share of a baseline's shortcuts past layers that the candidate must keep; 0 for none.
    proxies
        What makes up the score that baselines are compared by: names of proxies or groups, with weights
        (``synflow:0.5``), or ``FILE.py:NAME``.
    aggregate
        How their rank shares are combined: ``"log-rank"`` (Eq. 12) or ``"linear"``.
    spreads
        By name of a proxy: its standard deviation between networks that are alternatives to each other. Needed for
        proxies that are not built in.
    max_macs, max_params, max_activation_bytes
        Budgets for one sample; None for none.
    max_latency
        Milliseconds of one sample in ONNX Runtime on one thread of this machine's CPU.
    max_latency_ratio
        The candidate's latency over that of each baseline, measured in turns.
    floors
        The least value of single proxies, by name; any registered proxy may be named.
    inconclusive
        What becomes of a candidate that the noise leaves undecided.
    confidence
        Of a decision that depends on random draws: it is wrong at most this seldom.
    min_seeds, max_seeds
        Draws of weights and input: the first decision is tried after the fewest, and the last after the most.
    seed
        The first seed.
    effort, batch_size, device
        As for :func:`aznas_onnx.scoring.score`; None for an effort means that of the references, else balanced.
    time_limit
        Seconds that reading a file, and an estimated scoring pass, may take; None for the usual limits.
    blocks, input_shapes, cut_at, values, keep_graph
        As for :func:`aznas_onnx.scoring.score`, for candidate and baselines alike.
    """

    baseline: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    min_percentile: float = 10.0
    tolerance: float = 0.5
    min_shortcuts: float = 0.5
    proxies: tuple[str, ...] = COMPARED
    aggregate: str = Aggregation.LOG_RANK.value
    spreads: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    max_macs: int | None = None
    max_params: int | None = None
    max_activation_bytes: int | None = None
    max_latency: float | None = None
    max_latency_ratio: float | None = None
    floors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    inconclusive: Inconclusive = Inconclusive.PASS
    confidence: float = 0.99
    min_seeds: int = 2
    max_seeds: int = 8
    seed: int = 0
    effort: str | None = None
    batch_size: int | None = None
    device: str = "auto"
    time_limit: float | None = None
    blocks: tuple[str, ...] = ()
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=lambda: MappingProxyType({}))
    cut_at: tuple[str, ...] = ()
    values: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    keep_graph: bool = False

    def __post_init__(self) -> None:
        for name in ("baseline", "reference", "proxies", "blocks", "cut_at"):
            object.__setattr__(self, name, _names(getattr(self, name)))
        for name in ("floors", "input_shapes", "values"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "inconclusive", _meaning(self.inconclusive))
        _within("min_percentile", self.min_percentile, 0, 100)
        _within("tolerance", self.tolerance, 0, math.inf)
        _within("min_shortcuts", self.min_shortcuts, 0, 1)
        _within("confidence", self.confidence, 0.5, 0.9999)
        for name in ("max_latency", "max_latency_ratio", "time_limit"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise SettingsError(f"{name} is {limit:g}; a number above 0 is accepted")
        for name in ("max_macs", "max_params", "max_activation_bytes"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise SettingsError(f"{name} is {limit:,}; a count of 0 or more is accepted")
        self._check_seeds()
        if not any(map(is_reference, self._named)):
            self._check_names()

    def _check_seeds(self) -> None:
        if not 2 <= self.min_seeds <= self.max_seeds:
            raise SettingsError(
                f"the seeds go from {self.min_seeds} to {self.max_seeds}; two or more are needed to see the noise, and "
                "the most must not be less than the fewest"
            )

    @property
    def _named(self) -> tuple[str, ...]:
        return (*self.proxies, *self.floors, *self.spreads)

    def load_proxies(self) -> None:
        """Execute the files that proxies are named by, and check what could not be checked before.

        Raises
        ------
        SettingsError
            If a file cannot be loaded, or has no proxy that the policy can use.
        """
        PROXIES.load_all(self._named)
        self._check_names()

    def _check_names(self) -> None:
        names = self.compared
        if not names:
            raise SettingsError("no proxy is named to compare with a baseline; name one or more, such as az")
        for name, spread in self.spreads.items():
            PROXIES.resolve([name])
            if not (math.isfinite(spread) and spread > 0):
                raise SettingsError(f"the spread of {name} is {spread:g}; a number above 0 is accepted")
        for name in names:
            if name not in PROXY_SCALES and name not in self.spreads:
                raise SettingsError(
                    f"how much {name} differs between networks is not known; say so in spreads, such as {name} = 0.3: "
                    "its standard deviation between networks that you would call alternatives"
                )
        self._check_floors()
        if self.max_latency_ratio is not None and not self.baseline:
            raise SettingsError("max_latency_ratio compares with a baseline, and none is named")

    def _check_floors(self) -> None:
        for name, floor in self.floors.items():
            if name not in PROXIES:
                named = ", ".join(proxy.name for proxy in PROXIES.resolve([name]))
                raise SettingsError(f"a floor is for a single proxy by its name, and {name!r} stands for {named}")
            if not math.isfinite(floor):
                raise SettingsError(f"the floor of {name} is {floor}; a finite number is accepted")

    @property
    def ensemble(self) -> Ensemble:
        """Weights and aggregation of the comparison with a baseline."""
        return Ensemble.of(self.proxies, self.aggregate)

    @property
    def compared(self) -> tuple[str, ...]:
        """The proxies that a baseline is compared by, in full: those that count."""
        ensemble = self.ensemble
        return tuple(proxy.name for proxy in PROXIES.resolve(self.proxies) if ensemble.weight(proxy.name))

    @classmethod
    def of(cls, rules: Mapping[str, Any]) -> Policy:
        """Make a policy of rules by name, and refuse those that would do nothing.

        Raises
        ------
        SettingsError
            If a rule is not accepted, or compares with something that no other rule names.
        """
        for name, needed in _COMPARES_WITH.items():
            if name in rules and not rules.get(needed):
                raise SettingsError(f"{name} compares with a {needed}, and none is named; name one, or drop the rule")
        return cls(**rules)

    @property
    def demands_nothing(self) -> bool:
        """Whether every candidate would pass."""
        return not (self.baseline or self.reference or self.floors or self.has_budget)

    @property
    def has_budget(self) -> bool:
        """Whether anything is limited that needs no score."""
        limits = (self.max_macs, self.max_params, self.max_activation_bytes, self.max_latency)
        return any(limit is not None for limit in limits)

    @property
    def needs_scores(self) -> bool:
        """Whether the candidate must be scored, which takes torch."""
        return bool(self.baseline or self.reference or self.floors)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all rules, as a policy file has them."""
        return tuple(one.name for one in fields(cls))


def _names(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return one name or path, or several, as a tuple of texts."""
    return (os.fspath(given),) if isinstance(given, str | os.PathLike) else tuple(os.fspath(one) for one in given)


def _meaning(given: Inconclusive | str) -> Inconclusive:
    try:
        return Inconclusive(given)
    except ValueError as error:
        known = " or ".join(repr(choice.value) for choice in Inconclusive)
        raise SettingsError(f"inconclusive is {given!r}; {known} is accepted") from error


def _within(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        accepted = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        raise SettingsError(f"{name} is {value:g}; {accepted} is accepted")
