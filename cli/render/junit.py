"""The gate's JUnit XML: a suite for each candidate, and a case for each check, with its sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

from aznas_onnx.cli.render.gate import plain
from aznas_onnx.escaping import json_text, xml
from aznas_onnx.gating import Check, Decision, GateResult
from aznas_onnx.software import software_versions

__all__ = ["failed_suite", "junit_text", "suite_of"]


def junit_text(suites: Iterable[ElementTree.Element]) -> str:
    """Return suites as a document, with their sums."""
    root = ElementTree.Element("testsuites")
    root.extend(suites)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n"


def suite_of(result: GateResult) -> ElementTree.Element:
    """Return a result as a suite, in which each check is a case.

    What is inconclusive counts as skipped, or as failed where the policy rejects it.
    """
    cases = [_case(result, check) for check in result.checks]
    suite = _suite(result.candidate, _properties(result), cases, result.elapsed_s)
    if result.warnings:
        ElementTree.SubElement(suite, "system-err").text = xml("\n".join(result.warnings))
    return suite


def failed_suite(candidate: str, reason: str) -> ElementTree.Element:
    """Return the suite of a candidate without a decision, and why there is none."""
    case = ElementTree.Element("testcase", classname=xml(candidate), name="gate")
    case.append(_outcome("error", reason, type="bad input"))
    return _suite(candidate, software_versions(), [case], 0.0)


def _case(result: GateResult, check: Check) -> ElementTree.Element:
    name = check.rule if check.against is None else f"{check.rule} ({check.against})"
    case = ElementTree.Element("testcase", classname=xml(result.candidate), name=xml(name))
    if result.fails(check):
        case.append(_outcome("failure", check.reason, type=check.verdict.value))
    elif check.verdict is Decision.INCONCLUSIVE:
        case.append(_outcome("skipped", check.reason))
    ElementTree.SubElement(case, "system-out").text = xml(check.reason)
    return case


def _outcome(tag: str, reason: str, **attributes: str) -> ElementTree.Element:
    """Return what became of a case; some viewers show its attribute alone, others its text."""
    outcome = ElementTree.Element(tag, {"message": xml(reason), **attributes})
    outcome.text = xml(reason)
    return outcome


def _properties(result: GateResult) -> dict[str, str]:
    """Return what a decision depends on: versions, files, seeds, and settings of the scores."""
    files = {f"sha256 of {model.model}": model.hashes.sha256 for model in result.models}
    seeds = {"seeds": str(result.seeds)} if result.seeds else {}
    settings = {f"settings.{name}": _text(value) for name, value in result.settings.items()}
    return {**software_versions(), "verdict": result.verdict.value, **files, **seeds, **settings}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text(plain(value), indent=None)


def _suite(
    candidate: str, properties: Mapping[str, str], cases: Iterable[ElementTree.Element], elapsed_s: float
) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=xml(f"aznas gate {candidate}"), time=f"{elapsed_s:.3f}")
    listed = ElementTree.SubElement(suite, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(listed, "property", name=xml(name), value=xml(value))
    suite.extend(cases)
    found = list(suite.iter("testcase"))
    tags = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    suite.set("tests", str(len(found)))
    for key, tag in tags.items():
        suite.set(key, str(sum(case.find(tag) is not None for case in found)))
    return suite
