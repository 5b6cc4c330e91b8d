"""One model under one set of settings: compiled once, and scored under any seeds, in one call or in several."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from aznas_onnx.blocks import find_blocks
from aznas_onnx.convert.program import is_out_of_memory
from aznas_onnx.costs import Costs, count
from aznas_onnx.demand import demand_of
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Limits, Model, Source
from aznas_onnx.initialise import WeightSource
from aznas_onnx.limits import reading
from aznas_onnx.proxies import PROXIES, BlockEvidence, Evidence, Need, Outcome, Proxy, StatisticResult
from aznas_onnx.proxies.engine.blockpass import BlockPass, signs_of
from aznas_onnx.proxies.engine.compiled_network import RandomNetwork
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring.aggregate_seeds import impossible_values, inapplicable, value_of, warnings_of
from aznas_onnx.scoring.allocator import freed_memory_kept
from aznas_onnx.scoring.device import resolve_device
from aznas_onnx.scoring.settings import ScoreSettings, checked_seeds
from aznas_onnx.timing import Clock
from aznas_onnx.user_modules import place, summary

if TYPE_CHECKING:
    from aznas_onnx.structure import Structure

__all__ = ["Session"]


class Session:
    """Scores one model.

    Blocks and counts are found at once; the model is specialised, its weights are planned, and its programs are
    compiled with the first scores, for all later ones.

    Parameters
    ----------
    model
        Path of an ONNX file, a ModelProto, or a model from :func:`aznas_onnx.graph.prepare`, at any batch size.
    settings
        Its batch size, proxies, blocks and so on; those that decide how a file is read do not apply to a prepared
        model.
    costs
        Of the model, where they have been counted already.
    limits
        Limits on the model.
    checks_demand
        Whether to refuse a pass that would take too long, or more memory than there is, before it starts.
    clock
        Measures the phases.

    Raises
    ------
    ModelError
        If the model cannot be read or has no feature map, or its blocks are not there.

    Notes
    -----
    The files of user proxies (``FILE.py:NAME``) are executed with the first scores.

    Examples
    --------
    >>> from aznas_onnx.scoring import ScoreSettings, Session
    >>> session = Session("resnet18.onnx", ScoreSettings.of(effort="balanced"))  # doctest: +SKIP
    >>> session.scores(range(2)).proxies["trainability"].per_seed  # doctest: +SKIP
    >>> session.scores(range(2, 4)).proxies["trainability"].per_seed  # nothing is compiled again  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Source | Model,
        settings: ScoreSettings,
        *,
        costs: Costs | None = None,
        limits: Limits | None = None,
        checks_demand: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._checks_demand = checks_demand
        self._device = resolve_device(settings.device, bf16=settings.bf16)
        self._dtype = torch.bfloat16 if settings.bf16 else torch.float32
        self._clock = clock or Clock(is_running=False)
        if self._device.type != "cpu":
            self._clock.synchronise = lambda: torch.accelerator.synchronize(self._device)
        with reading(self._limits):
            with self._clock.phase("read and canonicalise"):
                self._model = model = model if isinstance(model, Model) else settings.read(model, self._limits)
            with self._clock.phase("find blocks"):
                self._blocks = find_blocks(model, settings.blocks)
            with self._clock.phase("count"):
                self._costs = count(model) if costs is None else costs
        self._batch_size, self._substitution = _batch_size(model, settings.batch_size)

    def scores(self, seeds: Iterable[int] | None = None) -> ProxyScores:
        """Score the model.

        Parameters
        ----------
        seeds
            Each has its own random weights, input and gradients; equal seeds give equal values in every call.
            Default: those of the settings.

            After a call that names some, the session holds the file's data no more.

        Returns
        -------
        ProxyScores
            Of these seeds alone, with status ok. A proxy without a finite value is None, with its reason.

        Raises
        ------
        ModelError
            If the model cannot be converted or run.
        SettingsError
            If a seed is not accepted or given twice, or the pass takes more time or memory than there is.
        """
        started = time.perf_counter()
        first = self._settings.seed
        chosen = checked_seeds(range(first, first + self._settings.seeds) if seeds is None else seeds)
        if self._runs:
            self._settings.feed.check(self._model, self._batch_size)
            if self._checks_demand:
                self._check_demand(len(chosen))
        evidence = self._evidence(chosen)
        values, doubts = _evaluate(self._proxies, evidence)
        if seeds is not None:
            self._release_data()
        model, found, costs = self._model, self._blocks, self._costs
        warnings = (
            *model.warnings,
            *self._substitution,
            *found.warnings,
            *costs.warnings,
            *self._network.notes,
            *doubts,
        )
        return ProxyScores(
            model=model.source,
            status=Status.OK,
            proxies=MappingProxyType(values),
            macs=costs.macs,
            params=costs.params,
            blocks=len(found.blocks),
            elapsed_s=time.perf_counter() - started,
            changes=model.changes,
            warnings=tuple(dict.fromkeys(warnings)),
            profile_s=self._clock.elapsed_s,
            design=self._design,
        )

    @cached_property
    def _proxies(self) -> tuple[Proxy, ...]:
        return PROXIES.load_all(self._settings.proxies)

    @cached_property
    def _defined(self) -> tuple[Proxy, ...]:
        return tuple(proxy for proxy in self._proxies if proxy.for_transformers or not self._blocks.is_transformer)

    @property
    def _runs(self) -> bool:
        """Whether a proxy needs the network to run."""
        return any(proxy.needs is not Need.GRAPH or proxy.measurement is not None for proxy in self._defined)

    def _release_data(self) -> None:
        """Free objects as large as the file; only a user's own statistic can need another program of it."""
        if all(PROXIES.is_built_in(proxy.name) for proxy in self._proxies):
            self._network.release()
            self._model = self._model.without_data()

    def _check_demand(self, seeds: int) -> None:
        needs = {proxy.needs for proxy in self._defined}
        whole = any(proxy.measurement is not None for proxy in self._defined)
        on_cpu = self._device.type == "cpu"
        demand = demand_of(
            self._model,
            self._blocks,
            self._costs,
            batch_size=self._batch_size,
            seeds=seeds,
            gradients=whole or Need.GRADIENTS in needs,
            whole=whole,
            threads=torch.get_num_threads(),
            on_cpu=on_cpu,
        )
        demand.check(self._model.name, self._batch_size, self._limits.scoring_s, on_cpu=on_cpu)

    def _evidence(self, seeds: Sequence[int]) -> list[Evidence]:
        try:
            passes, measured = self._measure_blocks(seeds), self._measure_whole(seeds)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise SettingsError(
                f"{self._model.name}: a batch of {self._batch_size} does not fit into the memory of {self._device}; "
                "use a smaller --batch-size for all models that you compare"
            ) from error
        return [
            Evidence(
                blocks=blocks,
                macs=self._costs.macs,
                params=self._costs.params,
                is_transformer=self._blocks.is_transformer,
                as_published=self._settings.as_published,
                structure=self._structure,
                measured=results,
            )
            for blocks, results in zip(passes, measured, strict=True)
        ]

    def _measure_blocks(self, seeds: Sequence[int]) -> list[tuple[BlockEvidence, ...]]:
        """Run the pass for each seed; where no proxy needs it, return the evidence of the graph alone."""
        needs = {proxy.needs for proxy in self._defined}
        if needs <= {Need.GRAPH}:
            return [tuple(BlockEvidence(name=block.name) for block in self._blocks.blocks)] * len(seeds)
        has_gradients = Need.GRADIENTS in needs
        with self._clock.phase("convert"):
            measure = self._pass.measure
            network = self._network.at(dtype=self._dtype)
        largest_bytes = max((info.size_bytes for info in network.model.infos.values()), default=0)
        found = []
        with self._clock.phase("draw input"):  # the rest: everything else has its own phase
            for seed in seeds:
                weights = WeightSource(network.plan, seed, self._device, self._dtype)
                with freed_memory_kept(largest_bytes) if self._device.type == "cpu" else nullcontext():
                    found.append(measure(network.feeds.draw(seed), weights, signs_of(seed) if has_gradients else None))
        return found

    def _measure_whole(self, seeds: Sequence[int]) -> list[Mapping[str, StatisticResult]]:
        """Make each measurement of the whole network that a proxy names, once for each seed."""
        naming = [(proxy, proxy.measurement) for proxy in self._defined if proxy.measurement is not None]
        if not naming:
            return [MappingProxyType({})] * len(seeds)
        from aznas_onnx.proxies.engine.measure_statistics import measure

        wanted = {statistic.name: statistic for _, statistic in naming}
        owners = {
            statistic.name: proxy.name
            for proxy, statistic in naming
            if not PROXIES.is_built_in(proxy.name) and not statistic.is_built_in
        }
        return [measure(self._network, seed, wanted.values(), self._clock, owners) for seed in seeds]

    @cached_property
    def _network(self) -> RandomNetwork:
        return RandomNetwork(
            self._model,
            is_transformer=self._blocks.is_transformer,
            batch_size=self._batch_size,
            device=self._device,
            limits=self._limits,
            keep=[block.output for block in self._blocks.blocks],
            feed=self._settings.feed,
            as_published=self._settings.as_published,
        )

    @cached_property
    def _pass(self) -> BlockPass:
        effort = self._settings.effort
        return BlockPass.of(
            self._network.at(dtype=self._dtype),
            self._blocks.blocks,
            debias=effort.debias,
            share_repeats=effort.shares_repeats,
            clock=self._clock,
        )

    @cached_property
    def _structure(self) -> Structure | None:
        if not any(proxy.uses_structure for proxy in self._defined):
            return None
        from aznas_onnx.structure import measure_structure  # late: few proxies need it

        with self._clock.phase("structure"):
            return measure_structure(self._model, self._costs)

    @cached_property
    def _design(self) -> Mapping[str, float]:
        from aznas_onnx.structure import measure_design  # late: as above

        with self._clock.phase("structure"):
            return MappingProxyType(dict(measure_design(self._model, self._costs)))


def _batch_size(model: Model, wanted: int) -> tuple[int, tuple[str, ...]]:
    """Return the batch size to score at: a few files are written for one only, which is worth a warning."""
    own = model.inputs.declared_batch
    if not model.fixed_batch or wanted == own:
        return wanted, ()
    if not model.inputs.has_batch:  # the model's warnings have it
        return own, ()
    doubt = f"scored at batch size {own}, the only one that the file works at ({model.fixed_batch})"
    return own, (f"{doubt}; do not compare it with models scored at {wanted}",)


def _evaluate(proxies: Sequence[Proxy], evidence: Sequence[Evidence]) -> tuple[dict[str, ProxyValue], list[str]]:
    values: dict[str, ProxyValue] = {}
    doubts: list[str] = []
    for proxy in proxies:
        if evidence[0].is_transformer and not proxy.for_transformers:
            values[proxy.name] = inapplicable(proxy)
            continue
        outcomes = [_outcome(proxy, seed_evidence) for seed_evidence in evidence]
        values[proxy.name] = value_of(proxy, outcomes)
        doubts += (*warnings_of(proxy, outcomes), *impossible_values(proxy, evidence, outcomes))
    return values, doubts


def _outcome(proxy: Proxy, evidence: Evidence) -> Outcome:
    """Evaluate a proxy; one of the user's own that raises has no value, and the model keeps its others."""
    if PROXIES.is_built_in(proxy.name):
        return proxy.evaluate(evidence)
    try:
        found: object = proxy.evaluate(evidence)
    except Exception as error:  # noqa: BLE001 - a user's proxy may raise anything
        reason = f"proxy {proxy.name!r} fails: {summary(error)} ({place(error)}){_structure_hint(proxy, error)}"
        return Outcome(value=math.nan, reason=reason)
    number: object = found.value if isinstance(found, Outcome) else None
    if isinstance(found, Outcome) and isinstance(number, Real):
        return found
    kind = f"an Outcome of {number!r}" if isinstance(found, Outcome) else f"a {type(found).__name__}"
    reason = f"proxy {proxy.name!r}: evaluate() gives {kind}; an Outcome of a float is needed"
    return Outcome(value=math.nan, reason=reason)


def _structure_hint(proxy: Proxy, error: Exception) -> str:
    """Return the remedy where a proxy reads the structure of the network without the flag that measures it."""
    from aznas_onnx.structure import Structure

    is_missed = isinstance(error, AttributeError) and error.obj is None and hasattr(Structure, error.name or "")
    return "; set uses_structure=True" if is_missed and not proxy.uses_structure else ""
