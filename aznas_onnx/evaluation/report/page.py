"""A report in Markdown: measurements beside the paper's, with the commands that made them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.agreement import Agreement, Evaluation, evaluate
from aznas_onnx.evaluation.correlation import Bootstrap
from aznas_onnx.evaluation.measured import measured, proxy_table
from aznas_onnx.evaluation.report import plots
from aznas_onnx.evaluation.report.bench_command import bench_command, run_label
from aznas_onnx.evaluation.report.sections import ReportedRun, method_doubt, predictor_name, report_lines
from aznas_onnx.evaluation.run_comparison import RunComparison, compare
from aznas_onnx.evaluation.scorefile import read_scores
from aznas_onnx.evaluation.truth import Truth, read_truth
from aznas_onnx.ranking import Aggregation, aggregate

__all__ = ["write_report"]


def write_report(
    scores: Sequence[str | os.PathLike[str]],
    truth: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    labels: Sequence[str | None] | None = None,
    metrics: Sequence[str] | None = None,
    bootstrap: Bootstrap | None = None,
    with_plots: bool = True,
    on_step: Callable[[str], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Write a report on scores files, and its plots into a folder beside it.

    - `scores`: Files of :func:`~aznas_onnx.evaluation.run`, all of one space. The first is reported in full; the others
      are compared with it.
    - `truth`: The CSV with the measurements.
    - `output`: The Markdown file. Plots go to the folder of the same name without its ending.
    - `labels`: Names of the files; by default from their settings. The version of the scoring method follows where it
      is not that of this release.
    - `metrics`: Columns of the CSV; all by default.
    - `bootstrap`: Settings of the confidence intervals; 200 resamples by default.
    - `with_plots`: Whether to plot; needs matplotlib.
    - `on_step`: Called with the next step, in words.
    - `on_warning`: Called with a warning, which the page has, too.

    Returns: The files that were written, the report first.

    Raises SettingsError if a file cannot be read or written, the spaces differ, or matplotlib is missing.
    """
    if with_plots:
        plots.require_matplotlib()
    target, listed = Path(output), read_truth(truth, metrics)
    if not target.parent.is_dir():
        raise SettingsError(f"{target} cannot be written: there is no folder {target.parent}")
    bootstrap = bootstrap or Bootstrap()
    say = on_step or (lambda step: None)
    names = labels or [None] * len(scores)
    runs: list[ReportedRun] = []
    for file, label in zip(scores, names, strict=True):
        say(f"evaluating {Path(file).name}")
        runs.append(_read(Path(file), label, Path(truth), listed, bootstrap, is_first=not runs))
    _check_runs(runs)
    doubt = method_doubt(runs)
    if doubt and on_warning is not None:
        on_warning(doubt)
    say("comparing")
    comparison = (
        compare([run.records for run in runs], listed, bootstrap, [run.scores.directions for run in runs])
        if len(runs) > 1
        else None
    )
    written = _draw(runs, listed, comparison, target.with_suffix("")) if with_plots else []
    invocation = ["aznas", "report", *(_argument(run, label) for run, label in zip(runs, names, strict=True))]
    invocation += ["--truth", Path(truth).name, *(word for name in metrics or () for word in ("--metric", name))]
    invocation += ["-o", str(Path(target.parent.name, target.name))]
    lines = report_lines(runs, listed, comparison, {path.stem: path for path in written}, shlex.join(invocation))
    try:
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror or error}") from error
    return (target, *written)


def _argument(run: ReportedRun, label: str | None) -> str:
    return run.path.name if label is None else f"{label}={run.path.name}"


def _read(
    path: Path, label: str | None, truth: Path, listed: Truth, bootstrap: Bootstrap, *, is_first: bool
) -> ReportedRun:
    scores = read_scores(path)
    known = set(listed.archs)
    records = [record for record in scores.records.values() if record.arch in known]
    archs = {record.arch for record in records}
    command = bench_command(scores, truth=truth, measured=listed, path=path, archs=archs)
    return ReportedRun(
        label=run_label(scores, label),
        path=path,
        scores=scores,
        records=records,
        evaluation=evaluate(
            records,
            listed,
            directions=scores.directions,
            bootstrap=bootstrap,
            is_whole=is_first,
            has_combinations=is_first,
        ),
        command=command,
    )


def _check_runs(runs: Sequence[ReportedRun]) -> None:
    if not runs:
        raise SettingsError("no scores file is given; one or more are needed")
    for run in runs:
        if run.space != runs[0].space:
            raise SettingsError(
                f"{run.path} holds scores of {run.space}, and {runs[0].path} of {runs[0].space}; "
                "a report is on one space"
            )
    seen: dict[str, Path] = {}
    for run in runs:
        if run.label in seen:
            raise SettingsError(
                f"{seen[run.label]} and {run.path} are both called {run.label!r}; write LABEL={run.path}"
            )
        seen[run.label] = run.path


def _draw(runs: Sequence[ReportedRun], truth: Truth, comparison: RunComparison | None, folder: Path) -> list[Path]:
    first = runs[0]
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}") from error
    scored = measured(first.records, truth)
    _, _, table = proxy_table(scored.records, directions=first.scores.directions)
    names = ["rank-scatter", "ablation", *(["proxy-correlation"] if len(first.evaluation.proxies) > 1 else [])]
    paths = {name: folder / f"{name}.png" for name in names}
    columns = {name: np.asarray(scored.values[:, at]) for at, name in enumerate(truth.columns)}
    plots.plot_ranks(paths["rank-scatter"], aggregate(table), columns, first.evaluation)
    plots.plot_ablation(paths["ablation"], _ablation_bars(first.evaluation))
    if "proxy-correlation" in paths:
        plots.plot_correlation(paths["proxy-correlation"], first.evaluation)
    if comparison is not None:
        paths["cost"] = folder / "cost.png"
        plots.plot_cost(paths["cost"], [run.label for run in runs], comparison)
    return list(paths.values())


def _ablation_bars(found: Evaluation) -> list[tuple[str, Agreement]]:
    """Return each proxy, and each combination by the aggregation of the score."""
    everything = (*found.single, *found.combined)
    return [(_bar_name(one), one) for one in everything if one.aggregation in (None, found.aggregation)]


def _bar_name(one: Agreement) -> str:
    name = predictor_name(one.proxies)
    return f"{name} (linear)" if one.aggregation is Aggregation.LINEAR else name
