"""`aznas gate`: reject a candidate that is worse than the baseline, or over budget."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.commands.reference import complete_reference
from aznas_onnx.cli.console import warn, write_traceback
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, REJECTED
from aznas_onnx.cli.options import file_option, format_of, operators_option, setting_option
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.escaping import printable
from aznas_onnx.gating.policy import RULES, rule_default

if TYPE_CHECKING:
    from aznas_onnx.gating import GateResult, PolicySources

__all__ = ["decide", "gate"]

_READING, _LOADING_S = 3, 30.0  # multiples of one reading budget, and the time to load libraries

Tell = Callable[[str], None]


def _rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option of each rule; an option that is not given leaves the rule to the policy file."""
    arguments: dict[str, dict[str, Any]] = {
        "reference": {"shell_complete": complete_reference},
        "keep_graph": {"default": None},
        "interface": {"default": None},
    }
    for name, setting in reversed(list(RULES.items())):
        command = setting_option(setting, help_default=rule_default(name), **arguments.get(name, {}))(command)
    return command


@click.command()
@click.argument("candidate", metavar="CANDIDATE.onnx", type=click.Path())
@_rule_options
@operators_option
@file_option(
    "--policy",
    "policy_file",
    metavar="FILE.toml",
    help="File of rules; options override them.  [default: aznas.toml or pyproject.toml, in this folder or above]",
)
@click.option("--allow-python", is_flag=True, help="Execute the Python files of custom proxies that the policy names.")
@click.option("--no-cache", is_flag=True, help="Score every network again, and store nothing in the cache folder.")
@click.option("--no-policy", is_flag=True, help="Take the rules from the options alone.")
@format_of("table", "json", "md")
@file_option("--junit", metavar="FILE.xml", help="Also write the checks as JUnit XML.")
@file_option("--code-quality", metavar="FILE.json", help="Also write the rejections as a GitLab code quality report.")
def gate(
    candidate: str,
    policy_file: Path | None,
    allow_python: bool,
    no_cache: bool,
    no_policy: bool,
    output_format: str,
    junit: Path | None,
    code_quality: Path | None,
    **options: Any,
) -> int:
    """Decide whether a candidate can replace the shipped network.

    Budgets are compared exactly. Scores are compared under the same random seeds, with their noise: seeds are added
    until the decision is clear. A candidate with other weights or another exporter is equal.

    Rules come from [gate] in aznas.toml, or [tool.aznas.gate] in pyproject.toml. Options override them.
    In GitHub Actions the reasons become annotations and a step summary. A child process reads and scores
    the files; if it crashes or is killed, there is no decision.

    \b
    Examples:
      aznas gate candidate.onnx --baseline shipped.onnx
      aznas gate candidate.onnx --baseline shipped.onnx --max-macs 600M --max-latency-ratio 1.1
      aznas gate candidate.onnx --reference mbv2-600M --min-percentile 50
      aznas gate candidate.onnx                              rules of the repository's aznas.toml

    Exit status: 0 passed, 1 rejected, 2 no decision (bad file, bad policy, crash), 130 interrupted.
    """
    reports = {"junit": junit, "code_quality": code_quality}
    from aznas_onnx.cli.child_process import Bug, ended_by_signals
    from aznas_onnx.cli.render.ci import write_failure

    try:
        with ended_by_signals():
            sources = _sources(policy_file, no_policy=no_policy, allow_python=allow_python, **options)
            result = _decide(candidate, sources, uses_cache=not no_cache)
            _report(result, output_format, sources.origin, reports)
    except KeyboardInterrupt:
        write_failure(candidate, "it was interrupted", output_format, os.environ, **reports)
        raise
    except (AznasError, click.ClickException) as error:
        write_failure(candidate, _message(error), output_format, os.environ, **reports)
        raise
    except Exception as error:  # a bug: Python would exit with 1, which means "rejected"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = str(error) if isinstance(error, Bug) else f"{type(error).__name__}: {error}"
        write_traceback(error.trace if isinstance(error, Bug) else None)
        write_failure(candidate, f"internal error ({reason}); please report it", output_format, os.environ, **reports)
        return BAD_INPUT
    return DONE if result.passed else REJECTED


def _message(error: Exception) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def _report(result: GateResult, output_format: str, origin: str, reports: dict[str, Path | None]) -> None:
    from aznas_onnx.cli.console import forget_stdout, results
    from aznas_onnx.cli.render.ci import write_reports
    from aznas_onnx.cli.render.gate import render_gate

    for warning in result.warnings:
        warn(warning)
    if result.verdict.value == "inconclusive" and result.passed:
        warn(f"undecided, and passed by the policy: {result.reasons[0]}")
    write_reports(result, os.environ, **reports)
    try:
        render_gate(result, output_format, results(), origin=origin)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the status must still be that of the verdict
        forget_stdout()


def _sources(policy_file: Path | None, *, no_policy: bool, allow_python: bool, **options: Any) -> PolicySources:
    """Read the policy file, and take the options that are given.

    Raises SettingsError if the file cannot be read, or names Python files without permission.
    """
    from aznas_onnx.gating import PolicySources, find_policy_file, read_policy

    if no_policy and policy_file is not None:
        raise click.UsageError("--policy names a file and --no-policy wants none; give one of the two")
    path = policy_file or (None if no_policy else find_policy_file(Path.cwd()))
    given = {name: value for name, value in options.items() if value not in (None, (), {})}
    if path is None:
        return PolicySources(by_option=given)
    rules = read_policy(_relative(path))
    origin = printable(_from_here(path))
    if not allow_python and "proxies" in given:
        rules.pop("proxies", None)  # an option overrides them, so that none need be executed
    sources = PolicySources(in_file=rules, by_option=given, origin=origin)
    files = sources.python_files
    if files and not allow_python:
        raise SettingsError(
            f"policy {origin} names the Python file {files[0].rpartition(':')[0]!r}, which would be executed, and a "
            "policy may come with the change that it judges; give --allow-python if you trust both"
        )
    return sources


def decide(candidate: str, sources: PolicySources, uses_cache: bool, tell: Tell) -> GateResult:
    """Decide by the rules of a file and of options; user proxies are executed here."""
    from aznas_onnx.cli.child_process import limit_processor_time
    from aznas_onnx.gating import gate as decide_by
    from aznas_onnx.limits import within

    policy = sources.policy()
    files = 1 + len(policy.baseline)

    def watched(stage: str) -> None:
        # Each file has its own reading budget; this limit is for a library that computes without end.
        is_reading = stage == "reading"
        most_s = _LOADING_S + files * _READING * within(policy.time_limit).reading_s
        limit_processor_time(most_s if is_reading else None)
        tell(stage)

    return decide_by(candidate, policy, cache=uses_cache, on_stage=watched)


def _relative(path: Path) -> Path:
    """Return the path relative to the current folder where it is inside, so that names in results are short."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _from_here(path: Path) -> str:
    """Return the path as seen from here, or as it is on another drive, from which no relative path leads."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return os.fspath(path)


def _decide(candidate: str, sources: PolicySources, *, uses_cache: bool) -> GateResult:
    from aznas_onnx.cli.child_process import in_child_process
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.progress import shown_stages
    from aznas_onnx.gating import GateResult, gate  # noqa: F401 - loaded before the process is copied

    console = diagnostics()
    with in_child_process(decide, candidate, sources, uses_cache) as child, shown_stages(console, "reading") as tell:
        result = child.result(on_stage=tell, on_line=lambda line: console.print(printable(line)))
    assert isinstance(result, GateResult)
    return result
