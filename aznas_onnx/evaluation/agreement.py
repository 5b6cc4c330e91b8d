"""Agreement of scores with measured accuracies: all numbers of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.correlation import (
    Bootstrap,
    Cohort,
    Interval,
    Resampled,
    SizeMatch,
    close_pairs,
    interval,
    kendall_matrix,
    resample,
)
from aznas_onnx.evaluation.measured import Measured, measured, proxy_table
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.selection import Repeated, TopK, select_repeatedly, top_k
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import Aggregation, CohortKind, Ensemble, aggregate, for_cohort

__all__ = ["COUNTED_SIZES", "Agreement", "Evaluation", "evaluate"]

Floats = npt.NDArray[np.float64]

_BASELINES = ("macs", "params", "layers")
COUNTED_SIZES = ("macs", "params")
"""Counts that pairs can be matched by; any other size is a column of the measurements."""
_ALL_SUBSETS_UP_TO = 5  # proxies; beyond, only all of them and all but one


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The agreement of one predictor with the measurements.

    Attributes
    ----------
    proxies
        Its parts: one proxy or baseline, or several that are aggregated.
    aggregation
        The aggregation; None for one alone.
    kendall, spearman
        By column: tau-b and rho.
    matched
        By column: tau-b over pairs of the same size.
    ensemble
        Name of the group of proxies that it is; empty for any other predictor.
    """

    proxies: tuple[str, ...]
    aggregation: Aggregation | None
    kendall: Mapping[str, Interval]
    spearman: Mapping[str, Interval]
    matched: Mapping[str, Interval]
    ensemble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of a benchmark.

    Attributes
    ----------
    n, failed
        Architectures that count, and that could not be scored.
    columns
        The measurements.
    proxies
        The proxies of the score.
    aggregation, weights
        The aggregation of the score, and the weights that are not 1.
    overall
        The score of all proxies.
    single, ensembles, combined, baselines
        Each proxy alone; the groups of proxies asked for; each set of two and more, by both aggregations, if asked for;
        counts as baselines.
    proxy_correlation
        (n_proxies, n_proxies) Kendall's tau-b between the proxies, as Figure 3 of the paper.
    top
        By column: accuracies of the best-scored.
    selected
        By column: the best-scored of random subsets, as in Table 1; empty where there are too few.
    seconds
        Median wall-clock time of building and scoring one architecture.
    bootstrap
        Settings of the intervals.
    match, n_pairs
        Which pairs are of the same size, and how many there are.
    n_groups
        Number of groups that architectures are compared within; 1 where all are compared.
    warnings
        The proxies that were left out, and why; what was done to the measurements.
    """

    n: int
    failed: int
    columns: tuple[str, ...]
    proxies: tuple[str, ...]
    aggregation: Aggregation
    overall: Agreement
    single: tuple[Agreement, ...]
    ensembles: tuple[Agreement, ...]
    combined: tuple[Agreement, ...]
    baselines: tuple[Agreement, ...]
    proxy_correlation: tuple[tuple[float | None, ...], ...]
    top: Mapping[str, tuple[TopK, ...]]
    selected: Mapping[str, Repeated]
    seconds: float
    bootstrap: Bootstrap
    match: SizeMatch
    n_pairs: int
    n_groups: int = 1
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    kind: CohortKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predictor:
    kind: str  # the field of Evaluation that it belongs to
    proxies: tuple[str, ...]
    places: list[int]  # of its proxies among all
    aggregation: Aggregation | None = None
    weights: tuple[float, ...] | None = None
    ensemble: str = ""


def evaluate(
    records: Sequence[Record],
    truth: Truth,
    *,
    aggregation: Aggregation | str = Aggregation.LOG_RANK,
    weights: Mapping[str, float] | None = None,
    directions: Mapping[str, Direction] | None = None,
    ensembles: Collection[str] = (),
    match: SizeMatch | None = None,
    bootstrap: Bootstrap | None = None,
    is_whole: bool = True,
    has_combinations: bool = False,
    on_resample: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare scores with measurements.

    A proxy without a finite value ranks its architecture lowest, as in the published code; architectures that could
    not be scored are left out. Architectures of several groups are ranked and compared within each; the correlations
    are averaged, each group counted by its architectures.

    Parameters
    ----------
    records
        Scored architectures, all of them in `truth`.
    aggregation
        Of the overall score.
    weights
        By proxy: how often it counts wherever it is combined with others; once by default, and 0 to leave it out.
    directions
        By proxy: which way it points, where it need not be registered; see :attr:`Scores.directions`.
    ensembles
        Names of groups of proxies to report beside the score of all, each by its own aggregation.
    match
        Which pairs are of the same size; within 10 % in MACs by default.
    bootstrap
        How to make confidence intervals; 200 resamples by default.
    is_whole
        Whether to look at each proxy, the groups and the baselines too, which takes most of the time.
    has_combinations
        Whether to look at each set of two and more proxies, too.
    on_resample
        Called with the number of each resample that is done.

    Raises
    ------
    SettingsError
        If fewer than two architectures were scored, they share no proxy, or one is not measured.
    """
    bootstrap, match = bootstrap or Bootstrap(), match or SizeMatch()
    asked = Ensemble(aggregation=Aggregation(aggregation), weights=MappingProxyType(dict(weights or {})))
    scored = measured(records, truth)
    if len(scored.records) < 2:
        raise SettingsError(
            f"{len(scored.records)} of {len(records)} architectures are scored; 2 or more can be compared"
        )
    names, warnings, table = proxy_table(scored.records, weights, directions)
    columns = [record.proxies for record in scored.records]
    combined, kind = for_cohort(asked, columns)
    groups = {name: for_cohort(Ensemble.of([name]), columns)[0] for name in ensembles}
    others = (*_predictors(names, groups, asked, has_combinations=has_combinations),) if is_whole else ()
    predictors = [_overall(names, combined), *others]
    values = np.column_stack([table, *(_counts(scored.records, name) for name in _BASELINES)])
    cohort = Cohort(proxies=values, truth=scored.values, groups=scored.groups, sizes=_sizes(scored, match))

    def predict(drawn: Floats) -> Floats:
        return np.column_stack([_predict(drawn[:, predictor.places], predictor) for predictor in predictors])

    resampled = resample(cohort, predict, bootstrap, within=match.within, on_resample=on_resample)
    agreements = _agreements(predictors, truth.columns, resampled, bootstrap.level)
    by_kind = {
        kind: tuple(found for one, found in zip(predictors, agreements, strict=True) if one.kind == kind)
        for kind in ("single", "ensembles", "combined", "baselines")
    }
    scores = _predict(values[:, predictors[0].places], predictors[0])
    tops = {name: top_k(scores, scored.values[:, at]) for at, name in enumerate(truth.columns)}
    selections = {name: select_repeatedly(scores, scored.values[:, at]) for at, name in enumerate(truth.columns)}
    return Evaluation(
        n=len(scored.records),
        failed=sum(record.reason is not None for record in records),
        columns=truth.columns,
        proxies=names,
        aggregation=combined.aggregation,
        weights=MappingProxyType({name: combined.weight(name) for name in names if combined.weight(name) != 1.0}),
        overall=agreements[0],
        **by_kind,
        proxy_correlation=tuple(tuple(_defined(value) for value in row) for row in kendall_matrix(table)),
        top={column: _as_measured(found, column in truth.lower) for column, found in tops.items()},
        selected={
            column: replace(found, mean=-found.mean, optimum=-found.optimum) if column in truth.lower else found
            for column, found in selections.items()
            if found is not None
        },
        seconds=float(np.median([record.elapsed_s for record in scored.records])),
        bootstrap=bootstrap,
        match=match,
        n_pairs=sum(len(close_pairs(part.sizes, match.within)[0]) for part in cohort.parts() if part.sizes is not None),
        n_groups=len(cohort.parts()),
        warnings=(*truth.notes, *warnings),
        kind=kind,
    )


def _as_measured(tops: Sequence[TopK], is_lower_better: bool) -> tuple[TopK, ...]:
    """Return what was selected, with the sign of the file's numbers."""
    sign = -1.0 if is_lower_better else 1.0
    return tuple(replace(top, best=sign * top.best, mean=sign * top.mean) for top in tops)


def _sizes(scored: Measured, match: SizeMatch) -> Floats | None:
    """Return what pairs are matched by; None where one of the counts is unknown or zero."""
    if match.by not in COUNTED_SIZES:
        return scored.sizes
    sizes = _counts(scored.records, match.by)
    return sizes if bool((sizes > 0).all()) else None


def _counts(scored: Sequence[Record], name: str) -> Floats:
    return np.array([getattr(record, name) for record in scored], dtype=np.float64)


def _overall(names: Sequence[str], ensemble: Ensemble) -> _Predictor:
    places = [place for place, name in enumerate(names) if ensemble.weight(name)]
    overall = _combined("overall", names, places, ensemble)
    return overall if len(places) > 1 else replace(overall, aggregation=None)


def _predictors(
    names: Sequence[str], groups: Mapping[str, Ensemble], asked: Ensemble, *, has_combinations: bool
) -> Iterator[_Predictor]:
    """Yield each proxy, the groups, sets of proxies if asked for, and the baselines."""
    for place, name in enumerate(names):
        yield _Predictor(kind="single", proxies=(name,), places=[place])
    for group, ensemble in groups.items():
        members = [proxy.name for proxy in PROXIES.resolve([group]) if ensemble.weight(proxy.name)]
        there = [names.index(member) for member in members if member in names]  # some apply to other networks only
        if 0 < len(there) < len(names):  # all of them are the score itself
            yield replace(_combined("ensembles", names, there, ensemble), ensemble=group)
    if has_combinations:
        smallest = 2 if len(names) <= _ALL_SUBSETS_UP_TO else len(names) - 1
        for size in range(smallest, len(names) + 1):
            for places in combinations(range(len(names)), size):
                for how in (Aggregation.LOG_RANK, Aggregation.LINEAR):
                    yield _combined("combined", names, list(places), replace(asked, aggregation=how))
    for place, name in enumerate(_BASELINES, len(names)):
        yield _Predictor(kind="baselines", proxies=(name,), places=[place])


def _combined(kind: str, names: Sequence[str], places: list[int], ensemble: Ensemble) -> _Predictor:
    proxies = tuple(names[place] for place in places)
    return _Predictor(
        kind=kind,
        proxies=proxies,
        places=places,
        aggregation=ensemble.aggregation,
        weights=tuple(ensemble.weight(name) for name in proxies),
    )


def _predict(values: Floats, predictor: _Predictor) -> Floats:
    if predictor.aggregation is None:
        return values[:, 0]
    return aggregate(values, predictor.aggregation, predictor.weights)


def _agreements(
    predictors: Sequence[_Predictor], columns: Sequence[str], resampled: Resampled, level: float
) -> tuple[Agreement, ...]:
    def intervals(whole: Floats, drawn: Floats, row: int) -> dict[str, Interval]:
        return {name: interval(whole[row, at], drawn[:, row, at], level) for at, name in enumerate(columns)}

    return tuple(
        Agreement(
            proxies=one.proxies,
            aggregation=one.aggregation,
            kendall=intervals(resampled.whole.kendall, resampled.kendall, row),
            spearman=intervals(resampled.whole.spearman, resampled.spearman, row),
            matched=intervals(resampled.whole.matched, resampled.matched, row),
            ensemble=one.ensemble,
        )
        for row, one in enumerate(predictors)
    )


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
