"""Reports for CI systems: JUnit XML, GitLab code quality, GitHub annotations and summary."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

import click

from aznas_onnx.cli.render.gate import failure_document, headline, undecided, write_summary
from aznas_onnx.cli.render.junit import failed_suite, junit_text, suite_of
from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import annotation, json_text, markdown, markdown_code, printable, shortened
from aznas_onnx.gating import Decision, GateResult

__all__ = ["code_quality_document", "write_failure", "write_reports"]


def write_reports(
    result: GateResult, environment: Mapping[str, str], *, junit: Path | None, code_quality: Path | None
) -> None:
    """Write the requested reports, and GitHub's within GitHub Actions."""
    if junit is not None:
        _write(junit, junit_text([suite_of(result)]))
    if code_quality is not None:
        _write(code_quality, json_text(code_quality_document(result)) + "\n")
    if environment.get("GITHUB_ACTIONS") == "true":
        for check in result.checks:
            if check.verdict is not Decision.PASS:
                level = "error" if result.fails(check) else "warning"
                told = f" {undecided(result)}" if result.verdict is Decision.INCONCLUSIVE else ""
                message = f"{result.candidate}{told}: {check.reason}"
                _annotate(level, f"aznas gate: {check.rule}", message, result.candidate)
        if result.verdict is Decision.PASS:
            _annotate("notice", "aznas gate", headline(result), result.candidate)
    with _appending(environment, "GITHUB_STEP_SUMMARY") as stream:
        write_summary(result, stream)
    with _appending(environment, "GITHUB_OUTPUT") as stream:
        stream.write(f"verdict={result.verdict.value}\n")


def write_failure(
    candidate: str,
    reason: str,
    output_format: str,
    environment: Mapping[str, str],
    *,
    junit: Path | None,
    code_quality: Path | None,
) -> None:
    """Report in every format that there is no decision, and why: that is not a rejection."""
    if output_format == "json":
        click.echo(json_text(failure_document(candidate, reason)))
    if junit is not None:
        _write(junit, junit_text([failed_suite(candidate, reason)]))
    if code_quality is not None:
        _write(code_quality, json_text([_issue(candidate, "error", reason, "blocker")]) + "\n")
    if environment.get("GITHUB_ACTIONS") == "true":
        _annotate("error", "aznas gate could not decide", reason, candidate)
    with _appending(environment, "GITHUB_STEP_SUMMARY") as stream:
        stream.write(f"### no decision: {markdown_code(candidate)}\n\nThe gate could not decide: {markdown(reason)}\n")
    with _appending(environment, "GITHUB_OUTPUT") as stream:
        stream.write("verdict=error\n")


def code_quality_document(result: GateResult) -> list[JsonObject]:
    """Return what did not pass as issues of GitLab's code quality report; an empty list where all did."""
    return [
        _issue(
            result.candidate,
            f"{check.rule}:{check.against or ''}",
            check.reason,
            "blocker" if result.fails(check) else "minor",
        )
        for check in result.checks
        if check.verdict is not Decision.PASS
    ]


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
