"""`az.gate`: decide whether a candidate can replace a baseline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aznas_onnx import scoring
from aznas_onnx.calibration import BUNDLED_CALIBRATIONS, NEEDED, find_calibration, has_same_parts
from aznas_onnx.errors import SettingsError
from aznas_onnx.gating.baseline_check import BaselineCheck
from aznas_onnx.gating.budget_check import Latencies, budget_checks, latency_checks, measure_latencies, shortcut_checks
from aznas_onnx.gating.estimate_check import EstimateCheck
from aznas_onnx.gating.floor_check import FloorCheck
from aznas_onnx.gating.git_revision import LocatedFile, located
from aznas_onnx.gating.interface_check import interface_checks, interface_doubts
from aznas_onnx.gating.model_counts import ModelCounts, ReadModel
from aznas_onnx.gating.policy import COMPARED, Policy
from aznas_onnx.gating.reference_check import ReferenceCheck
from aznas_onnx.gating.result import Check, Compared, GateResult
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision, interim_looks
from aznas_onnx.gating.statistical_check import StatisticalCheck, decider
from aznas_onnx.limits import within
from aznas_onnx.proxies.feed import NOISE
from aznas_onnx.proxies.from_blocks import IDLE_BLOCKS
from aznas_onnx.references.bundled import find_reference
from aznas_onnx.references.reference_set import ReferenceSettings
from aznas_onnx.scoring import ScoreSettings

if TYPE_CHECKING:
    from aznas_onnx.scoring import Session
from aznas_onnx.structure import measure_design

__all__ = ["gate"]

_DEFAULT_EFFORT = "balanced"

OnStage = Callable[[str], None]


def gate(
    candidate: str | os.PathLike[str],
    policy: Policy | None = None,
    *,
    settings: ScoreSettings | None = None,
    cache: bool = False,
    on_stage: OnStage | None = None,
    **rules: Any,
) -> GateResult:
    """Decide whether a candidate passes the rules of a policy.

    Counts and structure are compared exactly. Scores are compared under the same seeds, with their noise: seeds are
    added until every comparison is decided, one has rejected, or the policy's maximum is reached.

    Parameters
    ----------
    candidate
        Path of an ONNX file. Its weights are not used.
    policy
        The rules; or give them as keyword arguments.
    settings
        How to score, in place of the rules of the same names. The number of seeds is the policy's.
    cache
        Whether to take scores that an earlier call has stored, and to store new ones, in the user's cache folder.
    on_stage
        Called with the current stage, in words.
    rules
        As for :class:`Policy`.

    Returns
    -------
    GateResult
        The verdict with each check's reason.

    Raises
    ------
    ModelError
        If the candidate or a baseline cannot be read or scored.
    SettingsError
        If a rule is not accepted, there is none, or a reference set has other settings.

    Examples
    --------
    >>> import aznas_onnx as az
    >>> az.gate("candidate.onnx", baseline=["shipped.onnx"], max_macs=2_000_000_000).passed  # doctest: +SKIP
    True
    """
    if policy is not None and rules:
        raise SettingsError("the rules of the gate are given twice; give a policy or keyword arguments")
    policy = Policy.of(**rules) if policy is None else policy
    if settings is not None:
        policy = policy.scored_by(scoring.ScoreSettings.of(settings))
    policy.load_proxies()
    if policy.demands_nothing:
        raise SettingsError(
            "the gate has no rule; give a baseline, a reference set, a budget such as max_macs, or the floor of a proxy"
        )
    with located(os.fspath(candidate), *policy.baseline) as files:
        return _Gate(files, policy, on_stage or (lambda stage: None), uses_cache=cache).run()


class _Gate:
    def __init__(self, files: Sequence[LocatedFile], policy: Policy, tell: OnStage, *, uses_cache: bool) -> None:
        self._policy, self._tell, self._uses_cache = policy, tell, uses_cache
        tell("reading")
        how = replace(policy, effort=None).score_settings()  # to read only: effort "auto" would import torch
        limits = within(policy.time_limit)
        read = [ReadModel.of(one, how, limits) for one in files]
        self._counts = [one.counts for one in read]
        self._calibration = find_calibration(BUNDLED_CALIBRATIONS[0]) if policy.is_by_estimate else None
        self._kin = self._are_kin(read)
        self._reference_sets = [find_reference(reference) for reference in policy.reference]
        self._settings = self._score_settings() if policy.needs_scores else None
        self._read = read if policy.needs_scores else []
        self._warnings: list[str] = []

    def run(self) -> GateResult:
        began = time.perf_counter()
        candidate, *baselines = self._counts
        policy = self._policy
        kin = [one for one, is_kin in zip(baselines, self._kin, strict=True) if is_kin]
        checks = [
            *budget_checks(candidate, policy),
            *interface_checks(candidate, baselines, policy),
            *shortcut_checks(candidate, kin, policy),
        ]
        latencies = self._latencies()
        if latencies:
            checks += latency_checks(latencies[0], latencies[1:], policy)
        scored: list[SeededScores] = []
        if self._settings is not None:
            scored = self._seeded(self._settings)
            self._read.clear()  # the files' data is for the sessions alone
            checks += self._score(scored, is_rejected=any(check.verdict is Decision.REJECT for check in checks))
        return GateResult(
            candidate=candidate.model,
            checks=tuple(checks),
            models=tuple(self._compared(latencies, scored)),
            policy=policy,
            compared=policy.for_smaller.compared if self._larger else policy.compared,
            seeds=scored[0].seeds if scored else 0,
            settings=MappingProxyType({} if self._settings is None else _described(self._settings)),
            warnings=tuple(dict.fromkeys((*self._doubts(scored, latencies), *self._warnings))),
            elapsed_s=time.perf_counter() - began,
        )

    def _seeded(self, settings: ScoreSettings) -> list[SeededScores]:
        from aznas_onnx.gating.score_cache import CachedScores, ScoreCache  # late: it loads torch

        cache = ScoreCache.of(settings) if self._uses_cache else None
        return [
            SeededScores(
                one.counts.model,
                self._opener(one, settings),
                self._policy.seed,
                None if cache is None else CachedScores(cache=cache, hashes=one.counts.hashes),
            )
            for one in self._read
        ]

    def _opener(self, read: ReadModel, settings: ScoreSettings) -> Callable[[], Session]:
        limits = within(self._policy.time_limit)
        return lambda: scoring.Session(read.model, settings, costs=read.costs, limits=limits)

    def _score(self, scored: Sequence[SeededScores], *, is_rejected: bool) -> list[Check]:
        """Add seeds until all is decided, or something is rejected, so that more can change nothing."""
        policy = self._policy
        candidate, *baselines = scored
        noisy: list[StatisticalCheck] = [
            *(self._baseline_check(candidate, baseline) for baseline in baselines),
            *(
                ReferenceCheck(candidate=candidate, reference_set=reference_set, min_percentile=policy.min_percentile)
                for reference_set in self._reference_sets
            ),
            *(FloorCheck(candidate=candidate, proxy=name, floor=floor) for name, floor in policy.floors.items()),
        ]
        numbers = interim_looks(policy.min_seeds, policy.max_seeds)
        decide = decider(policy.confidence, n_looks=len(numbers), n_checks=len(noisy))
        found: list[list[Check]] = []
        for seeds in numbers:
            for one in scored:
                self._tell(f"scoring {one.model}, {seeds} seeds")
                one.extend(seeds)
            found = [check.run(decide) for check in noisy]
            verdicts = {check.verdict for checks in found for check in checks}
            if is_rejected or Decision.REJECT in verdicts or Decision.INCONCLUSIVE not in verdicts:
                break
        self._warnings += [warning for check in noisy for warning in check.warnings]
        checks = [check for group in found for check in group]
        if candidate.seeds < numbers[-1]:
            checks = [_left_open(check) if check.verdict is Decision.INCONCLUSIVE else check for check in checks]
        return checks

    def _baseline_check(self, candidate: SeededScores, baseline: SeededScores) -> StatisticalCheck:
        policy, accepts_smaller = self._policy, baseline.model in self._larger
        if accepts_smaller:
            policy = policy.for_smaller
        if self._calibration is None:
            return BaselineCheck(candidate=candidate, baseline=baseline, policy=policy)
        return EstimateCheck(
            candidate=candidate,
            baseline=baseline,
            policy=policy,
            calibration=self._calibration,
            accepts_smaller=accepts_smaller,
        )

    @property
    def _larger(self) -> set[str]:
        """The baselines that the candidate may be smaller than, and is."""
        candidate, *baselines = self._counts if self._policy.allow_smaller else self._counts[:1]
        return {one.model for one in baselines if candidate.is_smaller_than(one)}

    def _are_kin(self, read: Sequence[ReadModel]) -> list[bool]:
        """Return for each baseline whether the candidate has its parts: only then are other shortcuts a defect."""
        if self._calibration is None:
            return [True] * (len(read) - 1)
        candidate, *baselines = (measure_design(one.model, one.costs) for one in read)
        return [has_same_parts(candidate, baseline) for baseline in baselines]

    def _score_settings(self) -> ScoreSettings:
        """Return the settings of scoring: those of the references where there are any."""
        policy = self._policy
        first = self._reference_sets[0].settings if self._reference_sets else None
        only = {counts.only_batch for counts in self._counts if counts.only_batch is not None}
        shared = only.pop() if len(only) == 1 else None  # the others accept it, so all are scored with it
        placed = [name for reference_set in self._reference_sets for name in reference_set.proxies]
        wanted = (*COMPARED, *policy.compared, *placed, IDLE_BLOCKS.name, *policy.floors)
        if self._larger:
            wanted += policy.for_smaller.compared
        if policy.is_by_estimate:
            wanted += NEEDED
        settings = policy.score_settings(
            effort=_DEFAULT_EFFORT if first is None else first.effort,
            batch_size=shared if first is None else first.batch_size,
            feed=NOISE if first is None else first.feed.text,
            seeds=policy.max_seeds,
            proxies=tuple(dict.fromkeys(wanted)),
        )
        for counts in self._counts:
            if counts.only_batch not in (None, settings.batch_size):
                raise SettingsError(
                    f"{counts.model} works at batch size {counts.only_batch} only, "
                    f"and {settings.batch_size} is requested; export it with an open batch, "
                    f"or set the batch size to {counts.only_batch} for all"
                )
        self._refuse_other_settings(settings)
        return settings.loaded()

    def _refuse_other_settings(self, settings: ScoreSettings) -> None:
        candidate = self._counts[0]
        given = ReferenceSettings.of(settings, candidate.input_shape)
        for reference_set in self._reference_sets:
            reference_set.settings.refuse_others(given, name=reference_set.name, of=candidate.model)

    def _latencies(self) -> list[Latencies]:
        policy = self._policy
        if policy.max_latency is None and policy.max_latency_ratio is None:
            return []
        self._tell("measuring latency")
        counts = self._counts if policy.max_latency_ratio is not None else self._counts[:1]
        return measure_latencies(counts, policy.values)

    def _doubts(self, scored: Sequence[SeededScores], latencies: Sequence[Latencies]) -> list[str]:
        """Return what to doubt about each model, and about comparing them."""
        candidate, *baselines = self._counts
        found = [
            f"{candidate.model} takes {_size(candidate)} and {baseline.model} {_size(baseline)}: "
            "each is judged at its own input"
            for baseline in baselines
            if baseline.input_shape != candidate.input_shape
        ]
        found += interface_doubts(candidate, baselines, self._policy)
        for index, one in enumerate(self._counts):
            warnings = dict.fromkeys((*one.warnings, *(scored[index].warnings if scored else ())))
            found += [warning if one.model in warning else f"{one.model}: {warning}" for warning in warnings]
        found += [f"{latency.model}: {latency.doubt}" for latency in latencies if latency.doubt is not None]
        return found

    def _compared(self, latencies: Sequence[Latencies], scored: Sequence[SeededScores]) -> list[Compared]:
        taken: Mapping[str, float] = {latency.model: latency.median_ms for latency in latencies}
        return [
            Compared(
                model=one.model,
                macs=one.macs,
                params=one.params,
                activation_bytes=one.activation_bytes,
                proxies=MappingProxyType(scored[index].means() if scored else {}),
                latency_ms=taken.get(one.model),
                hashes=one.hashes,
                is_cached=bool(scored) and not scored[index].seeds_scored,
                changes=one.changes,
            )
            for index, one in enumerate(self._counts)
        ]


def _described(settings: ScoreSettings) -> dict[str, object]:
    """Return the settings of the scores without the number of seeds, which the result has separately."""
    described = {
        "cut_at": [],
        "values": {},
        **settings.as_json(),
        "device": scoring.resolve_device(settings.device).type,
    }
    return {key: value for key, value in described.items() if key not in ("seeds", "as_published")}


def _left_open(check: Check) -> Check:
    return replace(check, reason=f"{check.reason}; no more seeds, since the candidate is rejected anyway")


def _size(counts: ModelCounts) -> str:
    return "x".join(map(str, counts.input_shape))
