"""Render the result of `aznas bench`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import Cells, Column, format_number, write_csv, write_json, write_table
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, printable
from aznas_onnx.evaluation import Agreement, Evaluation, Interval
from aznas_onnx.evaluation.report.sections import letters_of, predictor_name
from aznas_onnx.spaces import NetworkFiles

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.evaluation.scorefile import Selection
    from aznas_onnx.searching.stored_settings import StoredSettings

__all__ = ["BenchReport", "render_bench"]

_MOST_COLUMNS = 7  # proxies whose correlations fit on a terminal; Markdown and JSON have those of any number
_Table = tuple[Sequence[Column], Sequence[Any]]  # columns and rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """An evaluation and where it comes from."""

    evaluation: Evaluation
    space: str
    truth: str
    scores: str
    settings: StoredSettings
    selection: Selection
    interrupted: bool = False


def render_bench(report: BenchReport, output_format: OutputFormat, console: Console) -> None:
    """Write an evaluation to a console."""
    evaluation = report.evaluation
    if output_format is OutputFormat.JSON:
        write_json(console, _bench_document(report))
        return
    if output_format is OutputFormat.CSV:
        write_csv(console.file, _CSV_HEADER, _csv_rows(evaluation))
        return
    is_markdown = output_format is OutputFormat.MARKDOWN
    fits = is_markdown or len(evaluation.proxies) <= _MOST_COLUMNS
    for columns, rows in (
        _overall(evaluation),
        _predictors(evaluation, is_whole=is_markdown),
        *((_correlations(evaluation),) if fits else ()),
        _top(evaluation),
    ):
        write_table(console, columns, rows, output_format)
        console.file.write("\n")
    for line in _notes(report):
        if is_markdown:
            console.file.write(f"{markdown(line)}  \n")
        else:
            console.out(printable(line), highlight=False)  # whole: a terminal wraps it


def _bench_document(report: BenchReport) -> JsonObject:
    """Return an evaluation as plain values, in the layout ``aznas.bench/1``."""
    found = report.evaluation
    return {
        "schema": "aznas.bench/1",
        "n": found.n,
        "failed": found.failed,
        "interrupted": report.interrupted,
        "space": report.space,
        "truth": report.truth,
        "scores": report.scores,
        "selection": report.selection.as_json(),
        "settings": report.settings.as_json(),
        "proxies": list(found.proxies),
        "aggregation": found.aggregation.value,
        "weights": dict(found.weights),
        **({"kind": found.kind.value} if found.kind else {}),
        "bootstrap": asdict(found.bootstrap),
        "kendall_tau": {column: one.value for column, one in found.overall.kendall.items()},
        "spearman_rho": {column: one.value for column, one in found.overall.spearman.items()},
        "kendall_tau_interval": {column: [one.low, one.high] for column, one in found.overall.kendall.items()},
        "spearman_rho_interval": {column: [one.low, one.high] for column, one in found.overall.spearman.items()},
        "match": {"by": found.match.by, "within": found.match.within, "pairs": found.n_pairs},
        "size_matched_tau": {column: one.value for column, one in found.overall.matched.items()},
        "size_matched_tau_interval": {column: [one.low, one.high] for column, one in found.overall.matched.items()},
        "groups": found.n_groups,
        "per_proxy": {
            one.proxies[0]: {column: tau.value for column, tau in one.kendall.items()} for one in found.single
        },
        "single": [_agreement_document(one) for one in found.single],
        "ensembles": {one.ensemble: _agreement_document(one) for one in found.ensembles},
        "combined": [_agreement_document(one) for one in found.combined],
        "baselines": [_agreement_document(baseline) for baseline in found.baselines],
        "proxy_correlation": [list(row) for row in found.proxy_correlation],
        "top": {column: [asdict(one) for one in tops] for column, tops in found.top.items()},
        "selected": {column: asdict(one) for column, one in found.selected.items()},
        "seconds": round(found.seconds, 4),
        "warnings": list(found.warnings),
    }


def _agreement_document(one: Agreement) -> JsonObject:
    return {
        "proxies": list(one.proxies),
        "aggregation": None if one.aggregation is None else one.aggregation.value,
        "kendall_tau": {column: asdict(value) for column, value in one.kendall.items()},
        "spearman_rho": {column: asdict(value) for column, value in one.spearman.items()},
        "size_matched_tau": {column: asdict(value) for column, value in one.matched.items()},
    }


def _groups(evaluation: Evaluation) -> Iterator[tuple[str, Agreement]]:
    for kind, group in (
        ("proxy", evaluation.single),
        ("ensemble", evaluation.ensembles),
        ("combined", evaluation.combined),
        ("baseline", evaluation.baselines),
    ):
        for one in group:
            yield kind, one


def _overall(evaluation: Evaluation) -> _Table:
    overall = evaluation.overall
    columns = (
        Column("AZ score against", Cells.TEXTS, str),
        Column("Kendall tau", text=lambda column: _with_interval(overall.kendall[column])),
        Column("Spearman rho", text=lambda column: _with_interval(overall.spearman[column])),
        Column("Tau at the same size", text=lambda column: _with_interval(overall.matched[column])),
    )
    return columns, evaluation.columns


def _predictors(evaluation: Evaluation, *, is_whole: bool) -> _Table:
    """Return one row a predictor; `is_whole` adds rho and intervals, for which a terminal is too narrow."""
    symbols = ("tau", "same size", "rho") if is_whole else ("tau", "same size")
    titles = [f"{symbol} {column}" for column in evaluation.columns for symbol in symbols]
    rows = []
    for kind, one in _groups(evaluation):
        name = one.ensemble or predictor_name(one.proxies, " + ")
        name += {"baseline": " (count)", "ensemble": " (ensemble)"}.get(kind, "")
        how = "" if one.aggregation is None else one.aggregation.value
        sides = (one.kendall, one.matched, one.spearman)[: len(symbols)]
        values = [side[column] for column in evaluation.columns for side in sides]
        rows.append([name, how, *(_with_interval(value) if is_whole else _tau(value.value) for value in values)])
    return (Column("Ranked by", Cells.TEXTS), Column("Ranks", Cells.TEXTS), *map(Column, titles)), rows


def _with_interval(one: Interval) -> str:
    interval = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
    return f"{_tau(one.value)}{interval}"


def _tau(value: float | None) -> str:
    return format_number(value, missing="undefined")


def _correlations(evaluation: Evaluation) -> _Table:
    rows = [
        [name, *("undefined" if value is None else f"{value:.2f}" for value in row)]
        for name, row in zip(evaluation.proxies, evaluation.proxy_correlation, strict=True)
    ]
    return (Column("tau between", Cells.TEXTS), *map(Column, evaluation.proxies)), rows


def _top(evaluation: Evaluation) -> _Table:
    titles = ("Best-scored", "Best of them", "Their mean", "Regret", "nDCG")
    rows = [
        [column, str(top.k), f"{top.best:.2f}", f"{top.mean:.2f}", f"{top.regret:.2f}", f"{top.ndcg:.3f}"]
        for column, tops in evaluation.top.items()
        for top in tops
    ]
    return (Column("Column", Cells.TEXTS), *map(Column, titles)), rows


_CSV_HEADER = (
    *("kind", "proxies", "aggregation", "column"),
    *("kendall_tau", "kendall_low", "kendall_high"),
    *("spearman_rho", "spearman_low", "spearman_high"),
    *("size_matched_tau", "size_matched_low", "size_matched_high"),
)


def _csv_rows(evaluation: Evaluation) -> Iterator[Sequence[object]]:
    for kind, one in _groups(evaluation):
        how = None if one.aggregation is None else one.aggregation.value
        for column in evaluation.columns:
            sides = (one.kendall[column], one.spearman[column], one.matched[column])
            numbers = [number for side in sides for number in (side.value, side.low, side.high)]
            yield (kind, one.ensemble or "+".join(one.proxies), how, column, *numbers)


def _notes(report: BenchReport) -> Iterator[str]:
    found = report.evaluation
    failed = f", {found.failed:,} could not be scored" if found.failed else ""
    cost = f"{found.seconds:.3g} s each (median)"
    what = "networks" if report.space == NetworkFiles.name else f"architectures of {report.space}"
    yield f"{found.n:,} {what}{failed}; {cost}. Scores: {report.scores}"
    share = f"{100 * found.match.within:.3g} % of each other in {found.match.by}"
    yield f"Same size: {found.n_pairs:,} pairs within {share}." if found.n_pairs else f"No pair is within {share}."
    if found.n_groups > 1:
        yield f"Ranked and compared within {found.n_groups} groups; means, each counted by its architectures."
    letters = letters_of(found.proxies)
    if letters and len(found.proxies) > 1:
        yield f"Proxies: {letters}."
    if found.kind is not None:
        counted = ", ".join(
            f"{found.weights[name]:g} {name}" if name in found.weights else name for name in found.overall.proxies
        )
        group = f"best-{found.kind.value}, by what differs between the networks"
        yield f"Score: {group}: {found.aggregation.value} of {counted}."
    elif found.weights:
        yield f"Weights: {', '.join(f'{name} {weight:g}' for name, weight in found.weights.items())}."
    how = found.bootstrap
    if how.resamples:
        yield (
            f"In brackets: {how.level:.0%} percentile intervals of {how.resamples} bootstrap resamples "
            f"(seed {how.seed})."
        )
    for column, one in found.selected.items():
        yield (
            f"Best-scored of {one.subset:,} sampled at random, {one.runs} times: {column} {one.mean:.2f} ± "
            f"{one.deviation:.2f} (best there: {one.optimum:.2f})."
        )
