"""Agreement of scores with measured accuracies: all numbers of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.correlation import Bootstrap, Interval, Resampled, interval, kendall_matrix, resample
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.selection import Repeated, TopK, select_repeatedly, top_k
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import Aggregation, aggregate, rank
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Agreement", "Evaluation", "evaluate", "in_order_of", "measurements", "proxy_table"]

Floats = npt.NDArray[np.float64]

_BASELINES = ("macs", "params", "layers")
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
    """

    proxies: tuple[str, ...]
    aggregation: Aggregation | None
    kendall: Mapping[str, Interval]
    spearman: Mapping[str, Interval]


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
    single, combined, baselines
        Each proxy alone; each set of two and more, by both aggregations; counts as baselines.
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
    warnings
        The proxies that were left out, and why.
    """

    n: int
    failed: int
    columns: tuple[str, ...]
    proxies: tuple[str, ...]
    aggregation: Aggregation
    overall: Agreement
    single: tuple[Agreement, ...]
    combined: tuple[Agreement, ...]
    baselines: tuple[Agreement, ...]
    proxy_correlation: tuple[tuple[float | None, ...], ...]
    top: Mapping[str, tuple[TopK, ...]]
    selected: Mapping[str, Repeated]
    seconds: float
    bootstrap: Bootstrap
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predictor:
    kind: str  # the field of Evaluation that it belongs to
    proxies: tuple[str, ...]
    places: list[int]  # of its proxies among all
    aggregation: Aggregation | None = None
    weights: tuple[float, ...] | None = None


def evaluate(
    records: Sequence[Record],
    truth: Truth,
    *,
    aggregation: Aggregation | str = Aggregation.LOG_RANK,
    weights: Mapping[str, float] | None = None,
    directions: Mapping[str, Direction] | None = None,
    bootstrap: Bootstrap | None = None,
    is_whole: bool = True,
    on_resample: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare scores with measurements.

    A proxy without a finite value ranks its architecture lowest, as in the published code; architectures that could
    not be scored are left out.

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
    bootstrap
        How to make confidence intervals; 200 resamples by default.
    is_whole
        Whether to look at each proxy, each combination and the baselines too, which takes most of the time.
    on_resample
        Called with the number of each resample that is done.

    Raises
    ------
    SettingsError
        If fewer than two architectures were scored, they share no proxy, or one is not measured.
    """
    bootstrap = bootstrap or Bootstrap()
    chosen = Aggregation(aggregation)
    scored = in_order_of(truth, (record for record in records if record.reason is None))
    if len(scored) < 2:
        raise SettingsError(f"{len(scored)} of {len(records)} architectures are scored; 2 or more can be compared")
    measured = measurements(scored, truth)
    names, warnings, table = proxy_table(scored, weights, directions)
    factors = {name: (weights or {}).get(name, 1.0) for name in names}
    predictors = [_overall(factors, chosen), *(_predictors(factors) if is_whole else ())]
    values = np.column_stack([table, *(_counts(scored, name) for name in _BASELINES)])

    def predict(drawn: Floats) -> Floats:
        return np.column_stack([_predict(drawn[:, predictor.places], predictor) for predictor in predictors])

    resampled = resample(values, measured, predict, bootstrap, on_resample)
    agreements = _agreements(predictors, truth.columns, resampled, bootstrap.level)
    groups = {
        kind: tuple(found for one, found in zip(predictors, agreements, strict=True) if one.kind == kind)
        for kind in ("single", "combined", "baselines")
    }
    scores = aggregate(table, chosen, list(factors.values()))
    selections = {column: select_repeatedly(scores, measured[:, index]) for index, column in enumerate(truth.columns)}
    return Evaluation(
        n=len(scored),
        failed=len(records) - len(scored),
        columns=truth.columns,
        proxies=names,
        aggregation=chosen,
        weights=MappingProxyType({name: factor for name, factor in factors.items() if factor != 1.0}),
        overall=agreements[0],
        **groups,
        proxy_correlation=tuple(tuple(_defined(value) for value in row) for row in kendall_matrix(table)),
        top={column: top_k(scores, measured[:, index]) for index, column in enumerate(truth.columns)},
        selected={column: found for column, found in selections.items() if found is not None},
        seconds=float(np.median([record.elapsed_s for record in scored])),
        bootstrap=bootstrap,
        warnings=warnings,
    )


def in_order_of(truth: Truth, records: Iterable[Record]) -> list[Record]:
    """Return records in the order of the measurements, so that the order of scoring decides nothing.

    Raises SettingsError if one was not measured.
    """
    places = {arch: number for number, arch in enumerate(truth.archs)}
    found = list(records)
    for record in found:
        if record.arch not in places:
            raise SettingsError(f"{record.arch} is scored, and the measurements do not list it")
    return sorted(found, key=lambda record: places[record.arch])


def measurements(scored: Sequence[Record], truth: Truth) -> Floats:
    """Return (n_records, n_columns): the measurements of the scored architectures."""
    places = {arch: number for number, arch in enumerate(truth.archs)}
    return truth.values[[places[record.arch] for record in scored]]


def proxy_table(
    scored: Sequence[Record],
    weights: Mapping[str, float] | None = None,
    directions: Mapping[str, Direction] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...], Floats]:
    """Return the proxies that all records have, warnings on the others, and their values; none of weight 0.

    Returns
    -------
    tuple
        Names, warnings, and (n_records, n_proxies) values: higher is better, minus infinity for none.

    Raises
    ------
    SettingsError
        If no proxy is left.
    """
    known = [ProxyScores(model=one.arch, status=Status.OK, proxies=one.proxies) for one in scored]
    ranking = rank(known, weights=weights, directions=directions)
    if not ranking.proxies:
        raise SettingsError(f"no proxy can be compared over all architectures: {'; '.join(ranking.warnings)}")
    signs = {name: PROXIES.sign(name, directions or {}) for name in ranking.proxies}
    rows = [[_value(record, name, signs[name]) for name in ranking.proxies] for record in scored]
    return ranking.proxies, ranking.warnings, np.array(rows, dtype=np.float64)


def _value(record: Record, name: str, sign: int) -> float:
    mean = record.proxies[name].mean
    return -np.inf if mean is None else sign * mean


def _counts(scored: Sequence[Record], name: str) -> Floats:
    return np.array([getattr(record, name) for record in scored], dtype=np.float64)


def _overall(factors: Mapping[str, float], aggregation: Aggregation) -> _Predictor:
    names = tuple(factors)
    how = aggregation if len(names) > 1 else None
    places = list(range(len(names)))
    return _Predictor(kind="overall", proxies=names, places=places, aggregation=how, weights=tuple(factors.values()))


def _predictors(factors: Mapping[str, float]) -> Iterator[_Predictor]:
    """Yield each proxy, each set of two and more under both aggregations, and the baselines."""
    names = tuple(factors)
    for place, name in enumerate(names):
        yield _Predictor(kind="single", proxies=(name,), places=[place])
    smallest = 2 if len(names) <= _ALL_SUBSETS_UP_TO else len(names) - 1
    for size in range(smallest, len(names) + 1):
        for places in combinations(range(len(names)), size):
            proxies = tuple(names[place] for place in places)
            weights = tuple(factors[name] for name in proxies)
            for how in Aggregation:
                yield _Predictor(
                    kind="combined", proxies=proxies, places=list(places), aggregation=how, weights=weights
                )
    for place, name in enumerate(_BASELINES, len(names)):
        yield _Predictor(kind="baselines", proxies=(name,), places=[place])


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
        )
        for row, one in enumerate(predictors)
    )


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
