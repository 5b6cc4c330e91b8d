"""Score one or many models to :class:`~aznas_onnx.results.ProxyScores`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from aznas_onnx.blocks import Blocks, find_blocks
from aznas_onnx.costs import Costs, count
from aznas_onnx.demand import demand_of
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.graph import Limits, Model, Source, prepare
from aznas_onnx.graph.files.load import source_name
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.limits import reading
from aznas_onnx.proxies import PROXIES, BlockEvidence, Evidence, Need, Outcome, Proxy, StatisticResult
from aznas_onnx.proxies.engine.blockpass import is_out_of_memory
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring.aggregate_seeds import impossible_values, inapplicable, value_of, warnings_of
from aznas_onnx.scoring.device import resolve_device
from aznas_onnx.scoring.runner import Runner
from aznas_onnx.scoring.settings import ScoreOptions, ScoreSettings
from aznas_onnx.timing import Clock
from aznas_onnx.user_modules import place, summary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from aznas_onnx.structure import Structure

__all__ = ["score", "score_many"]

_log = logging.getLogger(__name__)


def score(
    source: Source,
    *,
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    profile: bool = False,
    **options: Unpack[ScoreOptions],
) -> ProxyScores:
    """Score a model under random weights and Gaussian input.

    Parameters
    ----------
    source
        Path of an ONNX file, or a ModelProto. Its weights are not used.
    settings
        How to score; or give the keywords below.
    limits
        Limits on a file.
    profile
        Measure the time of each phase. On a GPU that costs time, because each phase then waits for the one before.

    Other Parameters
    ----------------
    effort
        ``"paper"`` estimates as published; ``"balanced"`` and ``"fast"`` take smaller batches and correct for that;
        ``"auto"`` is balanced on a CPU and paper elsewhere. Compare scores of one effort only.
    batch_size
        Samples in a batch; default 64, 16 or 4, by effort.
    seeds
        Number of seeds for weights, input and gradients; proxies are means over them.
    seed
        The first seed; the same seed gives the same scores on the same machine.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:INDEX"`` or ``"mps"``.
    proxies
        Names of proxies or groups; default ``["az"]``, the four of AZ-NAS.
    blocks
        Patterns that name the primary blocks, in place of those found in the graph.
    input_shapes
        Shapes of inputs with open dimensions; the name ``""`` is the input with the samples.
    cut_at
        Tensors or nodes that end the network, instead of the file's outputs.
    values
        Values of inputs that steer the network (a length, a sample rate, a flag), by name: one number for all elements,
        or one for each along the last axis.
    keep_graph
        Keep normalisation folded where the exporter folded it.
    as_published
        Give features with a singular covariance no expressivity, as the published code does.

    Returns
    -------
    ProxyScores
        With status ok. A proxy without a finite value is None, with its reason.

    Raises
    ------
    ModelError
        If the model cannot be read, converted or run.
    SettingsError
        If an argument is not accepted, or the batch does not fit into memory.

    Examples
    --------
    >>> import aznas_onnx as az
    >>> az.score("resnet18.onnx", seeds=3).proxies["trainability"].mean  # doctest: +SKIP
    >>> settings = az.ScoreSettings.of(effort="balanced", seeds=3)
    >>> az.score("resnet18.onnx", settings=settings).macs  # doctest: +SKIP
    """
    settings = ScoreSettings.of(settings, **options).loaded()
    where = resolve_device(settings.device)
    return _score(source, settings, where, limits, _clock(where, profile))


def score_many(
    sources: Iterable[Source],
    *,
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    profile: bool = False,
    on_result: Callable[[ProxyScores], None] | None = None,
    **options: Unpack[ScoreOptions],
) -> list[ProxyScores]:
    """Score models one after the other; a failure does not stop the others.

    Parameters
    ----------
    sources
        Paths or ModelProtos.
    on_result
        Called with each result at once.

    Other parameters are those of :func:`score`.

    Returns
    -------
    list of ProxyScores
        In the order of `sources`; status failed, with one sentence as the reason, where a model could not be scored.

    Raises
    ------
    SettingsError
        If an argument is not accepted.
    """
    settings = ScoreSettings.of(settings, **options).loaded()
    where = resolve_device(settings.device)
    results = []
    for source in sources:
        result = _score_or_fail(source, settings, where, limits, _clock(where, profile))
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def _clock(device: torch.device, is_running: bool) -> Clock:
    clock = Clock(is_running=is_running)
    if device.type != "cpu":
        clock.synchronise = lambda: torch.accelerator.synchronize(device)
    return clock


def _score_or_fail(
    source: Source, settings: ScoreSettings, device: torch.device, limits: Limits | None, clock: Clock
) -> ProxyScores:
    started = time.perf_counter()
    try:
        return _score(source, settings, device, limits, clock)
    except AznasError as error:
        reason = str(error)
    except SystemExit as error:  # from a user's proxy, which requests an end
        reason = f"a proxy's code ended the scoring (SystemExit: {error.code})"
    except Exception as error:  # noqa: BLE001 - recorded as this model's failure; a bug here must not lose the others
        _log.debug("scoring %s failed", source_name(source), exc_info=True)
        reason = f"internal error ({type(error).__name__}: {str(error).strip() or 'no message'}); please report it"
    return ProxyScores(
        model=source_name(source),
        status=Status.FAILED,
        reason=" ".join(reason.split()),
        elapsed_s=time.perf_counter() - started,
    )


def _score(
    source: Source, settings: ScoreSettings, device: torch.device, limits: Limits | None, clock: Clock
) -> ProxyScores:
    started = time.perf_counter()
    limits = limits or Limits()
    with reading(limits):
        with clock.phase("read and canonicalise"):
            model = prepare(
                source,
                input_shapes=dict(settings.input_shapes),
                cut_at=settings.cut_at,
                values=dict(settings.values),
                keep_graph=settings.keep_graph,
                limits=limits,
            )
        with clock.phase("find blocks"):
            found = find_blocks(model, settings.blocks)
        with clock.phase("count"):
            costs = count(model)
    asked = PROXIES.resolve(settings.proxies)
    batch_size, substitutions = _batch_size(model, settings.batch_size)
    defined = [proxy for proxy in asked if proxy.for_transformers or not found.is_transformer]
    needs = {proxy.needs for proxy in defined}
    sized = replace(settings, batch_size=batch_size)
    if not isinstance(source, Graph):  # changes of built networks are not reported
        _check_demand(model, found, costs, sized, device, defined, limits)
    try:
        passes = _measure(model, found, sized, device, needs, limits, clock)
        measured = _measure_whole(model, found, sized, device, defined, limits, clock)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingsError(
            f"{model.name}: a batch of {batch_size} does not fit into the memory of {device}; "
            "use a smaller --batch-size for all models that you compare"
        ) from error
    structure = _structure(model, costs, defined, clock)
    evidence = [
        Evidence(
            blocks=blocks,
            macs=costs.macs,
            params=costs.params,
            is_transformer=found.is_transformer,
            as_published=settings.as_published,
            structure=structure,
            measured=results,
        )
        for blocks, results in zip(passes, measured, strict=True)
    ]
    values, doubts = _evaluate(asked, evidence)
    return ProxyScores(
        model=source_name(source),
        status=Status.OK,
        proxies=MappingProxyType(values),
        macs=costs.macs,
        params=costs.params,
        blocks=len(found.blocks),
        elapsed_s=time.perf_counter() - started,
        changes=model.changes,
        warnings=tuple(dict.fromkeys((*model.warnings, *substitutions, *found.warnings, *costs.warnings, *doubts))),
        profile_s=clock.elapsed_s,
    )


def _check_demand(
    model: Model,
    found: Blocks,
    costs: Costs,
    settings: ScoreSettings,
    device: torch.device,
    proxies: Sequence[Proxy],
    limits: Limits,
) -> None:
    """Refuse a pass that would take too long, or more memory than there is, before it starts."""
    needs = {proxy.needs for proxy in proxies}
    whole = any(proxy.measurement is not None for proxy in proxies)
    if needs <= {Need.GRAPH} and not whole:
        return
    on_cpu = device.type == "cpu"
    demand = demand_of(
        model,
        found,
        costs,
        batch_size=settings.batch_size,
        seeds=settings.seeds,
        gradients=whole or Need.GRADIENTS in needs,
        whole=whole,
        threads=torch.get_num_threads(),
        on_cpu=on_cpu,
    )
    demand.check(model.name, settings.batch_size, limits.scoring_s, on_cpu=on_cpu)


def _batch_size(model: Model, wanted: int) -> tuple[int, tuple[str, ...]]:
    """Return the batch size to score at: a few files are written for one only, which is worth a warning."""
    own = model.inputs.declared_batch
    if not model.fixed_batch or wanted == own:
        return wanted, ()
    if not model.inputs.has_batch:  # the model's warnings have it
        return own, ()
    doubt = f"scored at batch size {own}, the only one that the file works at ({model.fixed_batch})"
    return own, (f"{doubt}; do not compare it with models scored at {wanted}",)


def _measure(
    model: Model,
    found: Blocks,
    settings: ScoreSettings,
    device: torch.device,
    needs: set[Need],
    limits: Limits | None,
    clock: Clock,
) -> list[tuple[BlockEvidence, ...]]:
    """Run the pass for each seed; where no proxy needs it, return the evidence of the graph alone."""
    if needs <= {Need.GRAPH}:
        return [tuple(BlockEvidence(name=block.name) for block in found.blocks)] * settings.seeds
    with clock.phase("convert"):
        runner = Runner(
            model,
            found,
            batch_size=settings.batch_size,
            device=device,
            limits=limits,
            debias=settings.effort.debias,
            share_repeats=settings.effort.shares_repeats,
            clock=clock,
        )
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with clock.phase("draw input"):  # the rest: everything else has its own phase
        return [runner.measure(seed, gradients=Need.GRADIENTS in needs) for seed in seeds]


def _measure_whole(
    model: Model,
    found: Blocks,
    settings: ScoreSettings,
    device: torch.device,
    proxies: Sequence[Proxy],
    limits: Limits | None,
    clock: Clock,
) -> list[Mapping[str, StatisticResult]]:
    """Run each measurement of the whole network that a proxy names, once for each seed."""
    wanted = {proxy.measurement.name: proxy.measurement for proxy in proxies if proxy.measurement is not None}
    if not wanted:
        return [MappingProxyType({})] * settings.seeds
    from aznas_onnx.proxies.engine.seeded_network import RandomNetwork, measure

    with clock.phase("convert"):
        network = RandomNetwork(
            model,
            is_transformer=found.is_transformer,
            batch_size=settings.batch_size,
            device=device,
            limits=limits,
        )
    seeds = range(settings.seed, settings.seed + settings.seeds)
    owners = {
        proxy.measurement.name: proxy.name
        for proxy in proxies
        if proxy.measurement is not None and not PROXIES.is_built_in(proxy.name) and not proxy.measurement.is_built_in
    }
    return [measure(network, seed, wanted.values(), clock, owners) for seed in seeds]


def _structure(model: Model, costs: Costs, proxies: Sequence[Proxy], clock: Clock) -> Structure | None:
    if not any(proxy.uses_structure for proxy in proxies):
        return None
    from aznas_onnx.structure import measure_structure

    with clock.phase("structure"):
        return measure_structure(model, costs)


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
    """Evaluate a proxy; a user proxy that raises has no value, and the model keeps its other proxies."""
    if PROXIES.is_built_in(proxy.name):
        return proxy.evaluate(evidence)
    try:
        found: object = proxy.evaluate(evidence)
    except Exception as error:  # noqa: BLE001 - a user's proxy may raise anything
        return Outcome(value=math.nan, reason=f"proxy {proxy.name!r} fails: {summary(error)} ({place(error)})")
    number: object = found.value if isinstance(found, Outcome) else None
    if isinstance(found, Outcome) and isinstance(number, Real):
        return found
    kind = f"an Outcome of {number!r}" if isinstance(found, Outcome) else f"a {type(found).__name__}"
    reason = f"proxy {proxy.name!r}: evaluate() gives {kind}; an Outcome of a float is needed"
    return Outcome(value=math.nan, reason=reason)
