"""From networks, or a search space, to a stored population. Scoring loads torch when it begins."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.gating.population import Member, Population, PopulationSettings
from aznas_onnx.inspection import inspect
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching import Budget
from aznas_onnx.spaces import Space

__all__ = [
    "add_models",
    "build_from_models",
    "build_from_space",
    "check_comparable",
    "draw",
    "sample_input_shape",
]

_TRIES_EACH = 2000  # genotypes drawn for each one that is within budget
Source = str | os.PathLike[str]
OnResult = Callable[[ProxyScores], None]


def build_from_models(
    sources: Sequence[Source],
    *,
    name: str,
    command: str = "",
    on_result: OnResult | None = None,
    **scoring: Any,
) -> Population:
    """Score networks and keep them as a population.

    Parameters
    ----------
    sources
        Paths of ONNX files, all with one input size.
    name, command
        What the population is called, and what made it.
    on_result
        Called with each score.
    scoring
        As for :func:`aznas_onnx.scoring.score`.

    Raises
    ------
    SettingsError
        If fewer than two can be scored, or their inputs differ.
    """
    settings, shape = _settings(scoring), _common_shape(sources, scoring)
    scores = _score(sources, scoring, on_result)
    return _population(
        scores,
        replace(settings, input_shape=shape),
        name=name,
        command=command,
        description="networks of one's own",
        scoring=scoring,
    )


def add_models(
    population: Population, sources: Sequence[Source], *, on_result: OnResult | None = None, **others: Any
) -> tuple[Population, tuple[ProxyScores, ...]]:
    """Score further networks as a population's were, and return it with them, and their scores.

    Raises
    ------
    SettingsError
        If their input is not the population's.
    """
    scoring = {**population.settings.as_scoring(), "seeds": population.seeds, **others}
    check_comparable(population, sources, **scoring)
    scores = _score(sources, scoring, on_result)
    return population.joined(scores), tuple(scores)


def check_comparable(population: Population, sources: Sequence[Source], **scoring: Any) -> None:
    """Refuse networks, or settings of scoring, that do not compare with a population.

    A network that cannot be read is not refused here: scoring it says why.

    Raises
    ------
    SettingsError
        Says what differs, and the remedy.
    """
    settings = _settings(scoring)
    for source in sources:
        try:
            shape = sample_input_shape(source, scoring.get("input_shapes"))
        except ModelError:
            continue
        given = replace(settings, input_shape=shape)
        population.settings.refuse_others(given, name=population.name, of=os.fspath(source))


def build_from_space(
    space: Space[Any],
    budget: Budget,
    sample: int,
    *,
    name: str,
    sample_seed: int = 0,
    command: str = "",
    on_result: OnResult | None = None,
    **scoring: Any,
) -> Population:
    """Draw networks from a space within a budget, score them, and keep them as a population.

    Parameters
    ----------
    space, budget
        Where the networks come from. Latency takes no part.
    sample
        How many different ones.
    sample_seed
        Of drawing them.

    Raises
    ------
    SettingsError
        If the space has too few within budget.
    """
    genotypes = draw(space, budget, sample, sample_seed)
    settings = _settings(scoring)
    first = space.build(genotypes[0])
    models = ((space.format(genotype), space.source(genotype)) for genotype in genotypes)
    scores = _score_named(models, scoring, on_result)
    described = f"{space.name}, {budget}" if str(budget) != "no limits" else space.name
    shape = sample_input_shape(first)
    return _population(
        scores, replace(settings, input_shape=shape), name=name, command=command, description=described, scoring=scoring
    )


def draw(space: Space[Any], budget: Budget, sample: int, seed: int) -> list[Any]:
    """Draw different genotypes within a budget, as :meth:`Space.sample` draws them.

    Raises
    ------
    SettingsError
        If so many are not found.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    tries = 0
    while len(found) < sample:
        tries += 1
        if tries > _TRIES_EACH * sample:
            raise SettingsError(
                f"only {len(found)} different networks of {space.name} were found within {budget} in {tries:,} draws; "
                f"ask for fewer than {sample}, or widen the budget"
            )
        genotype = space.sample(rng)
        counts = {"macs": space.macs, "params": space.params, "layers": space.layers}
        limits = [(counts[name], limit) for name, limit in budget.limits() if not limit.is_open]
        if all(limit.admits(count(genotype)) for count, limit in limits):
            found.setdefault(space.format(genotype), genotype)
    return list(found.values())


def sample_input_shape(
    source: Source | onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[int, ...]:
    """Return the shape of one sample of the input that carries the samples."""
    inspection = inspect(source, input_shapes=input_shapes)
    return inspection.inputs[inspection.sample_input]


def _settings(scoring: Mapping[str, Any]) -> PopulationSettings:
    """Return what decides whether scores compare, but for the input; from the arguments of scoring."""
    from aznas_onnx.scoring import ScoreSettings

    settings = ScoreSettings.of(**scoring)
    return PopulationSettings(
        effort=settings.effort.value,
        batch_size=settings.batch_size,
        input_shape=(),
        keep_graph=settings.keep_graph,
        as_published=settings.as_published,
    )


def _common_shape(sources: Sequence[Source], scoring: Mapping[str, Any]) -> tuple[int, ...]:
    kinds: dict[tuple[int, ...], str] = {}
    for source in sources:
        with suppress(ModelError):  # scoring says why that one cannot be read
            kinds.setdefault(sample_input_shape(source, scoring.get("input_shapes")), os.fspath(source))
    if len(kinds) > 1:
        told = " and ".join(f"{'x'.join(map(str, shape))} ({source})" for shape, source in list(kinds.items())[:2])
        raise SettingsError(f"the networks of a reference must have one input size, and these have {told}")
    return next(iter(kinds), ())


def _score(sources: Sequence[Source], scoring: Mapping[str, Any], on_result: OnResult | None) -> list[ProxyScores]:
    from aznas_onnx.scoring import score_many

    return score_many(sources, on_result=on_result, **scoring)


def _score_named(
    models: Iterator[tuple[str, Any]], scoring: Mapping[str, Any], on_result: OnResult | None
) -> list[ProxyScores]:
    from aznas_onnx.scoring import score_many

    found = []
    for name, model in models:
        (scores,) = score_many([model], **scoring)
        found.append(replace(scores, model=name))
        if on_result is not None:
            on_result(found[-1])
    return found


def _population(
    scores: Sequence[ProxyScores],
    settings: PopulationSettings,
    *,
    name: str,
    command: str,
    description: str,
    scoring: Mapping[str, Any],
) -> Population:
    from aznas_onnx.benching.software import software_versions

    members = [Member.of(one) for one in scores if one.status is Status.OK]
    if len(members) < 2:
        reason = next((one.reason for one in scores if one.reason), "none was given")
        raise SettingsError(
            f"a reference needs two networks that can be scored, and there are {len(members)}: {reason}"
        )
    return Population(
        name=name,
        description=description,
        command=command,
        settings=settings,
        members=tuple(members),
        seeds=int(scoring.get("seeds", 1)),
        software=software_versions(),
    )
