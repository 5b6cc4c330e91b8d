"""The sections of a report, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aznas_onnx.escaping import markdown, markdown_block, markdown_code
from aznas_onnx.evaluation.agreement import Agreement, Evaluation
from aznas_onnx.evaluation.correlation import Bootstrap, Interval
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.report.published import ABLATION, CORRELATION, PROXY_ORDER, TABLE_1, PaperRow, paper_columns
from aznas_onnx.evaluation.run_comparison import RunComparison
from aznas_onnx.evaluation.scorefile import Scores
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.ranking import Aggregation

__all__ = ["ReportedRun", "letters_of", "predictor_name", "report_lines"]

_SHORT = dict(zip(PROXY_ORDER, "EPTC", strict=True))
_HOW = {None: "", Aggregation.LOG_RANK: "log-rank", Aggregation.LINEAR: "linear"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRun:
    """A scores file, evaluated, with what to call it and the command that makes it."""

    label: str
    path: Path
    scores: Scores
    records: list[Record]
    evaluation: Evaluation
    command: str

    @property
    def space(self) -> str:
        """Name of the space."""
        return str(self.scores.settings["space"]["name"])


def report_lines(
    runs: Sequence[ReportedRun],
    measured: Truth,
    comparison: RunComparison | None,
    images: dict[str, Path],
    invocation: str,
) -> Iterator[str]:
    """Yield the lines of a report.

    Parameters
    ----------
    runs
        The first is reported in full, the others are compared with it.
    measured
        The measurements.
    comparison
        Of all runs; None for one.
    images
        Plots by name; those that are missing are left out.
    invocation
        The command that writes the report.
    """
    first = runs[0]
    paper = paper_columns(first.space, measured.columns)

    def image(name: str, text: str) -> Iterator[str]:
        if name in images:
            yield f"![{text}]({quote(f'{images[name].parent.name}/{images[name].name}')})"
            yield ""

    yield from _opening(runs, measured, invocation)
    yield from _way_section(runs, measured)
    if comparison is not None:
        yield from _comparison_section(runs, measured, comparison)
        yield from image("cost", "Kendall's tau against seconds an architecture")
        if "cost" in images:
            label = markdown(first.label)
            yield f"Lines through marks: intervals of the difference from “{label}”, whose τ is the dashed line."
            yield ""
    if paper:
        yield from _table_1_section(first, paper)
    yield from image("rank-scatter", "place by score against place by measurement")
    yield from _ablation_section(first, measured, paper)
    yield from image("ablation", "Kendall's tau of proxies and their combinations")
    yield from _correlation_section(first, with_paper=bool(paper))
    yield from image("proxy-correlation", "Kendall's tau between the proxies")
    yield from _top_section(first, measured)


def _opening(runs: Sequence[ReportedRun], measured: Truth, invocation: str) -> Iterator[str]:
    how = runs[0].evaluation.bootstrap
    yield f"# Benchmark: {markdown(runs[0].space)}"
    yield ""
    yield (
        "How well scores that need no training rank networks whose accuracy was measured. Written by the commands "
        "below: do not edit this page."
    )
    yield ""
    resamples = "" if how.resamples == Bootstrap().resamples else f" --resamples {how.resamples}"
    yield markdown_block("\n".join((*(run.command for run in runs), f"{invocation}{resamples}")))
    yield ""
    if how.resamples:
        yield (
            f"In brackets: {how.level:.0%} percentile intervals of {how.resamples} bootstrap resamples of the "
            f"architectures (seed {how.seed}); ranks, and so the score, are made anew in each. Kendall's tau is tau-b. "
            "A proxy without a finite value ranks its architecture lowest, as in the published code."
        )
        yield ""
    software = ", ".join(f"{name} {version}" for name, version in runs[0].scores.software.items())
    yield markdown(f"Scored by {software}.") if software else ""
    yield ""


def _way_section(runs: Sequence[ReportedRun], measured: Truth) -> Iterator[str]:
    yield "## The score"
    yield ""
    header = ["Scored", "Architectures", "Seconds each", *_both(measured.columns)]
    rows = []
    for run in runs:
        found = run.evaluation
        failed = f" ({found.failed} failed)" if found.failed else ""
        sides = [side[name] for name in measured.columns for side in (found.overall.kendall, found.overall.spearman)]
        rows.append([run.label, f"{found.n:,}{failed}", f"{found.seconds:.3g}", *map(_interval, sides)])
    yield from _table(header, rows)
    for run in runs:
        yield f"- {markdown(run.label)}: {markdown_code(run.command)}"
    yield ""


def _both(columns: Sequence[str]) -> list[str]:
    return [f"{symbol} {name}" for name in columns for symbol in ("τ", "ρ")]


def _comparison_section(runs: Sequence[ReportedRun], measured: Truth, comparison: RunComparison) -> Iterator[str]:
    yield "## What a score costs"
    yield ""
    yield (
        f"On the {comparison.n:,} architectures that all of them scored, with the difference from "
        f"“{markdown(runs[0].label)}” on the same resamples. Seconds are the median of "
        "an architecture, wall-clock, on the machine that scored."
    )
    yield ""
    header = ["Scored", "Seconds each", "Times as fast"]
    header += [title for name in measured.columns for title in (f"τ {name}", "difference")]
    rows = []
    for run, one in zip(runs, comparison.contenders, strict=True):
        speed = comparison.contenders[0].seconds / one.seconds if one.seconds else float("nan")
        cells = [run.label, f"{one.seconds:.3g}", f"{speed:.1f}"]
        for name in measured.columns:
            is_first = one is comparison.contenders[0]
            cells += [
                _number(one.kendall[name].value),
                "" if is_first else _interval(one.difference[name], signed=True),
            ]
        rows.append(cells)
    yield from _table(header, rows)


def _table_1_section(run: ReportedRun, paper: dict[str, int]) -> Iterator[str]:
    found = run.evaluation
    yield "## Beside Table 1 of the paper"
    yield ""
    baselines = {one.proxies[0]: one for one in found.baselines}
    ours = {"AZ-NAS": found.overall, "macs": baselines["macs"], "params": baselines["params"]}
    header = ["", *(title for name in paper for title in (f"τ {name}", "paper", f"ρ {name}", "paper"))]
    rows = []
    for name, agreement in ours.items():
        cells = [{"macs": "MACs (FLOPs)", "params": "parameters"}.get(name, name)]
        for column, place in paper.items():
            tau, rho, _ = TABLE_1[name][place]
            cells += [_interval(agreement.kendall[column]), f"{tau:.3f}"]
            cells += [_interval(agreement.spearman[column]), f"{rho:.3f}"]
        rows.append(cells)
    layers = baselines["layers"]
    cells = ["layers with weights"]
    for column in paper:
        cells += [_interval(layers.kendall[column]), "", _interval(layers.spearman[column]), ""]
    yield from _table(header, [*rows, cells])
    yield f"The paper's numbers are of all 15,625 cells, ours of {found.n:,}: {markdown_code(run.command)}"
    yield ""
    if any(column in found.selected for column in paper):
        example = next(iter(found.selected.values()))
        yield f"Accuracy of the best-scored of {example.subset:,} cells drawn at random, {example.runs} times:"
        yield ""
        picked = [(column, place) for column, place in paper.items() if column in found.selected]
        here = [found.selected[column] for column, _ in picked]
        yield from _table(
            ["", *(column for column, _ in picked)],
            [
                ["here", *(f"{one.mean:.2f} ± {one.deviation:.2f}" for one in here)],
                ["paper", *(TABLE_1["AZ-NAS"][place][2] for _, place in picked)],
                ["best of the drawn", *(f"{one.optimum:.2f}" for one in here)],
            ],
        )


def _ablation_section(run: ReportedRun, measured: Truth, paper: dict[str, int]) -> Iterator[str]:
    yield "## Each proxy, and every combination" + (" (Table 4)" if paper else "")
    yield ""
    letters = letters_of(run.evaluation.proxies)
    if letters:
        yield f"{letters}."
        yield ""
    published = {(row.proxies, row.aggregation): row for row in ABLATION}
    header = [*(["Row"] if paper else []), "Ranked by", "Ranks"]
    header += [
        title
        for name in measured.columns
        for title in (f"τ {name}", *(["paper"] if name in paper else []), f"ρ {name}")
    ]
    found = run.evaluation
    rows = [_ablation_row(one, published.get((one.proxies, one.aggregation)), paper) for one in found.single]
    rows += [_ablation_row(one, published.get((one.proxies, one.aggregation)), paper) for one in found.combined]
    rows += [_ablation_row(one, None, paper, kind=" (count)") for one in found.baselines]
    yield from _table(header, rows, texts=3 if paper else 2)
    yield f"From {markdown_code(run.command)}"
    yield ""


def _ablation_row(one: Agreement, row: PaperRow | None, paper: Mapping[str, int], kind: str = "") -> list[str]:
    cells = [str(row.number) if row else ""] if paper else []
    cells += [predictor_name(one.proxies) + kind, _HOW[one.aggregation]]
    for name, tau in one.kendall.items():
        cells.append(_interval(tau))
        if name in paper:
            cells.append(f"{row.kendall[paper[name]]:.3f}" if row else "")
        cells.append(_number(one.spearman[name].value))
    return cells


def _correlation_section(run: ReportedRun, *, with_paper: bool) -> Iterator[str]:
    found = run.evaluation
    if len(found.proxies) < 2:
        return
    yield "## Between the proxies" + (" (Figure 3)" if with_paper else "")
    yield ""
    is_comparable = with_paper and found.proxies == PROXY_ORDER
    yield "Kendall's tau." + (" In brackets: the paper's." if is_comparable else "")
    yield ""
    rows = []
    for i, (name, row) in enumerate(zip(found.proxies, found.proxy_correlation, strict=True)):
        cells = [_number(value, 2) for value in row]
        if is_comparable:
            cells = [f"{cell} ({CORRELATION[i][j]:.2f})" for j, cell in enumerate(cells)]
        rows.append([name, *cells])
    yield from _table(["", *found.proxies], rows)
    yield f"From {markdown_code(run.command)}"
    yield ""


def _top_section(run: ReportedRun, measured: Truth) -> Iterator[str]:
    yield "## What the best-scored are worth"
    yield ""
    yield (
        "The k architectures with the best scores: the best of them, their mean, how far the best is from the best of "
        "all (regret), and nDCG (gain: the measurement scaled to 0 for the worst and 1 for the best of all)."
    )
    yield ""
    header = ["Column", "k", "best", "mean", "regret", "nDCG@k"]
    rows = [
        [name, str(one.k), f"{one.best:.2f}", f"{one.mean:.2f}", f"{one.regret:.2f}", f"{one.ndcg:.3f}"]
        for name in measured.columns
        for one in run.evaluation.top[name]
    ]
    yield from _table(header, rows)
    yield f"From {markdown_code(run.command)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> Iterator[str]:
    """Write a table whose first columns are `texts` and whose others are numbers."""
    yield _row(header)
    yield _row([":---" if place < texts else "---:" for place in range(len(header))])
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(markdown(cell) for cell in cells)} |"


def _interval(one: Interval, *, signed: bool = False) -> str:
    text = _number(one.value, signed=signed)
    if one.low is None or one.high is None:
        return text
    return f"{text} ({_number(one.low, signed=signed)} to {_number(one.high, signed=signed)})"


def _number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    return "undefined" if value is None else f"{value:{'+' if signed else ''}.{digits}f}"


def predictor_name(proxies: Sequence[str], separator: str = "+") -> str:
    """Return a short name: the paper's letters where several proxies are combined."""
    return proxies[0] if len(proxies) == 1 else separator.join(_SHORT.get(name, name) for name in proxies)


def letters_of(proxies: Sequence[str]) -> str:
    """Return each letter of the paper with the proxy that it stands for."""
    return ", ".join(f"{_SHORT[name]} {name}" for name in proxies if name in _SHORT)
