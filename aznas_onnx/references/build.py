"""Build a reference set from networks or from a search space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from aznas_onnx.errors import AznasError, ModelError, SettingsError
from aznas_onnx.references.reference_set import Member, ReferenceSet, ReferenceSettings
from aznas_onnx.references.sample_input import SampleInput, common_input_shape
from aznas_onnx.references.sample_space import sample_networks
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching import Budget
from aznas_onnx.spaces import Space, build_source

__all__ = ["BuildInterrupted", "add_models", "build_from_models", "build_from_space", "check_comparable"]

Source = str | os.PathLike[str]
OnResult = Callable[[ProxyScores], None]


class BuildInterrupted(KeyboardInterrupt):
    """Scoring was interrupted after some networks.

    Attributes
    ----------
    reference_set
        What was scored until then; for :func:`add_models`, with what was there before.
    scored
        How many networks were tried.
    """

    def __init__(self, reference_set: ReferenceSet, scored: int) -> None:
        super().__init__()
        self.reference_set = reference_set
        self.scored = scored


def build_from_models(
    sources: Sequence[Source],
    *,
    name: str,
    command: str = "",
    on_result: OnResult | None = None,
    **scoring: Any,
) -> ReferenceSet:
    """Score networks and keep them as a reference_set.

    Parameters
    ----------
    sources
        Paths of ONNX files, all with one input size.
    name, command
        What the reference set is called, and what made it.
    on_result
        Called with each score.
    scoring
        As for :func:`aznas_onnx.scoring.score`.

    Raises
    ------
    SettingsError
        If fewer than two can be scored, or their inputs, or the batch sizes that they work at, differ.
    BuildInterrupted
        At Ctrl-C, if two or more were scored.
    """
    settings = _settings(scoring)
    shape = common_input_shape(((os.fspath(source), source) for source in sources), settings.batch_size, scoring)

    def make(scores: Sequence[ProxyScores]) -> ReferenceSet:
        return _reference_set(
            scores,
            replace(settings, input_shape=shape),
            name=name,
            command=command,
            description="networks of one's own",
            scoring=scoring,
        )

    return make(_score(sources, scoring, on_result, make))


def add_models(
    reference_set: ReferenceSet, sources: Sequence[Source], *, on_result: OnResult | None = None, **others: Any
) -> tuple[ReferenceSet, tuple[ProxyScores, ...]]:
    """Score further networks as a reference set's were, and return it with them, and their scores.

    Raises
    ------
    SettingsError
        If their input is not the reference set's.
    BuildInterrupted
        At Ctrl-C, if one or more were scored.
    """
    own = {"seeds": reference_set.seeds, "proxies": reference_set.proxies}
    scoring = {**reference_set.settings.as_scoring(), **own, **others}
    check_comparable(reference_set, sources, **scoring)
    scores = _score(sources, scoring, on_result, reference_set.joined)
    return reference_set.joined(scores), tuple(scores)


def check_comparable(reference_set: ReferenceSet, sources: Sequence[Source], **scoring: Any) -> None:
    """Refuse networks, settings of scoring, or proxies, that do not compare with a reference_set.

    A network that cannot be read is not refused here: scoring it says why.

    Raises
    ------
    SettingsError
        Says what differs, and the remedy.
    """
    from aznas_onnx.proxies import PROXIES

    settings = _settings(scoring)
    asked = [proxy.name for proxy in PROXIES.load_all(scoring.get("proxies") or reference_set.proxies)]
    if not set(asked) & set(reference_set.proxies):
        raise SettingsError(
            f"{', '.join(asked)} cannot be placed in reference {reference_set.name!r}, which holds "
            f"{', '.join(reference_set.proxies)}; ask for one or more of these"
        )
    for source in sources:
        try:
            found = SampleInput.of(source, scoring)
        except ModelError:
            continue
        given = replace(settings, input_shape=found.shape)
        reference_set.settings.refuse_others(given, name=reference_set.name, of=os.fspath(source))
        found.refuse_other_batch(settings.batch_size, of=os.fspath(source))


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
) -> ReferenceSet:
    """Draw networks from a space within a budget, score them, and keep them as a reference_set.

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
    BuildInterrupted
        At Ctrl-C, if two or more were scored.
    """
    genotypes = sample_networks(space, budget, sample, sample_seed)
    settings = _settings(scoring)
    scores: list[ProxyScores] = []
    shape: tuple[int, ...] = ()

    def make(scores: Sequence[ProxyScores]) -> ReferenceSet:
        return _reference_set(
            scores,
            replace(settings, input_shape=shape),
            name=name,
            command=command,
            description=f"{space.name}, {budget}" if str(budget) != "no limits" else space.name,
            scoring=scoring,
        )

    with _kept(scores, make):
        for text, genotype in genotypes.items():
            one, found = _score_drawn(space, text, genotype, settings.batch_size, scoring, shape)
            shape = shape or found
            scores.append(one)
            if on_result is not None:
                on_result(one)
    return make(scores)


def _settings(scoring: Mapping[str, Any]) -> ReferenceSettings:
    """Return what decides whether scores compare, but for the input; from the arguments of scoring."""
    from aznas_onnx.scoring import ScoreSettings

    settings = ScoreSettings.of(**{name: value for name, value in scoring.items() if name != "limits"})
    return ReferenceSettings(
        effort=settings.effort.value,
        batch_size=settings.batch_size,
        input_shape=(),
        keep_graph=settings.keep_graph,
        as_published=settings.as_published,
        blocks=settings.blocks,
    )


def _score(
    sources: Sequence[Source],
    scoring: Mapping[str, Any],
    on_result: OnResult | None,
    make: Callable[[Sequence[ProxyScores]], ReferenceSet],
) -> list[ProxyScores]:
    from aznas_onnx.scoring import score_many

    scores: list[ProxyScores] = []

    def keep(one: ProxyScores) -> None:
        scores.append(one)
        if on_result is not None:
            on_result(one)

    with _kept(scores, make):
        score_many(sources, on_result=keep, **scoring)
    return scores


@contextmanager
def _kept(scores: Sequence[ProxyScores], make: Callable[[Sequence[ProxyScores]], ReferenceSet]) -> Iterator[None]:
    """Let an interruption carry the reference set that is made of the scores until then, as far as there is one."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not any(one.status is Status.OK for one in scores):
            raise
        try:
            reference_set = make(scores)
        except SettingsError:  # too few
            raise interruption from None
        raise BuildInterrupted(reference_set, len(scores)) from None


def _score_drawn(
    space: Space[Any], text: str, genotype: Any, batch_size: int, scoring: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[ProxyScores, tuple[int, ...]]:
    """Score one network of a space, and return its input too; one that cannot be built, or does not compare, failed."""
    from aznas_onnx.scoring import score_many

    try:
        model = build_source(space, genotype)
        found = SampleInput.of(model, scoring)
        found.refuse_other_batch(batch_size, of=text)
        if shape and found.shape != shape:
            taken, usual = ("x".join(map(str, one)) for one in (found.shape, shape))
            raise SettingsError(f"{text} takes {taken}, and the networks before it {usual}")
    except AznasError as error:
        return ProxyScores(model=text, status=Status.FAILED, reason=str(error)), ()
    (scores,) = score_many([model], **scoring)
    return replace(scores, model=text), found.shape


def _reference_set(
    scores: Sequence[ProxyScores],
    settings: ReferenceSettings,
    *,
    name: str,
    command: str,
    description: str,
    scoring: Mapping[str, Any],
) -> ReferenceSet:
    from aznas_onnx.evaluation.software import software_versions

    members = [Member.of(one) for one in scores if one.status is Status.OK]
    if len(members) < 2:
        reason = next((one.reason for one in scores if one.reason), "none was given")
        raise SettingsError(
            f"a reference needs two networks that can be scored, and there are {len(members)}: {reason}"
        )
    return ReferenceSet(
        name=name,
        description=description,
        command=command,
        settings=settings,
        members=tuple(members),
        seeds=int(scoring.get("seeds", 1)),
        software=software_versions(),
    )
