"""Propose the next candidate: Algorithm 1 with the schedule of the authors' code, within budget, never twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from aznas_onnx.counts import format_count
from aznas_onnx.errors import SettingsError
from aznas_onnx.searching.budget import LABELS, Budget, Cost, CountConvention
from aznas_onnx.searching.identity import CandidateIdentifier, Identity
from aznas_onnx.searching.population import Population
from aznas_onnx.searching.settings import Strategy, StudySettings
from aznas_onnx.searching.trial import Proposal, TrialOrigin
from aznas_onnx.spaces import Space, as_user_error, quote

__all__ = ["Exhausted", "Proposer"]

G = TypeVar("G", bound=Hashable)

_TRIES, _FEW_TRIES = 20_000, 2_000
_EARLY = 10  # so many candidates are mutated from the start of the space
_MOST_TOO_SLOW = 500  # a candidate is given up after so many measurements: each takes a good part of a second
_STARTS = 100  # attempts of a space with a random start to sample one within budget
_START_STREAM, _PROPOSAL_STREAM = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """No candidate was found; `reason` is a sentence on what was tried."""

    reason: str


class Proposer(Generic[G]):
    """Samples genotypes until one is within budget and new.

    Every random choice follows from the study's seed, the candidate's number and the candidates recorded before it:
    each number has its own generator. The number is therefore the only state, and a killed search continues with the
    same stream.

    - `space`: The space of the candidates.
    - `settings`: Budget, strategy, seed, top-k, and whether a genotype or a network is new.
    - `max_tries`: Genotypes to try for one candidate; by default 20,000, or 2,000 where the space counts by building
      each network. Evolution samples the second half of them from the space, for the case that all neighbours of its
      parents are known or over budget.
    - `measure`: Returns the milliseconds of a genotype's network; needed where the budget limits them.

    Raises SettingsError if the paper's FLOPs are requested and the space has none.
    """

    def __init__(
        self,
        space: Space[G],
        settings: StudySettings,
        max_tries: int | None = None,
        measure: Callable[[str], float] | None = None,
    ) -> None:
        if max_tries is not None and max_tries < 1:
            raise SettingsError(f"{max_tries} tries for a candidate are too few; at least 1 is needed")
        self._space = space
        self._settings = settings
        self._is_slow = _counts_by_building(space, settings)
        self._max_tries = max_tries or (_FEW_TRIES if self._is_slow else _TRIES)
        self._measure = measure
        self.identifier = CandidateIdentifier(space, settings.identity)
        with as_user_error(space, "give a start"):
            self._start = self._choose_start()
        if settings.count is CountConvention.PAPER and space.paper_flops(self._start) is None:
            raise SettingsError(f"the paper counts no FLOPs in space {space.name!r}; use --count graph")

    def propose(
        self,
        number: int,
        population: Population,
        taken: Collection[str] = (),
        watch: Callable[[int], None] | None = None,
    ) -> Proposal | Exhausted:
        """Return candidate `number`.

        - `population`: The candidates recorded so far.
        - `taken`: Genotypes that are being scored; they must not be proposed either.
        - `watch`: Called for each sampled genotype, with their number.
        """
        rng = _generator(self._settings.seed, _PROPOSAL_STREAM, number)
        origin = self._origin(number, population)
        parents = population.top(self._settings.top_k) if origin is TrialOrigin.TOP else []
        being_scored = set(map(self.identifier.of_text, taken))
        refused = _Refusals()
        tries = 0
        for tries in range(1, self._max_tries + 1):
            if watch is not None:
                watch(tries)
            if 2 * tries > self._max_tries + 1:
                origin = TrialOrigin.SAMPLE
            with as_user_error(self._space, "give a candidate"):
                parent, genotype = self._sample_or_mutate(origin, population, parents, rng)
                broken = self._broken_limit(genotype, refused)
                text = "" if broken else self._space.format(genotype)
            if broken or self._is_known(genotype, text, population, being_scored):
                refused.reasons[broken or _KNOWN] += 1
                continue
            latency_ms = self._latency_ms(text)
            if self._is_too_slow(latency_ms, refused):
                if len(refused.latencies_ms) == _MOST_TOO_SLOW:
                    break
                continue
            with as_user_error(self._space, f"count {quote(text)}"):
                cost = replace(Cost.of(self._space, genotype), latency_ms=latency_ms)
            return Proposal(number=number, genotype=text, origin=origin, parent=parent, cost=cost, tries=tries)
        reasons = refused.describe(self._settings.budget, self._settings.identity)
        if self._is_slow and tries == _FEW_TRIES:
            reasons += "; the space builds every network to count it, so more were not tried"
        return Exhausted(reason=f"no new candidate of {self._space.name} in {tries:,} tries: {reasons}")

    def _is_known(self, genotype: G, text: str, population: Population, being_scored: Collection[str]) -> bool:
        identified = self.identifier.of(genotype, text)
        return identified in population.known or identified in being_scored

    def _latency_ms(self, text: str) -> float | None:
        """Return the latency if the budget limits it, else None: measuring is the slowest step."""
        if self._settings.budget.latency_ms is None:
            return None
        assert self._measure is not None
        return self._measure(text)

    def _is_too_slow(self, latency_ms: float | None, refused: _Refusals) -> bool:
        limit = self._settings.budget.latency_ms
        if latency_ms is None or limit is None or latency_ms <= limit:
            return False
        refused.latencies_ms.append(latency_ms)
        return True

    def _origin(self, number: int, population: Population) -> TrialOrigin:
        if self._settings.strategy is Strategy.RANDOM:
            return TrialOrigin.SAMPLE
        if number < _EARLY or not population.n_ranked:
            return TrialOrigin.START
        return TrialOrigin.HISTORY if number < self._settings.top_k else TrialOrigin.TOP

    def _sample_or_mutate(
        self, origin: TrialOrigin, population: Population, parents: list[tuple[int, str]], rng: np.random.Generator
    ) -> tuple[int | None, G]:
        """Return a genotype and the number of its parent."""
        if origin is TrialOrigin.SAMPLE:
            return None, self._space.sample(rng)
        if origin is TrialOrigin.START:
            return None, self._space.mutate(self._start, rng, 1)
        number, text = (
            population.member(rng) if origin is TrialOrigin.HISTORY else parents[int(rng.integers(len(parents)))]
        )
        return number, self._space.mutate(self._space.parse(text), rng, 2)

    def _choose_start(self) -> G:
        rng = _generator(self._settings.seed, _START_STREAM)
        first = self._space.start(rng)
        starts = itertools.chain([first], (self._space.start(rng) for _ in range(_STARTS - 1)))
        return next((genotype for genotype in starts if not self._broken_limit(genotype, _Refusals())), first)

    def _broken_limit(self, genotype: G, refused: _Refusals) -> str | None:
        """Return the name of the first limit that a genotype breaks, or None where it is within budget."""
        for name, limit in self._settings.budget.limits():
            if not limit.is_open:
                value = self._count(name, genotype)
                if not limit.admits(value):
                    refused.nearest[name] = min(value, refused.nearest.get(name, value), key=limit.distance)
                    return name
        return None

    def _count(self, name: str, genotype: G) -> int:
        if name == "params":
            return self._space.params(genotype)
        if name == "layers":
            return self._space.layers(genotype)
        if self._settings.count is CountConvention.GRAPH:
            return self._space.macs(genotype)
        flops = self._space.paper_flops(genotype)
        assert flops is not None  # a space has the paper's convention for all genotypes or for none
        return flops


_KNOWN = "known"


@dataclass(slots=True)
class _Refusals:
    """Why genotypes were refused, for the message in case all are."""

    reasons: Counter[str] = field(default_factory=Counter)
    nearest: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    def describe(self, budget: Budget, identity: Identity) -> str:
        parts = []
        for name, limit in budget.limits():
            if self.reasons[name]:
                nearest = format_count(self.nearest[name])
                parts.append(f"{LABELS[name]} {limit} refused {self.reasons[name]:,} (the nearest has {nearest})")
        if self.latencies_ms:
            parts.append(
                f"latency at most {budget.latency_ms:g} ms refused {len(self.latencies_ms):,} "
                f"(the fastest takes {min(self.latencies_ms):.3g} ms)"
            )
        if self.reasons[_KNOWN]:
            what = "networks that are" if identity is Identity.NETWORK else "genotypes that are"
            left = "left" if budget == Budget() else "left within the budget"
            parts.append(f"{self.reasons[_KNOWN]:,} were {what} scored already, so few or none are {left}")
        return ", ".join(parts)


def _counts_by_building(space: Space[G], settings: StudySettings) -> bool:
    """Whether the budget limits a count for which the space has no formula."""
    for name, limit in settings.budget.limits():
        by_graph = name != "macs" or settings.count is CountConvention.GRAPH
        if by_graph and not limit.is_open and getattr(type(space), name) is getattr(Space, name):
            return True
    return False


def _generator(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))
