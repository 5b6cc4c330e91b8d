"""ONNX's own operator tests; `benchmarks/conformance.py` is the suite and says how a case is run."""

from __future__ import annotations

import pytest

from benchmarks import conformance
from benchmarks.conformance import DIFFERS, FAILED, Outcome

LEAST_SHARE = 0.96


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return conformance.run_all([*conformance.operator_cases(), *conformance.data_cases()])


@pytest.mark.slow
def test_no_case_breaks_the_importer(outcomes: list[Outcome]) -> None:
    assert [(o.case.name, o.reason) for o in outcomes if o.status == FAILED] == []


@pytest.mark.slow
def test_no_case_gives_a_wrong_answer_that_is_not_explained(outcomes: list[Outcome]) -> None:
    assert {o.case.name for o in outcomes if o.status == DIFFERS} == set(conformance.EXPLAINED)


@pytest.mark.slow
def test_nearly_all_cases_about_numbers_in_a_network_pass(outcomes: list[Outcome]) -> None:
    assert sum(conformance.is_claimed(outcome) for outcome in outcomes) > 1800
    assert conformance.share_passed(outcomes) >= LEAST_SHARE


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["pytorch-converted", "pytorch-operator", "light"])
def test_all_exported_models_of_the_onnx_package_pass(outcomes: list[Outcome], suite: str) -> None:
    found = [outcome for outcome in outcomes if outcome.case.suite == suite]
    assert len(found) >= 9
    assert [(o.case.name, o.reason) for o in found if o.status != conformance.PASSED] == []
