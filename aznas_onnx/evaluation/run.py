"""`az.bench`: agreement of scores with measured accuracies, from one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.agreement import COUNTED_SIZES, Evaluation, evaluate
from aznas_onnx.evaluation.correlation import Bootstrap, SizeMatch
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.sample_archs import choose_archs
from aznas_onnx.evaluation.score_archs import Scored, score_archs
from aznas_onnx.evaluation.scorefile import ScoreFile, Selection
from aznas_onnx.evaluation.truth import Truth, read_truth
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.registry import name_list
from aznas_onnx.ranking import Aggregation, Ensemble
from aznas_onnx.scoring import ScoreSettings, UnseededOptions
from aznas_onnx.searching.executors import Executor, Scorer
from aznas_onnx.searching.scorer import ModelScorer
from aznas_onnx.searching.space_reference import StoredSpace, find_space
from aznas_onnx.searching.stored_settings import StoredScoring, StoredSettings
from aznas_onnx.searching.workers import local_executor
from aznas_onnx.software import software_versions
from aznas_onnx.spaces import NetworkFiles, Space, SpaceOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BenchSource", "Run", "bench", "prepare_run"]

BenchSource: TypeAlias = "str | os.PathLike[str] | Space[Any] | Iterable[str | os.PathLike[str]]"
"""A space (or its name, or its file), or ONNX files."""

_SHOWN = 5  # files in a note


@dataclass(slots=True, kw_only=True)
class _Memory:
    """Stores records in memory."""

    records: dict[str, Record] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.records[record.arch] = record


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A benchmark that can be scored, and again after an interruption.

    Attributes
    ----------
    space
        The space.
    archs
        The architectures, in the order in which they are scored.
    settings
        Settings of the scores.
    selection
        How the architectures were chosen.
    scores
        File of the scores; None for memory.
    truth
        The measurements.
    ensembles
        Groups of proxies to report.
    match
        Which pairs are of the same size.
    """

    space: Space[Any]
    truth: Truth
    archs: tuple[str, ...]
    settings: StoredSettings
    selection: Selection
    scores: str | os.PathLike[str] | None
    make_executor: Callable[[], Executor]
    ensembles: tuple[str, ...] = ()
    match: SizeMatch = field(default_factory=SizeMatch)
    memory: _Memory = field(default_factory=_Memory)

    def score(self, on_progress: Callable[[Scored], None] | None = None) -> None:
        """Score the remaining architectures; an interruption loses no finished score.

        Raises
        ------
        SettingsError
            If the scores file cannot be continued, or the first architectures all fail.
        """
        if self.scores is None:
            score_archs(self.archs, self.space, self.make_executor, self.memory, on_progress)
            return
        with ScoreFile(
            self.scores, settings=self.settings, selection=self.selection, software=software_versions()
        ) as kept:
            self.memory.records = kept.records
            score_archs(self.archs, self.space, self.make_executor, kept, on_progress)

    def records(self) -> list[Record]:
        """Return the finished records, in the order of `archs`."""
        found = self.memory.records
        return [found[arch] for arch in self.archs if arch in found]

    def evaluate(
        self,
        ensemble: Ensemble,
        bootstrap: Bootstrap | None = None,
        on_resample: Callable[[int], None] | None = None,
        *,
        has_combinations: bool = False,
    ) -> Evaluation:
        """Compare the finished scores with the measurements."""
        return evaluate(
            self.records(),
            self.truth,
            aggregation=ensemble.aggregation,
            weights=ensemble.weights,
            directions=self.settings.scoring.directions,
            ensembles=self.ensembles,
            match=self.match,
            bootstrap=bootstrap,
            has_combinations=has_combinations,
            on_resample=on_resample,
        )


def prepare_run(
    source: BenchSource,
    truth: str | os.PathLike[str] | Truth,
    *,
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    lower: Collection[str] = (),
    match: SizeMatch | None = None,
    sample: int | None = None,
    seed: int = 0,
    unique: bool = False,
    scores: str | os.PathLike[str] | None = None,
    space_options: SpaceOptions | None = None,
    workers: int = 1,
    time_limit: float | None = None,
    settings: ScoreSettings | None = None,
    scorer: Scorer | None = None,
) -> Run:
    """Choose the architectures and the settings of their scores.

    Parameters
    ----------
    source
        A space, its name, or the path of a Python file that holds one; or a list of ONNX files, each called as its file
        without the ending.
    truth
        A CSV with a column ``arch`` (or ``model``) and columns of numbers, or its content.
    metrics, group, lower
        Columns of the CSV to compare with, all numbers by default; the column of the groups that are compared within;
        the columns where lower is better.
    match
        Which pairs are of the same size; within 10 % in MACs by default.
    sample, seed, unique
        See :func:`~aznas_onnx.evaluation.sample_archs.choose_archs`.
    scores
        The file that gets every score at once; an existing file is continued.
    space_options
        Options of a space that is given by name or path.
    workers
        Processes that score.
    time_limit
        As for :func:`aznas_onnx.search`.
    settings
        How to score.
    scorer
        Replaces building and scoring the network; `settings` are then unused.

    Raises
    ------
    SettingsError
        If an argument is not accepted.
    """
    match = match or SizeMatch()
    made, reference = _networks(source, space_options or {})
    names = made.names if isinstance(made, NetworkFiles) else ()
    if not isinstance(truth, Truth):
        size = None if match.by in COUNTED_SIZES else match.by
        truth = read_truth(truth, metrics, genotype=made.columns, group=group, size=size, lower=lower, names=names)
    if names:
        truth = _of_files(truth, names)
    archs = choose_archs(truth.archs, made, sample=sample, seed=seed, unique=unique)
    description = StoredSpace.of(made, reference)
    if scorer is None:
        scorer = ModelScorer(description.maker(made), settings or ScoreSettings(), time_limit)
    asked = name_list(settings.proxies or ()) if settings is not None else ()
    return Run(
        space=made,
        truth=truth,
        archs=archs,
        settings=StoredSettings(space=description, scoring=StoredScoring.from_json(dict(scorer.describe()))),
        selection=Selection(seed=seed, unique=unique),
        scores=scores,
        make_executor=partial(local_executor, scorer, workers),
        ensembles=tuple(name for name in asked if name in PROXIES.groups),
        match=match,
    )


def _networks(source: BenchSource, options: SpaceOptions) -> tuple[Space[Any], str | os.PathLike[str] | None]:
    """Return the space, and its reference if it has one."""
    if not isinstance(source, Space) and isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
        raise SettingsError(f"{source} is a folder; give the files in it, such as {Path(source) / '*.onnx'}")
    if isinstance(source, (str, os.PathLike, Space)):
        return find_space(source, options)
    if options:
        raise SettingsError(f"{next(iter(options))} is an option of a space; an ONNX file has its own")
    return NetworkFiles.of(source), None


def _of_files(truth: Truth, names: Sequence[str]) -> Truth:
    """Return the measurements of networks with a file, with a note on what is left out.

    Raises SettingsError if none is measured.
    """
    rows = [row for row, arch in enumerate(truth.archs) if arch in set(names)]
    if not rows:
        raise SettingsError(
            f"no network is measured: the files are called {names[0]!r} and so on, the measurements have "
            f"{truth.archs[0]!r}; an architecture is the name of a file without .onnx"
        )
    missing = [name for name in names if name not in set(truth.archs)]
    shown = ", ".join((*missing[:_SHOWN], *(["..."] if len(missing) > _SHOWN else [])))
    notes = (f"left out, because they are not measured ({len(missing):,} of {len(names):,} files): {shown}",)
    return truth.take(rows, notes if missing else ())


def bench(
    source: BenchSource,
    truth: str | os.PathLike[str] | Truth,
    *,
    group: str | None = None,
    lower: Collection[str] = (),
    match: SizeMatch | None = None,
    sample: int | None = None,
    seed: int = 0,
    unique: bool = False,
    metrics: Sequence[str] | None = None,
    scores: str | os.PathLike[str] | None = None,
    space_options: SpaceOptions | None = None,
    workers: int = 1,
    settings: ScoreSettings | None = None,
    aggregation: Aggregation | str | None = None,
    bootstrap: Bootstrap | None = None,
    on_progress: Callable[[Scored], None] | None = None,
    scorer: Scorer | None = None,
    **options: Unpack[UnseededOptions],
) -> Evaluation:
    """Score measured architectures, and compare the scores with the measurements.

    Parameters
    ----------
    source, truth, group, lower, match
        See :func:`prepare_run`.
    sample, seed, unique
        The sample of architectures (see :func:`~aznas_onnx.evaluation.sample_archs.choose_archs`).
    metrics
        Columns to compare with; all by default. Only for a CSV.
    scores
        The file that gets every score at once (one JSON object per line); an existing file is continued.
    space_options
        Options of a space that is given by name or path.
    workers
        Processes that score.
    settings
        Settings of the scores; or give keywords of :func:`aznas_onnx.scoring.score`, without its seed. A proxy can have
        a weight (``"synflow:0.5"``), on which the proxies do not depend.
    aggregation, bootstrap
        See :func:`~aznas_onnx.evaluation.agreement.evaluate`.
    on_progress
        Called before the first architecture and after each.
    scorer
        Replaces building and scoring the network.

    Raises
    ------
    SettingsError
        If an argument is not accepted, or the scores file has other settings.

    Examples
    --------
    >>> import aznas_onnx as az
    >>> found = az.bench("nb201", "accuracies.csv", sample=100, batch_size=8)   # doctest: +SKIP
    >>> found.overall.kendall["cifar10"].value                                  # doctest: +SKIP
    0.72
    """
    settings = ScoreSettings.of(settings, **options)
    PROXIES.load_all(settings.proxies)
    run = prepare_run(
        source,
        truth,
        metrics=metrics,
        group=group,
        lower=lower,
        match=match,
        sample=sample,
        seed=seed,
        unique=unique,
        scores=scores,
        space_options=space_options,
        workers=workers,
        settings=settings,
        scorer=scorer,
    )
    run.score(on_progress)
    return run.evaluate(Ensemble.of(settings.proxies, aggregation), bootstrap)
