"""Build a reference set from networks or from a search space."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from aznas_onnx import scoring
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.graph import Limits
from aznas_onnx.references.reference_set import Member, ReferenceSet, ReferenceSettings
from aznas_onnx.references.sample_input import NetworksToScore, SampleInput
from aznas_onnx.references.sample_space import sample_networks
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.scoring import ScoreOptions, ScoreSettings
from aznas_onnx.searching import Budget
from aznas_onnx.software import software_versions
from aznas_onnx.spaces import Space, build_source

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BuildInterrupted", "add_models", "build_from_models", "build_from_space", "check_comparable"]

G = TypeVar("G", bound=Hashable)
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
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    on_result: OnResult | None = None,
    **options: Unpack[ScoreOptions],
) -> ReferenceSet:
    """Score networks and return them as a reference set.

    Parameters
    ----------
    sources
        Paths of ONNX files, all with one input size.
    name, command
        Name of the reference set, and the command that made it.
    settings
        Settings of the scores; or give keywords of :func:`aznas_onnx.scoring.score`.
    limits
        Limits on a file.
    on_result
        Called with each score.

    Raises
    ------
    SettingsError
        If fewer than two can be scored, or their inputs or batch sizes differ.
    BuildInterrupted
        At Ctrl-C, if two or more were scored.
    """
    scoring_settings = ScoreSettings.of(settings, **options)
    networks = NetworksToScore(sources, scoring_settings, limits)
    shape = networks.common_input_shape()

    def make(scores: Sequence[ProxyScores]) -> ReferenceSet:
        return _reference_set(scores, scoring_settings, shape, name=name, command=command, description="")

    return make(_score(networks, scoring_settings, limits, on_result, make))


def add_models(
    reference_set: ReferenceSet,
    sources: Sequence[Source],
    *,
    limits: Limits | None = None,
    on_result: OnResult | None = None,
    **others: Unpack[ScoreOptions],
) -> tuple[ReferenceSet, tuple[ProxyScores, ...]]:
    """Score further networks as a reference set's were, and return it with them, and their scores.

    Raises
    ------
    SettingsError
        If their input is not the reference set's.
    BuildInterrupted
        At Ctrl-C, if one or more were scored.
    """
    options: ScoreOptions = {**reference_set.options(), **others}
    settings = ScoreSettings.of(**options)
    networks = check_comparable(reference_set, sources, settings, limits)
    scores = _score(networks, settings, limits, on_result, reference_set.joined)
    return reference_set.joined(scores), tuple(scores)


def check_comparable(
    reference_set: ReferenceSet, sources: Sequence[Source], settings: ScoreSettings, limits: Limits | None = None
) -> NetworksToScore:
    """Refuse networks, settings or proxies that do not compare with a reference set.

    A network that cannot be read is not refused here: scoring it gives the reason.

    Returns
    -------
    NetworksToScore
        To give to :func:`aznas_onnx.scoring.score_many` in place of the paths, so that no file is read twice.

    Raises
    ------
    SettingsError
        With the difference and the remedy.
    """
    requested = settings.loaded().proxies
    if not set(requested) & set(reference_set.proxies):
        raise SettingsError(
            f"{', '.join(requested)} cannot be placed in reference set {reference_set.name!r}, which holds "
            f"{', '.join(reference_set.proxies)}; ask for one or more of these"
        )
    networks = NetworksToScore(sources, settings, limits)
    for path, found in networks.inputs():
        given = ReferenceSettings.of(settings, found.shape)
        reference_set.settings.refuse_others(given, name=reference_set.name, of=path)
        found.refuse_other_batch(settings.batch_size, of=path)
    return networks


def build_from_space(
    space: Space[G],
    budget: Budget,
    sample: int,
    *,
    name: str,
    sample_seed: int = 0,
    command: str = "",
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    on_result: OnResult | None = None,
    **options: Unpack[ScoreOptions],
) -> ReferenceSet:
    """Sample networks from a space within a budget, score them, and return them as a reference set.

    Parameters
    ----------
    space, budget
        Space and budget of the networks. A budget on latency is ignored.
    sample
        Number of different networks.
    sample_seed
        Of sampling them.
    settings, limits, on_result, options
        As for :func:`build_from_models`.

    Raises
    ------
    SettingsError
        If the space has too few within budget.
    BuildInterrupted
        At Ctrl-C, if two or more were scored.
    """
    genotypes = sample_networks(space, budget, sample, sample_seed)
    scoring_settings = ScoreSettings.of(settings, **options)
    scores: list[ProxyScores] = []
    shape: tuple[int, ...] = ()

    def make(scores: Sequence[ProxyScores]) -> ReferenceSet:
        description = f"{space.name}, {budget}" if str(budget) != "no limits" else space.name
        return _reference_set(scores, scoring_settings, shape, name=name, command=command, description=description)

    with _kept(scores, make):
        for text, genotype in genotypes.items():
            one, found = _score_sampled(space, text, genotype, scoring_settings, limits, shape)
            shape = shape or found
            scores.append(one)
            if on_result is not None:
                on_result(one)
    return make(scores)


def _score(
    sources: NetworksToScore,
    settings: ScoreSettings,
    limits: Limits | None,
    on_result: OnResult | None,
    make: Callable[[Sequence[ProxyScores]], ReferenceSet],
) -> list[ProxyScores]:
    scores: list[ProxyScores] = []

    def keep(one: ProxyScores) -> None:
        scores.append(one)
        if on_result is not None:
            on_result(one)

    with _kept(scores, make):
        scoring.score_many(sources, settings=settings, limits=limits, on_result=keep)
    return scores


@contextmanager
def _kept(scores: Sequence[ProxyScores], make: Callable[[Sequence[ProxyScores]], ReferenceSet]) -> Iterator[None]:
    """Attach the reference set of the finished scores to an interruption, if there are enough."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not any(result.status is Status.OK for result in scores):
            raise
        try:
            reference_set = make(scores)
        except SettingsError:  # too few
            raise interruption from None
        raise BuildInterrupted(reference_set, len(scores)) from None


def _score_sampled(
    space: Space[G],
    text: str,
    genotype: G,
    settings: ScoreSettings,
    limits: Limits | None,
    shape: tuple[int, ...],
) -> tuple[ProxyScores, tuple[int, ...]]:
    """Score one network of a space, and return its input too; one that cannot be built, or does not compare, failed."""
    try:
        model = settings.read(build_source(space, genotype), limits)
        found = SampleInput.of(model)
        found.refuse_other_batch(settings.batch_size, of=text)
        if shape and found.shape != shape:
            taken, usual = ("x".join(map(str, one)) for one in (found.shape, shape))
            raise SettingsError(f"{text} takes {taken}, and the networks before it {usual}")
    except AznasError as error:
        return ProxyScores(model=text, status=Status.FAILED, reason=str(error)), ()
    (scores,) = scoring.score_many([model], settings=settings, limits=limits)
    return replace(scores, model=text), found.shape


def _reference_set(
    scores: Sequence[ProxyScores],
    settings: ScoreSettings,
    input_shape: tuple[int, ...],
    *,
    name: str,
    command: str,
    description: str,
) -> ReferenceSet:
    members = [Member.of(result) for result in scores if result.status is Status.OK]
    if len(members) < 2:
        reason = next((result.reason for result in scores if result.reason), None)
        found = f"there are {len(members)}: {reason}" if reason else f"{len(members) or 'none'} was given"
        raise SettingsError(f"a reference set needs two networks that can be scored, and {found}")
    return ReferenceSet(
        name=name,
        description=description,
        command=command,
        settings=ReferenceSettings.of(settings, input_shape),
        members=tuple(members),
        seeds=settings.seeds,
        software=software_versions(),
    )
