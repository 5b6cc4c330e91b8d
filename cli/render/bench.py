"""Render the result of `aznas bench`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import Column, print_table, write_csv, write_markdown
from aznas_onnx.escaping import json_text, markdown, printable
from aznas_onnx.evaluation import Agreement, Evaluation, Interval

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["BenchReport", "predictor_name", "render_bench"]

_SHORT = {"expressivity": "E", "progressivity": "P", "trainability": "T", "macs": "C"}  # as the paper abbreviates them


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """An evaluation and where it comes from."""

    evaluation: Evaluation
    space: str
    truth: str
    scores: str
    settings: Mapping[str, Any]
    selection: Mapping[str, Any]
    interrupted: bool = False


def render_bench(report: BenchReport, output_format: OutputFormat, console: Console) -> None:
    """Write an evaluation to a console."""
    evaluation = report.evaluation
    if output_format is OutputFormat.JSON:
        console.file.write(json_text(_bench_document(report)) + "\n")
        return
    if output_format is OutputFormat.CSV:
        write_csv(console.file, _CSV_HEADER, _csv_rows(evaluation))
        return
    is_markdown = output_format is OutputFormat.MARKDOWN
    tables = (
        (_OVERALL_COLUMNS, list(_overall_rows(evaluation))),
        (_predictor_columns(evaluation, is_whole=is_markdown), list(_predictor_rows(evaluation, is_whole=is_markdown))),
        (_correlation_columns(evaluation), list(_correlation_rows(evaluation))),
        (_TOP_COLUMNS, list(_top_rows(evaluation))),
    )
    for columns, rows in tables:
        if is_markdown:
            write_markdown(console.file, columns, rows)
            console.file.write("\n")
        else:
            print_table(console, columns, rows)
            console.print()
    for line in _notes(report):
        if is_markdown:
            console.file.write(f"{markdown(line)}  \n")
        else:
            console.out(printable(line), highlight=False)  # whole: a terminal wraps it


def _bench_document(report: BenchReport) -> dict[str, object]:
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
        "selection": dict(report.selection),
        "settings": dict(report.settings),
        "proxies": list(found.proxies),
        "aggregation": found.aggregation.value,
        "weights": dict(found.weights),
        "bootstrap": asdict(found.bootstrap),
        "kendall_tau": {column: one.value for column, one in found.overall.kendall.items()},
        "spearman_rho": {column: one.value for column, one in found.overall.spearman.items()},
        "kendall_tau_interval": {column: [one.low, one.high] for column, one in found.overall.kendall.items()},
        "spearman_rho_interval": {column: [one.low, one.high] for column, one in found.overall.spearman.items()},
        "per_proxy": {
            one.proxies[0]: {column: tau.value for column, tau in one.kendall.items()} for one in found.single
        },
        "single": [_agreement_document(one) for one in found.single],
        "combined": [_agreement_document(one) for one in found.combined],
        "baselines": [_agreement_document(one) for one in found.baselines],
        "proxy_correlation": [list(row) for row in found.proxy_correlation],
        "top": {column: [asdict(one) for one in tops] for column, tops in found.top.items()},
        "selected": {column: asdict(one) for column, one in found.selected.items()},
        "seconds": round(found.seconds, 4),
        "warnings": list(found.warnings),
    }


def predictor_name(one: Agreement) -> str:
    """Return a short name: the paper's letters where a predictor is made of its proxies."""
    return one.proxies[0] if len(one.proxies) == 1 else " + ".join(_SHORT.get(name, name) for name in one.proxies)


def _agreement_document(one: Agreement) -> dict[str, object]:
    return {
        "proxies": list(one.proxies),
        "aggregation": None if one.aggregation is None else one.aggregation.value,
        "kendall_tau": {column: asdict(value) for column, value in one.kendall.items()},
        "spearman_rho": {column: asdict(value) for column, value in one.spearman.items()},
    }


def _groups(evaluation: Evaluation) -> Iterator[tuple[str, Agreement]]:
    for kind, group in (
        ("proxy", evaluation.single),
        ("combined", evaluation.combined),
        ("baseline", evaluation.baselines),
    ):
        for one in group:
            yield kind, one


_OVERALL_COLUMNS = (
    Column(title="AZ score against", is_number=False),
    Column(title="Kendall tau"),
    Column(title="Spearman rho"),
)


def _overall_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    for column in evaluation.columns:
        tau, rho = evaluation.overall.kendall[column], evaluation.overall.spearman[column]
        yield [column, _with_interval(tau), _with_interval(rho)]


def _predictor_columns(evaluation: Evaluation, *, is_whole: bool) -> list[Column]:
    """Return the columns; `is_whole` adds rho and intervals, for which a terminal is too narrow."""
    names = [Column(title="Ranked by", is_number=False), Column(title="Ranks", is_number=False)]
    symbols = ("tau", "rho") if is_whole else ("tau",)
    numbers = [f"{symbol} {column}" for column in evaluation.columns for symbol in symbols]
    return [*names, *(Column(title=title) for title in numbers)]


def _predictor_rows(evaluation: Evaluation, *, is_whole: bool) -> Iterator[list[str]]:
    for kind, one in _groups(evaluation):
        name = f"{predictor_name(one)} (count)" if kind == "baseline" else predictor_name(one)
        how = "" if one.aggregation is None else one.aggregation.value
        if is_whole:
            sides = [side[column] for column in evaluation.columns for side in (one.kendall, one.spearman)]
            yield [name, how, *map(_with_interval, sides)]
        else:
            yield [name, how, *(_number(one.kendall[column].value) for column in evaluation.columns)]


def _with_interval(one: Interval) -> str:
    if one.low is None or one.high is None:
        return _number(one.value)
    return f"{_number(one.value)} ({one.low:.3f} to {one.high:.3f})"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _correlation_columns(evaluation: Evaluation) -> list[Column]:
    return [Column(title="tau between", is_number=False), *(Column(title=name) for name in evaluation.proxies)]


def _correlation_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    for name, row in zip(evaluation.proxies, evaluation.proxy_correlation, strict=True):
        yield [name, *("undefined" if value is None else f"{value:.2f}" for value in row)]


_TOP_COLUMNS = (
    Column(title="Column", is_number=False),
    Column(title="Best-scored"),
    Column(title="Best of them"),
    Column(title="Their mean"),
    Column(title="Regret"),
    Column(title="nDCG"),
)


def _top_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    for column, tops in evaluation.top.items():
        for one in tops:
            yield [column, str(one.k), f"{one.best:.2f}", f"{one.mean:.2f}", f"{one.regret:.2f}", f"{one.ndcg:.3f}"]


_CSV_HEADER = (
    *("kind", "proxies", "aggregation", "column"),
    *("kendall_tau", "kendall_low", "kendall_high"),
    *("spearman_rho", "spearman_low", "spearman_high"),
)


def _csv_rows(evaluation: Evaluation) -> Iterator[Sequence[object]]:
    for kind, one in _groups(evaluation):
        how = None if one.aggregation is None else one.aggregation.value
        for column in evaluation.columns:
            tau, rho = one.kendall[column], one.spearman[column]
            numbers = (tau.value, tau.low, tau.high, rho.value, rho.low, rho.high)
            yield (kind, "+".join(one.proxies), how, column, *numbers)


def _notes(report: BenchReport) -> Iterator[str]:
    found = report.evaluation
    failed = f", {found.failed:,} could not be scored" if found.failed else ""
    cost = f"{found.seconds:.3g} s each (median)"
    yield f"{found.n:,} architectures of {report.space}{failed}; {cost}. Scores: {report.scores}"
    letters = ", ".join(f"{_SHORT[name]} {name}" for name in found.proxies if name in _SHORT)
    if letters and len(found.proxies) > 1:
        yield f"Proxies: {letters}."
    if found.weights:
        yield f"Weights: {', '.join(f'{name} {weight:g}' for name, weight in found.weights.items())}."
    how = found.bootstrap
    if how.resamples:
        yield (
            f"In brackets: {how.level:.0%} percentile intervals of {how.resamples} bootstrap resamples "
            f"(seed {how.seed})."
        )
    for column, one in found.selected.items():
        yield (
            f"Best-scored of {one.subset:,} drawn at random, {one.runs} times: {column} {one.mean:.2f} ± "
            f"{one.deviation:.2f} (best there: {one.optimum:.2f})."
        )
