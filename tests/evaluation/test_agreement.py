from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Bootstrap, Record, SizeMatch, evaluate, read_truth
from aznas_onnx.evaluation.run_comparison import compare
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Aggregation, CohortKind, Ensemble
from aznas_onnx.results import ProxyValue
from aznas_onnx.spaces import get
from benchmarks.paper_page import page
from benchmarks.published import ABLATION, CORRELATION, PROXY_ORDER
from tests.evaluation.samples import record, truth_of

NONE = Bootstrap(resamples=0)
TRUTH = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


def test_every_set_of_proxies_under_both_aggregations(tmp_path: Path) -> None:
    records = [record(arch, expressivity=1.0, progressivity=2.0, trainability=3.0, macs=4.0) for arch in TRUTH]
    found = evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE, has_combinations=True)
    assert [one.proxies for one in found.single] == [(name,) for name in PROXY_ORDER]
    keys = [(one.proxies, one.aggregation) for one in found.combined]
    assert len(keys) == len(set(keys)) == 2 * 11
    assert {(row.proxies, row.aggregation) for row in ABLATION if row.aggregation} <= set(keys)
    assert found.overall.aggregation is Aggregation.LOG_RANK
    assert [one.proxies for one in found.baselines] == [("macs",), ("params",), ("layers",)]


def test_numbers_by_hand(tmp_path: Path) -> None:
    records = [
        record("d", expressivity=4.0, trainability=None),
        record("b", expressivity=2.0, trainability=-1.0),
        record("a", expressivity=3.0, trainability=-2.0),
        record("c", expressivity=None, trainability=-3.0),
        Record(arch="x", reason="it fails"),
    ]
    found = evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE, aggregation="linear")
    expressivity, trainability = found.single
    assert expressivity.kendall["accuracy"].value == pytest.approx(0)  # a 3, b 2, c lowest, d 4: 3 of 6 pairs agree
    assert trainability.kendall["accuracy"].value == pytest.approx(-4 / 6)  # a 3, b 4, c 2, d lowest
    assert (found.n, found.failed) == (4, 1)
    assert found.overall.aggregation is Aggregation.LINEAR
    # Ranks: a 3 + 3, b 2 + 4, c 1 + 2, d 4 + 1.
    assert found.overall.kendall["accuracy"].value == pytest.approx(-3 / math.sqrt(6 * 5))
    assert found.proxy_correlation == ((1.0, pytest.approx(-1 / 3)), (pytest.approx(-1 / 3), 1.0))
    assert found.seconds == 0.5
    (top,) = found.top["accuracy"]
    assert (top.best, top.regret) == (1.0, 3.0)  # a and b are equal; a comes first in the measurements


def test_the_order_of_scoring_decides_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {str(number): float(number % 7) for number in range(30)}
    records = [record(arch, expressivity=float(rng.integers(5)), macs=float(rng.integers(5))) for arch in rows]
    truth = truth_of(tmp_path, rows)
    once, again = (evaluate(side, truth, bootstrap=Bootstrap(resamples=5)) for side in (records, records[::-1]))
    assert once == again


def test_a_proxy_that_does_not_apply_is_left_out(tmp_path: Path) -> None:
    inapplicable = ProxyValue(mean=None, reason="not defined for transformers", applies=False)
    records = [
        Record(arch=arch, proxies={"expressivity": ProxyValue(mean=value), "progressivity": inapplicable})
        for arch, value in TRUTH.items()
    ]
    found = evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE)
    assert found.proxies == ("expressivity",)
    assert found.combined == ()
    assert found.overall == found.single[0]
    assert found.overall.kendall["accuracy"].value == pytest.approx(1)


def test_intervals_hold_the_estimate_and_narrow_with_the_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {str(number): rng.normal() for number in range(300)}
    records = [
        record(arch, expressivity=value + rng.normal(), trainability=value + rng.normal())
        for arch, value in rows.items()
    ]
    truth = truth_of(tmp_path, rows)
    widths = []
    for n in (50, 300):
        found = evaluate(records[:n], truth, bootstrap=Bootstrap(resamples=40))
        tau = found.overall.kendall["accuracy"]
        assert tau.low is not None
        assert tau.high is not None
        assert tau.value is not None
        assert tau.low < tau.value < tau.high
        widths.append(tau.high - tau.low)
    assert widths[1] < widths[0]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record("a", expressivity=1.0)], "1 of 1 architectures are scored; 2 or more can be compared"),
        ([record("a", macs=1.0), record("z", macs=1.0)], "z is scored, and the measurements do not list it"),
        ([record("a", macs=1.0), record("b", expressivity=1.0)], "no proxy can be compared over all architectures"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, records: list[Record], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE)


def test_ways_to_score_are_compared_on_what_all_scored(tmp_path: Path) -> None:
    good = [record(arch, expressivity=value) for arch, value in TRUTH.items()]
    bad = [record("c", expressivity=1.0), record("b", expressivity=2.0), record("a", expressivity=3.0)]
    found = compare([good, bad, good], truth_of(tmp_path, TRUTH), Bootstrap(resamples=20))
    assert found is not None
    assert found.n == 3
    assert [one.kendall["accuracy"].value for one in found.contenders] == pytest.approx([1, -1, 1])
    assert found.contenders[1].difference["accuracy"].value == pytest.approx(-2)
    same = found.contenders[2].difference["accuracy"]
    assert (same.value, same.low, same.high) == (0, 0, 0)  # the same resamples: no noise of their own
    assert compare([good, [record("d", expressivity=1.0)]], truth_of(tmp_path, TRUTH)) is None


def test_the_published_scores_give_the_published_agreement(shared: Path) -> None:
    """200 cells of the published implementation: the paper's rows of Table 4 and Figure 3 within their noise."""
    space = get("nb201")
    records = []
    for line in (shared / "reference" / "nb201_reference_scores.jsonl").read_text().splitlines():
        fields = json.loads(line)
        arch = fields.pop("arch")
        proxies = {name: value if math.isfinite(value) else None for name, value in fields.items()}
        records.append(record(arch, **proxies, macs=float(space.macs(space.parse(arch)))))
    found = evaluate(
        records, read_truth(shared / "reference" / "nb201_accuracy_dev.csv"), bootstrap=NONE, has_combinations=True
    )
    by_key = {(one.proxies, one.aggregation): one for one in (*found.single, *found.combined)}
    for row in ABLATION:
        ours = [tau.value for tau in by_key[row.proxies, row.aggregation].kendall.values()]
        assert ours == pytest.approx(row.kendall, abs=0.045), row.number
    lines = list(page(found, "nb201", found.columns))
    rows = [line for line in lines if line.startswith(("| AZ-NAS |", "| 13 | E+P+T+C | log-rank |"))]
    assert [line.count("| 0.741 |") for line in rows] == [1, 1]
    assert any(line.startswith("| macs |") and line.endswith("(1.00) |") for line in lines)
    np.testing.assert_allclose(np.array(found.proxy_correlation, dtype=float), CORRELATION, atol=0.05)


def test_ensembles_of_some_proxies_are_reported(tmp_path: Path) -> None:
    records = [record(arch, expressivity=value, activations=-value, macs=4.0) for arch, value in TRUTH.items()]
    groups = ("az", "best-dense", "te_nas")
    found = evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE, ensembles=groups)
    assert [(one.ensemble, one.proxies, one.aggregation) for one in found.ensembles] == [
        ("az", ("expressivity", "macs"), Aggregation.LOG_RANK),
        ("best-dense", ("activations",), Aggregation.LOG_RANK),
    ]
    assert [one.kendall["accuracy"].value for one in found.ensembles] == [pytest.approx(1), pytest.approx(-1)]
    assert found.combined == ()


def test_what_varies_decides_which_proxies_count(tmp_path: Path) -> None:
    """Networks of one depth differ in widths: what `best` says of these is the score, and every proxy is listed."""
    members = PROXIES.resolve(["best"])
    records = [
        record(arch, **{one.name: 1.0 for one in members} | {"effective_rank": value, "mean_path": -value})
        for arch, value in TRUTH.items()
    ]
    ensemble = Ensemble.of(["best"])
    found = evaluate(records, truth_of(tmp_path, TRUTH), bootstrap=NONE, aggregation=ensemble.aggregation)
    assert found.kind is CohortKind.WIDTHS
    assert found.aggregation is Aggregation.LINEAR
    assert set(found.overall.proxies) == {one.name for one in PROXIES.resolve(["best-widths"])}
    assert found.weights["effective_rank"] == 2
    assert found.overall.kendall["accuracy"].value == pytest.approx(1)
    assert {one.proxies[0] for one in found.single} == {one.name for one in members}


def test_pairs_are_matched_by_a_count_or_by_a_column(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("arch,ms,accuracy\na,1,1\nb,1.05,2\nc,9,3\nd,9.2,4\n")
    records = [record(arch, expressivity=value) for arch, value in zip("abcd", (2.0, 1.0, 3.0, 4.0), strict=True)]
    by_ms = evaluate(records, read_truth(path, size="ms"), bootstrap=NONE, match=SizeMatch(by="ms", within=0.1))
    assert by_ms.n_pairs == 2
    assert by_ms.overall.matched["accuracy"].value == pytest.approx(0)  # a and b wrong, c and d right
    by_macs = evaluate(records, read_truth(path, ["accuracy"]), bootstrap=NONE)  # all have one MAC
    assert by_macs.n_pairs == 6
    assert by_macs.overall.matched["accuracy"].value == pytest.approx(4 / 6)
    assert by_macs.overall.kendall["accuracy"].value == pytest.approx(4 / 6)
    unknown = [replace(one, macs=None) for one in records]
    assert evaluate(unknown, read_truth(path, ["accuracy"]), bootstrap=NONE).n_pairs == 0


def test_where_lower_is_better_the_best_is_the_lowest(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("arch,ppl\na,40\nb,30\nc,20\nd,10\n")
    records = [record(arch, expressivity=value) for arch, value in zip("abcd", (1.0, 2.0, 4.0, 3.0), strict=True)]
    found = evaluate(records, read_truth(path, lower=["ppl"]), bootstrap=NONE)
    assert found.overall.kendall["ppl"].value == pytest.approx(4 / 6)
    (top,) = found.top["ppl"]
    assert (top.best, top.mean, top.regret) == (20, 20, 10)
