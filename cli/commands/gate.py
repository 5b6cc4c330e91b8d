"""`aznas gate`: reject a candidate that is worse than the baseline, or over budget."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.commands.reference import complete_reference
from aznas_onnx.cli.console import say, warn, write_traceback
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, REJECTED
from aznas_onnx.cli.gate_runs import GateRun, outcomes_of
from aznas_onnx.cli.options import file_option, format_of, operators_option, setting_option
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.escaping import printable
from aznas_onnx.gating.policy import RULES, rule_default

if TYPE_CHECKING:
    from aznas_onnx.cli.gate_runs import GateOutcome
    from aznas_onnx.gating import PolicySources

__all__ = ["gate"]


def _rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option of each rule; an option that is not given leaves the rule to the policy file."""
    arguments: dict[str, dict[str, Any]] = {
        "reference": {"shell_complete": complete_reference},
        "keep_graph": {"default": None},
        "interface": {"default": None},
        "allow_smaller": {"default": None},
    }
    for name, setting in reversed(list(RULES.items())):
        command = setting_option(setting, help_default=rule_default(name), **arguments.get(name, {}))(command)
    return command


@click.command()
@click.argument("candidates", metavar="[CANDIDATE.onnx]...", nargs=-1, type=click.Path())
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
    candidates: tuple[str, ...],
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

    Several candidates are judged one after another, and the exit status is that of the worst. Without a
    candidate, those are judged that the policy lists under [[gate.model]], with rules of their own.

    \b
    Examples:
      aznas gate candidate.onnx --baseline shipped.onnx
      aznas gate candidate.onnx --baseline shipped.onnx --max-macs 600M --max-latency-ratio 1.1
      aznas gate candidate.onnx --reference mbv2-600M --min-percentile 50
      aznas gate candidate.onnx                              rules of the repository's aznas.toml
      aznas gate                                             the models that it lists

    Exit status: 0 passed, 1 rejected, 2 no decision (bad file, bad policy, crash), 130 interrupted.
    """
    reports = {"junit": junit, "code_quality": code_quality}
    from aznas_onnx.cli.child_process import Bug, ended_by_signals
    from aznas_onnx.cli.render.ci import write_failure

    def fail(reason: str) -> None:
        names = candidates or (os.fspath(policy_file or "policy"),)
        write_failure(names, reason, output_format, os.environ, is_list=len(candidates) != 1, **reports)

    try:
        with ended_by_signals():
            runs = _runs(candidates, policy_file, not no_cache, no_policy, allow_python, **options)
            outcomes = outcomes_of(runs)
            is_list = len(candidates) != 1 or len(runs) > 1
            _report(outcomes, output_format, runs[0].sources.origin, reports, is_list=is_list)
    except KeyboardInterrupt:
        fail("it was interrupted")
        raise
    except (AznasError, click.ClickException) as error:
        fail(_message(error))
        raise
    except Exception as error:  # a bug: Python would exit with 1, which means "rejected"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = str(error) if isinstance(error, Bug) else f"{type(error).__name__}: {error}"
        write_traceback(error.trace if isinstance(error, Bug) else None)
        fail(f"internal error ({reason}); please report it")
        return BAD_INPUT
    return max(map(_status, outcomes))


def _status(outcome: GateOutcome) -> int:
    """Return the exit status of one candidate; that of several is the greatest, which is the worst."""
    from aznas_onnx.gating import GateFailure

    if isinstance(outcome, GateFailure):
        return BAD_INPUT
    return DONE if outcome.passed else REJECTED


def _message(error: Exception) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def _report(
    outcomes: Sequence[GateOutcome],
    output_format: str,
    origin: str,
    reports: dict[str, Path | None],
    *,
    is_list: bool,
) -> None:
    from aznas_onnx.cli.console import forget_stdout, results
    from aznas_onnx.cli.render.ci import write_reports
    from aznas_onnx.cli.render.gates import render_gates
    from aznas_onnx.gating import GateFailure

    for outcome in outcomes:
        if isinstance(outcome, GateFailure):
            say(outcome.reason)
            continue
        for warning in outcome.warnings:
            warn(warning)
        if outcome.verdict.value == "inconclusive" and outcome.passed:
            warn(f"undecided, and passed by the policy: {outcome.reasons[0]}")
    write_reports(outcomes, os.environ, **reports)
    try:
        render_gates(outcomes, output_format, results(), origin=origin, is_list=is_list)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the status must still be that of the verdict
        forget_stdout()


def _runs(
    candidates: Sequence[str],
    policy_file: Path | None,
    uses_cache: bool,
    no_policy: bool,
    allow_python: bool,
    **options: Any,
) -> list[GateRun]:
    """Return what is to be judged: the candidates of the command line, or else those that the policy lists.

    Raises SettingsError if the policy file cannot be read, or names Python files without permission.
    """
    from aznas_onnx.gating import PolicySources, find_policy_file, read_models, read_policy

    if no_policy and policy_file is not None:
        raise click.UsageError("--policy names a file and --no-policy wants none; give one of the two")
    path = policy_file or (None if no_policy else find_policy_file(Path.cwd()))
    given = {name: value for name, value in options.items() if value not in (None, (), {})}
    sources = PolicySources(by_option=given)
    listed: Sequence[tuple[str, PolicySources]] = ()
    if path is not None:
        near = _relative(path)
        sources = PolicySources(in_file=read_policy(near), by_option=given, origin=printable(_from_here(path)))
        listed = read_models(near, sources)
    if not candidates and not listed:
        raise click.UsageError("Missing argument 'CANDIDATE.onnx', and no policy lists models under [[gate.model]]")
    chosen = list(listed)
    if candidates:
        rules_of: dict[str, list[PolicySources]] = {}
        for name, own in listed:
            rules_of.setdefault(_place(name), []).append(own)
        chosen = [(name, own) for name in candidates for own in rules_of.get(_place(name), [sources])]
    return [
        GateRun(candidate=name, sources=_permitted(own, allow_python=allow_python), uses_cache=uses_cache)
        for name, own in chosen
    ]


def _place(name: str) -> str:
    return os.path.normpath(Path.cwd() / name)


def _permitted(sources: PolicySources, *, allow_python: bool) -> PolicySources:
    """Return sources without Python files that would not be executed anyway; refuse those that would."""
    if allow_python:
        return sources
    if "proxies" in sources.by_option:  # an option overrides them, so that none need be executed
        in_file = {name: value for name, value in sources.in_file.items() if name != "proxies"}
        sources = replace(sources, in_file=in_file)
    files = sources.python_files
    if files:
        raise SettingsError(
            f"policy {sources.origin} names the Python file {files[0].rpartition(':')[0]!r}, which would be executed, "
            "and a policy may come with the change that it judges; give --allow-python if you trust both"
        )
    return sources


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
