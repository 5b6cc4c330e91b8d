"""`az.search`: a study from one call."""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Aggregation, Ensemble
from aznas_onnx.scoring import ScoreOptions, ScoreSettings
from aznas_onnx.searching.budget import Budget, CountConvention
from aznas_onnx.searching.executors import Executor, Scorer
from aznas_onnx.searching.identity import Identity
from aznas_onnx.searching.latency_cache import LatencyCache
from aznas_onnx.searching.loop import SearchLoop
from aznas_onnx.searching.proposing import Proposer
from aznas_onnx.searching.sampled_kind import settled
from aznas_onnx.searching.scorer import ModelScorer
from aznas_onnx.searching.search_progress import Progress
from aznas_onnx.searching.settings import Strategy, StudySettings
from aznas_onnx.searching.space_reference import StoredSpace, find_space
from aznas_onnx.searching.store.database import stored_settings
from aznas_onnx.searching.store.history import History
from aznas_onnx.searching.stored_settings import StoredScoring
from aznas_onnx.searching.study import Study
from aznas_onnx.searching.workers import local_executor
from aznas_onnx.spaces import Space, SpaceOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["default_top_k", "search"]

E = TypeVar("E", bound=enum.Enum)

_PAPER_TOP_K = 1024
_SMALLEST_TOP_K = 16
_MEASURED_AGAIN = 5  # of the best, at the end


def search(
    space: str | os.PathLike[str] | Space[Any],
    budget: Budget | None = None,
    *,
    iterations: int = 1000,
    strategy: Strategy | str = Strategy.EVOLUTION,
    top_k: int | None = None,
    count: CountConvention | str = CountConvention.GRAPH,
    db: str | os.PathLike[str] | None = None,
    resume: bool = False,
    space_options: SpaceOptions | None = None,
    score_resolution: int | None = None,
    workers: int = 1,
    time_limit: float | None = None,
    settings: ScoreSettings | None = None,
    aggregate: Aggregation | str | None = None,
    scorer: Scorer | None = None,
    make_executor: Callable[[Scorer], Executor] | None = None,
    max_tries: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Unpack[ScoreOptions],
) -> Study:
    """Search a space for the networks with the best AZ-NAS scores (Algorithm 1 of the paper).

    The first ten candidates are mutated from the start of the space, those up to `top_k` from random earlier
    candidates, the others from one of the `top_k` best so far, ranked by Eq. 12 over the whole history. Candidates over
    budget are not scored, and no network is scored twice, as far as the space tells equal ones
    (:meth:`~aznas_onnx.spaces.Space.canonical`). With one worker the result follows from the arguments alone.

    Parameters
    ----------
    space
        A space, its name, or the path of a Python file with one.
    budget
        Limits on multiply-adds, parameters, layers and latency; none by default.
    iterations
        Candidates to score, those in the file included.
    strategy
        ``evolution``, or ``random`` for candidates sampled from the space.
    top_k
        Number of the best candidates that are mutated; by default that of the file, or 1,024 as in the paper, or a
        tenth of `iterations` (at least 16) where that is less.
    count
        ``graph``, or ``paper`` for the FLOPs of the authors' own code in budget and complexity.
    db
        The study's file (SQLite); without one the study is in memory.
    resume
        Continue the study in the file, which must have the same settings (`iterations` and `workers` can differ).
        Several processes can do so at once.
    space_options
        Options of a space that is given by name or path: `resolution`, `num_classes` and others of the space.
    score_resolution
        Score the networks on images of this size instead of the space's: cheaper, with a slightly different ranking.
        Budgets, complexity and exports use the space's own. Needs a space that is given by name or path.
    workers
        Processes that score. With more than one, the order of results, and so the search, depends on their timing.
    time_limit
        Seconds that reading a candidate, and its scoring pass by estimate, may take; 6 and 3,600 by default.
    settings
        Settings of the scores; or give keywords of :func:`aznas_onnx.scoring.score`. The effort is ``"auto"`` by
        default. The seed is also that of every random choice of the search. A proxy can have a weight in the ranking
        (``"synflow:0.5"``).
    aggregate
        How ranks are combined: ``"log-rank"`` (Eq. 12) or ``"linear"``; by default the aggregation of a group such as
        ``best``, else log-rank. What varies in the space, which ``best`` goes by, is seen from sampled networks.
    scorer
        Replaces building and scoring the network; of the settings only seed and proxies are then used.
    make_executor
        Makes the executor from the scorer, instead of `workers`.
    max_tries
        Genotypes to try for one candidate; by default 20,000, or 2,000 where the space counts by building each network.
    on_progress
        Called with the state of the search a few times a second at most.

    Returns
    -------
    Study
        All trials, ranked over the whole history.

    Raises
    ------
    SettingsError
        If an argument is not accepted.
    StudyError
        If the file cannot be used or resumed, the budget admits no network, or the first candidates all fail.

    Examples
    --------
    >>> import aznas_onnx as az
    >>> study = az.search("nb201", iterations=300, db="run.db")              # doctest: +SKIP
    >>> study.best(3)                                                        # doctest: +SKIP
    """
    if iterations < 1:
        raise SettingsError(f"{iterations} iterations are too few; at least 1 candidate must be scored")
    path = None if db is None else Path(db)
    if settings is None and scorer is None:
        options = {"effort": "auto", **options}
    settings = ScoreSettings.of(settings, **options)
    PROXIES.load_all(settings.proxies)
    searched, reference = find_space(space, space_options or {})
    description = StoredSpace.of(searched, reference)
    if scorer is None:
        scorer = ModelScorer(description.maker(searched, score_resolution), settings, time_limit)
    stored = stored_settings(path) if resume and path is not None else None
    if top_k is None:
        top_k = stored.top_k if stored is not None else default_top_k(iterations)
    budget = budget or Budget()
    study_settings = StudySettings(
        space=description,
        budget=budget,
        count=_choice(CountConvention, count, "count"),
        strategy=_choice(Strategy, strategy, "strategy"),
        top_k=top_k,
        seed=settings.seed,
        scoring=StoredScoring.from_json(dict(scorer.describe())),
        ensemble=settled(Ensemble.of(settings.proxies, aggregate), searched, settings.seed),
        identity=stored.identity if stored is not None else Identity.of(searched),
    )
    # Everything that can be refused is refused before there is a file.
    latencies = None if budget.latency_ms is None else LatencyCache(searched)
    proposer = Proposer(searched, study_settings, max_tries, latencies)
    executor = make_executor(scorer) if make_executor else local_executor(scorer, workers)
    with contextlib.closing(executor), History.open(path, study_settings, resume=resume) as history:
        if latencies is not None:
            latencies.attach(history, executor)
        stopped = SearchLoop(history, proposer, executor, iterations, on_progress).run()
        study = Study(
            settings=study_settings, trials=history.trials(), path=path, stopped=stopped, software=history.software()
        )
        if latencies is None:
            return study
        executor.close()  # no worker runs during the last measurements
        for one in study.best(_MEASURED_AGAIN):
            history.keep_again(one.trial.genotype, latencies.again(one.trial.genotype))
        return replace(study, again=MappingProxyType(history.again()), doubt=latencies.doubt)


def default_top_k(iterations: int) -> int:
    """Return the default number of mutated candidates: the paper's 1,024, or a tenth of a shorter search.

    With the paper's number a search of a few hundred candidates would end before its first selection.
    """
    return min(_PAPER_TOP_K, max(_SMALLEST_TOP_K, iterations // 10))


def _choice(kind: type[E], value: E | str, name: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        accepted = ", ".join(str(one.value) for one in kind)
        raise SettingsError(f"{name} is {value!r}; accepted are {accepted}") from error
