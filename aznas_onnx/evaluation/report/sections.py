"""The sections of a report, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aznas_onnx.escaping import markdown, markdown_block, markdown_code
from aznas_onnx.evaluation.agreement import Agreement, Evaluation
from aznas_onnx.evaluation.correlation import Bootstrap, Interval
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.run_comparison import RunComparison
from aznas_onnx.evaluation.scorefile import Scores
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.ranking import Aggregation

__all__ = ["ReportedRun", "letters_of", "method_doubt", "predictor_name", "report_lines"]

_SHORT = {"expressivity": "E", "progressivity": "P", "trainability": "T", "macs": "C"}
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
        return self.scores.settings.space.name


def method_doubt(runs: Sequence[ReportedRun]) -> str:
    """Return a warning where the scores are of several versions of the scoring method; else an empty text."""
    versions = sorted({run.scores.method for run in runs})
    if len(versions) < 2:
        return ""
    listed = " and ".join(map(str, versions))
    return f"the files hold scores of versions {listed} of the scoring method; a difference can be that of the methods"


def report_lines(
    runs: Sequence[ReportedRun],
    measured: Truth,
    comparison: RunComparison | None,
    images: dict[str, Path],
    invocation: str,
) -> Iterator[str]:
    """Yield the lines of a report.

    - `runs`: The first is reported in full, the others are compared with it.
    - `measured`: The measurements.
    - `comparison`: Of all runs; None for one.
    - `images`: Plots by name; those that are missing are left out.
    - `invocation`: The command that writes the report.
    """
    first = runs[0]

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
    yield from image("rank-scatter", "place by score against place by measurement")
    yield from _ablation_section(first, measured)
    yield from image("ablation", "Kendall's tau of proxies and their combinations")
    yield from _correlation_section(first)
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
    doubt = method_doubt(runs)
    if doubt:
        yield f"Warning: {doubt}."
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


def _ablation_section(run: ReportedRun, measured: Truth) -> Iterator[str]:
    found = run.evaluation
    yield "## Each proxy, and every combination"
    yield ""
    letters = letters_of(found.proxies)
    if letters:
        yield f"{letters}."
        yield ""
    rows = [_ablation_row(one) for one in (*found.single, *found.combined)]
    rows += [_ablation_row(baseline, " (count)") for baseline in found.baselines]
    yield from _table(["Ranked by", "Ranks", *_both(measured.columns)], rows, texts=2)
    yield f"From {markdown_code(run.command)}"
    yield ""


def _ablation_row(one: Agreement, kind: str = "") -> list[str]:
    sides = [cell for name, tau in one.kendall.items() for cell in (_interval(tau), _number(one.spearman[name].value))]
    return [predictor_name(one.proxies) + kind, _HOW[one.aggregation], *sides]


def _correlation_section(run: ReportedRun) -> Iterator[str]:
    found = run.evaluation
    if len(found.proxies) < 2:
        return
    yield "## Between the proxies"
    yield ""
    yield "Kendall's tau."
    yield ""
    pairs = zip(found.proxies, found.proxy_correlation, strict=True)
    yield from _table(["", *found.proxies], [[name, *(_number(value, 2) for value in row)] for name, row in pairs])
    yield f"From {markdown_code(run.command)}"
    yield ""


def _top_section(run: ReportedRun, measured: Truth) -> Iterator[str]:
    yield "## The best-scored architectures"
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
    selected = run.evaluation.selected
    if selected:
        example = next(iter(selected.values()))
        yield f"The best-scored of {example.subset:,} architectures that are sampled at random, {example.runs} times:"
        yield ""
        rows = [[name, f"{one.mean:.2f} ± {one.deviation:.2f}", f"{one.optimum:.2f}"] for name, one in selected.items()]
        yield from _table(["Column", "best-scored", "best of the sample"], rows)
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
    """Return each letter of the paper with its proxy."""
    return ", ".join(f"{_SHORT[name]} {name}" for name in proxies if name in _SHORT)
