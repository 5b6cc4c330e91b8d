"""`aznas gate`: reject a candidate that is worse than the baseline, or over budget."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.commands.reference import complete_reference
from aznas_onnx.cli.console import write_traceback
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, REJECTED
from aznas_onnx.cli.options import (
    batch_size_option,
    blocks_option,
    cut_option,
    input_option,
    read_count,
    split_names,
    time_limit_option,
    value_option,
)
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.gating import GateResult

__all__ = ["decide", "gate"]

_READING, _LOADING_S = 3, 30.0  # times what one reading may take, and what libraries take to be loaded

Tell = Callable[[str], None]


def _read_numbers(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    """Return the numbers given as ``PROXY=NUMBER``, by name.

    Raises
    ------
    click.BadParameter
        If a text is none.
    """
    numbers = {}
    for value in values:
        name, _, number = value.rpartition("=")
        try:
            numbers[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is not PROXY=NUMBER, such as trainability=-0.5") from error
        if not name:
            raise click.BadParameter(f"{value!r} names no proxy; write PROXY=NUMBER, such as trainability=-0.5")
    return numbers


_positive = click.FloatRange(min=0, min_open=True)


@click.command(short_help="Reject a candidate that is worse than what is shipped.")
@click.argument("candidate", metavar="CANDIDATE.onnx", type=click.Path())
@click.option(
    "--baseline", multiple=True, metavar="SHIPPED.onnx", help="What it must not be worse than. May be repeated."
)
@click.option(
    "--reference",
    multiple=True,
    metavar="NAME|REF.json",
    shell_complete=complete_reference,
    help="A reference set that it must have its place in (`aznas reference show`). May be repeated.",
)
@click.option(
    "--min-percentile", type=click.FloatRange(0, 100), metavar="P", help="The least place in it.  [default: 10]"
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="By how much the AZ score may be below a baseline's.  [default: 0.5]",
)
@click.option(
    "--min-shortcuts",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="The share of a baseline's shortcuts past layers to keep; 0 for any.  [default: 0.5]",
)
@click.option(
    "--proxies",
    metavar="LIST",
    callback=split_names,
    help="What to compare baselines by, such as az,synflow:0.5; `aznas proxies` lists all.  [default: az]",
)
@click.option(
    "--aggregate",
    type=click.Choice(["log-rank", "linear"]),
    help="How their rank shares are combined.  [default: log-rank]",
)
@click.option(
    "--spread",
    "spreads",
    multiple=True,
    metavar="PROXY=NUMBER",
    callback=_read_numbers,
    help="The deviation of a proxy of your own between alternatives.",
)
@click.option("--max-macs", metavar="N", callback=read_count, help="Budget: multiply-adds of one sample, such as 600M.")
@click.option("--max-params", metavar="N", callback=read_count, help="Budget: trainable parameters, such as 5.9M.")
@click.option("--max-activation-bytes", metavar="N", callback=read_count, help="Budget: of one sample in float32.")
@click.option(
    "--max-latency",
    type=_positive,
    metavar="MS",
    help="Budget: of one sample in ONNX Runtime on one thread of this CPU.",
)
@click.option(
    "--max-latency-ratio", type=_positive, metavar="X", help="Budget: over each baseline's, measured in turns."
)
@click.option(
    "--floor",
    "floors",
    multiple=True,
    metavar="PROXY=NUMBER",
    callback=_read_numbers,
    help="The least value of a proxy.",
)
@click.option(
    "--inconclusive",
    type=click.Choice(["pass", "reject"]),
    help="What becomes of a candidate that the noise leaves undecided.  [default: pass]",
)
@click.option("--confidence", type=click.FloatRange(0.5, 0.9999), help="Of decisions over noise.  [default: 0.99]")
@click.option("--min-seeds", type=click.IntRange(min=2), help="Draws before the first decision.  [default: 2]")
@click.option("--max-seeds", type=click.IntRange(min=2), help="Draws before the last one.  [default: 8]")
@click.option("--seed", type=click.IntRange(min=0), help="The first of the seeds.  [default: 0]")
@click.option(
    "--effort",
    type=click.Choice(["paper", "balanced", "fast", "auto"]),
    help="How to estimate.  [default: the reference's, else balanced]",
)
@batch_size_option
@time_limit_option
@click.option("--device", metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.  [default: auto]")
@input_option
@value_option
@cut_option
@blocks_option
@click.option("--keep-graph", is_flag=True, default=None, help="Leave folded normalisation folded.")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Rules; options override them.  [default: aznas.toml or pyproject.toml, here or above]",
)
@click.option("--allow-python", is_flag=True, help="Execute Python files that the policy names: proxies of your own.")
@click.option("--no-policy", is_flag=True, help="Follow the options alone, whatever file there is.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "md"]),
    default="table",
    show_default=True,
    help="How the result is written to stdout.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.xml",
    help="Write the checks as JUnit XML, too.",
)
@click.option(
    "--code-quality",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write what was rejected as a GitLab code quality report, too.",
)
def gate(
    candidate: str,
    policy_file: Path | None,
    allow_python: bool,
    no_policy: bool,
    output_format: str,
    junit: Path | None,
    code_quality: Path | None,
    **options: Any,
) -> int:
    """Decide whether a candidate may take the place of what is shipped.

    Budgets are compared exactly. Scores are compared under the same random draws, with their noise: seeds are added
    until the decision is clear. A candidate that differs in its weights or its exporter alone is equal.

    Rules come from [gate] in aznas.toml, or [tool.aznas.gate] in pyproject.toml, and from options, which come first.
    In GitHub Actions the reasons become annotations and a step summary. The files are read and scored in a process of
    their own, and whatever ends it is no decision.

    \b
    Examples:
      aznas gate candidate.onnx --baseline shipped.onnx
      aznas gate candidate.onnx --baseline shipped.onnx --max-macs 600M --max-latency-ratio 1.1
      aznas gate candidate.onnx --reference mbv2-600M --min-percentile 50
      aznas gate candidate.onnx                                  by the repository's aznas.toml

    Exit status: 0 passed, 1 rejected, 2 no decision, whatever the cause, 130 interrupted.
    """
    reports = {"junit": junit, "code_quality": code_quality}
    from aznas_onnx.cli.child_process import Bug, ended_by_signals
    from aznas_onnx.cli.render.ci import write_failure

    try:
        with ended_by_signals():
            rules, given, origin = _rules(options, policy_file, no_policy=no_policy, allow_python=allow_python)
            result = _decide(candidate, rules, given, origin)
            _report(result, output_format, origin, reports)
    except KeyboardInterrupt:
        write_failure(candidate, "it was interrupted", output_format, os.environ, **reports)
        raise
    except (AznasError, click.ClickException) as error:
        write_failure(candidate, _message(error), output_format, os.environ, **reports)
        raise
    except Exception as error:  # a bug: Python would exit with 1, and that would say "rejected"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        told = str(error) if isinstance(error, Bug) else f"{type(error).__name__}: {error}"
        write_traceback(error.trace if isinstance(error, Bug) else None)
        write_failure(candidate, f"internal error ({told}); please report it", output_format, os.environ, **reports)
        return BAD_INPUT
    return DONE if result.passed else REJECTED


def _message(error: Exception) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def _report(result: GateResult, output_format: str, origin: str, reports: dict[str, Path | None]) -> None:
    from aznas_onnx.cli.console import forget_stdout, results
    from aznas_onnx.cli.render.ci import write_reports
    from aznas_onnx.cli.render.gate import render_gate

    for warning in result.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    if result.verdict.value == "inconclusive" and result.passed:
        click.echo(f"warning: undecided, and passed by the policy: {printable(result.reasons[0])}", err=True)
    write_reports(result, os.environ, **reports)
    try:
        render_gate(result, output_format, results(), origin=origin)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the status must still be that of the verdict
        forget_stdout()


def _rules(
    options: dict[str, Any], policy_file: Path | None, *, no_policy: bool, allow_python: bool
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the rules of the file, those of options, which come first, and where they come from.

    Raises
    ------
    SettingsError
        If the file cannot be read, or names Python files and may not.
    """
    from aznas_onnx.gating import find_policy_file, python_files, read_policy

    if no_policy and policy_file is not None:
        raise click.UsageError("--policy names a file and --no-policy wants none; give one of the two")
    path = policy_file or (None if no_policy else find_policy_file(Path.cwd()))
    given = {name: value for name, value in options.items() if value not in (None, (), {})}
    if path is None:
        return {}, given, "options"
    rules = read_policy(_relative(path))
    origin = printable(_from_here(path))
    if not allow_python and "proxies" in given:
        rules.pop("proxies", None)  # an option overrides them, so that none need be executed
    files = () if allow_python else python_files(rules)
    if files:
        raise SettingsError(
            f"policy {origin} names the Python file {files[0].rpartition(':')[0]!r}, which would be executed, and a "
            "policy may come with the change that it judges; give --allow-python if you trust both"
        )
    return rules, given, origin


def decide(candidate: str, rules: dict[str, Any], given: dict[str, Any], origin: str, tell: Tell) -> GateResult:
    """Decide by the rules of a file and those given beside it; proxies of a user's own are executed here."""
    from aznas_onnx.cli.child_process import limit_processor_time
    from aznas_onnx.gating import Inconclusive, Policy
    from aznas_onnx.gating import gate as decide_by
    from aznas_onnx.limits import within

    if rules:
        try:
            Policy(**rules)
        except SettingsError as error:  # a mistake in the file; what is wrong beside it is in the options
            raise SettingsError(f"policy {origin}: {error}") from error
    merged = {**rules, **given}
    for table in ("floors", "spreads"):
        if table in given:
            merged[table] = {**rules.get(table, {}), **given[table]}
    if "inconclusive" in given:
        merged["inconclusive"] = Inconclusive(given["inconclusive"])
    policy = Policy.of(merged)
    files = 1 + len(policy.baseline)

    def watched(stage: str) -> None:
        # Each file has a budget of its own for being read; this one is for what a library does without an end.
        is_reading = stage == "reading"
        most_s = _LOADING_S + files * _READING * within(policy.time_limit).reading_s
        limit_processor_time(most_s if is_reading else None)
        tell(stage)

    return decide_by(candidate, policy, on_stage=watched)


def _relative(path: Path) -> Path:
    """Return the path as seen from here where it lies below, so that names in results stay short."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _from_here(path: Path) -> str:
    """Return the path as seen from here, or as it is on another drive, from which no relative path leads."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return os.fspath(path)


def _decide(candidate: str, rules: dict[str, Any], given: dict[str, Any], origin: str) -> GateResult:
    from aznas_onnx.cli.child_process import in_child_process
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.gating import GateResult, gate  # noqa: F401 - loaded before the process is copied

    console = diagnostics()
    with in_child_process(decide, candidate, rules, given, origin) as child, _stages(console) as tell:
        result = child.result(on_stage=tell, on_line=lambda line: console.print(printable(line)))
    assert isinstance(result, GateResult)
    return result


@contextmanager
def _stages(console: Console) -> Iterator[Tell]:
    """Show what is being done, on a terminal."""
    from rich.text import Text

    if not console.is_terminal:
        yield lambda stage: None
        return
    with console.status("reading") as status:
        yield lambda stage: status.update(Text(printable(stage)))
