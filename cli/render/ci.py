"""Reports for CI systems: JUnit XML, GitLab code quality, GitHub annotations and summary."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element

import click

from aznas_onnx.cli.gate_runs import GateOutcome
from aznas_onnx.cli.render.gate import failure_document, headline, undecided
from aznas_onnx.cli.render.gates import write_summaries
from aznas_onnx.cli.render.junit import failed_suite, junit_text, suite_of
from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import annotation, json_text, printable, shortened
from aznas_onnx.gating import Decision, GateFailure

__all__ = ["code_quality_document", "write_failure", "write_reports"]


def write_reports(
    outcomes: Sequence[GateOutcome], environment: Mapping[str, str], *, junit: Path | None, code_quality: Path | None
) -> None:
    """Write the requested reports, and GitHub's within GitHub Actions."""
    if junit is not None:
        _write(junit, junit_text(_suite(one) for one in outcomes))
    if code_quality is not None:
        _write(code_quality, json_text([issue for one in outcomes for issue in code_quality_document(one)]) + "\n")
    if environment.get("GITHUB_ACTIONS") == "true":
        for outcome in outcomes:
            _annotate_all(outcome)
    with _appending(environment, "GITHUB_STEP_SUMMARY") as stream:
        write_summaries(outcomes, stream)
    with _appending(environment, "GITHUB_OUTPUT") as stream:
        stream.write(f"verdict={_worst(outcomes)}\n")


def write_failure(
    candidates: Sequence[str],
    reason: str,
    output_format: str,
    environment: Mapping[str, str],
    *,
    is_list: bool,
    junit: Path | None,
    code_quality: Path | None,
) -> None:
    """Report in every format that there is no decision about any candidate, and why: that is not a rejection."""
    if output_format == "json":
        documents = [failure_document(candidate, reason) for candidate in candidates]
        click.echo(json_text(documents if is_list else documents[0]))
    failures = [GateFailure(candidate=candidate, reason=reason) for candidate in candidates]
    write_reports(failures, environment, junit=junit, code_quality=code_quality)


def code_quality_document(outcome: GateOutcome) -> list[JsonObject]:
    """Return what did not pass as issues of GitLab's code quality report; an empty list where all did."""
    if isinstance(outcome, GateFailure):
        return [_issue(outcome.candidate, "error", outcome.reason, "blocker")]
    return [
        _issue(
            outcome.candidate,
            f"{check.rule}:{check.against or ''}",
            check.reason,
            "blocker" if outcome.fails(check) else "minor",
        )
        for check in outcome.checks
        if check.verdict is not Decision.PASS
    ]


def _suite(outcome: GateOutcome) -> Element:
    if isinstance(outcome, GateFailure):
        return failed_suite(outcome.candidate, outcome.reason)
    return suite_of(outcome)


def _worst(outcomes: Sequence[GateOutcome]) -> str:
    """Return the verdict of the worst candidate; ``error`` where there is no decision about one."""
    found = {"error" if isinstance(one, GateFailure) else one.verdict.value for one in outcomes}
    return next(word for word in ("error", "reject", "inconclusive", "pass") if word in found)


def _annotate_all(outcome: GateOutcome) -> None:
    name = outcome.candidate
    if isinstance(outcome, GateFailure):
        _annotate("error", "aznas gate could not decide", outcome.reason, name)
        return
    for check in outcome.checks:
        if check.verdict is not Decision.PASS:
            level = "error" if outcome.fails(check) else "warning"
            told = f" {undecided(outcome)}" if outcome.verdict is Decision.INCONCLUSIVE else ""
            _annotate(level, f"aznas gate: {check.rule}", f"{name}{told}: {check.reason}", name)
    if outcome.verdict is Decision.PASS:
        _annotate("notice", "aznas gate", headline(outcome), name)


def _issue(candidate: str, key: str, reason: str, severity: str) -> JsonObject:
    return {
        "description": printable(shortened(reason)),
        "check_name": f"aznas gate: {key.partition(':')[0]}",
        "fingerprint": hashlib.sha256(os.fsencode(f"{candidate}\0{key}")).hexdigest(),
        "severity": severity,
        "location": {"path": printable(candidate), "lines": {"begin": 1}},
    }


def _annotate(level: str, title: str, message: str, path: str) -> None:
    """Write a command that GitHub shows beside the file; it reads stderr as well as stdout."""
    file, titled = annotation(path, is_property=True), annotation(title, is_property=True)
    click.echo(f"::{level} file={file},title={titled}::{annotation(message)}", err=True)


def _appending(environment: Mapping[str, str], variable: str) -> AbstractContextManager[IO[str]]:
    """Return the file that a variable names, to be written on at its end; nowhere if there is no such variable."""
    path = environment.get(variable)
    if not path:
        return nullcontext(io.StringIO())
    try:
        return Path(path).open("a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{variable} names {path}, which cannot be written: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0)  # a pipe may have no reader
    try:
        with open(os.open(path, flags, 0o666), "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            if hasattr(os, "set_blocking"):
                os.set_blocking(stream.fileno(), True)
            stream.write(text)
    except OSError as error:
        raise SettingsError(f"the report {path} cannot be written: {error.strerror or error}") from error
