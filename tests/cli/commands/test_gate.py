"""`aznas gate`: statuses, overrides, and the reports for CI systems. Deciding itself is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest

import aznas_onnx.cli.commands.gate as gate_command
import aznas_onnx.gating
from aznas_onnx.cli import gate_runs
from aznas_onnx.cli.gate_runs import GateOutcome, GateRun
from aznas_onnx.cli.main import run
from aznas_onnx.cli.render.ci import code_quality_document
from aznas_onnx.cli.render.junit import junit_text, suite_of
from aznas_onnx.gating import Check, Compared, Decision, GateResult, Inconclusive, Policy
from aznas_onnx.gating.file_hashes import FileHashes
from tests.gating.networks import residual

Rules = dict[str, Any]


def result(*verdicts: Decision, **rules: Any) -> GateResult:
    """A result whose checks have these verdicts."""
    texts = {
        Decision.PASS: "signal score equal to shipped.onnx (±0 over 2 seeds; 0.5 below is tolerated)",
        Decision.REJECT: "39.45M MACs, over the budget of 30M",
        Decision.INCONCLUSIVE: "12 ms a sample, too noisy to tell from 10 ms",
    }
    proxies = MappingProxyType({"expressivity": 38.6, "trainability": None, "macs": 1.5e8, "idle_blocks": 0.0})
    numbers: dict[str, Any] = {"macs": 148_100_000, "params": 11_230_000, "activation_bytes": 2_689_424}
    return GateResult(
        candidate="models/new.onnx",
        checks=tuple(
            Check(
                rule=f"rule_{index}",
                verdict=verdict,
                reason=texts[verdict],
                against="shipped.onnx" if index else None,
            )
            for index, verdict in enumerate(verdicts)
        ),
        models=(
            Compared(model="models/new.onnx", proxies=proxies, **numbers),
            Compared(
                model="shipped.onnx", proxies=proxies, latency_ms=12.34, hashes=FileHashes(sha256="5a" * 32), **numbers
            ),
        ),
        policy=Policy(baseline=("shipped.onnx",), **rules),
        seeds=2,
        settings=MappingProxyType({"effort": "balanced", "batch_size": 16, "input_shapes": {}}),
        warnings=("a doubt",),
        elapsed_s=4.2,
    )


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace the decision by what a test puts here, and keep the policy that was decided by."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for variable in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(variable, raising=False)
    state: dict[str, Any] = {"result": result(Decision.PASS)}

    def decide(candidate: str, policy: Policy, **_: Any) -> GateResult:
        state["policy"] = policy
        if isinstance(state["result"], Exception):
            raise state["result"]
        return state["result"]

    def here(runs: Sequence[GateRun]) -> list[GateOutcome]:
        return [gate_runs.decide(run, lambda stage: None) for run in runs]

    monkeypatch.setattr(aznas_onnx.gating, "gate", decide)
    monkeypatch.setattr(gate_command, "outcomes_of", here)
    return state


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (result(Decision.PASS, Decision.PASS), 0),
        (result(Decision.PASS, Decision.REJECT), 1),
        (result(Decision.INCONCLUSIVE), 0),
        (result(Decision.INCONCLUSIVE, inconclusive=Inconclusive.REJECT), 1),
    ],
    ids=["pass", "reject", "undecided", "undecided and rejected"],
)
def test_the_status_says_what_was_decided(decided: dict[str, Any], outcome: GateResult, status: int) -> None:
    decided["result"] = outcome
    assert run(["gate", "new.onnx", "--baseline", "shipped.onnx"]) == status


def test_undecided_and_passed_is_warned_of(decided: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    decided["result"] = result(Decision.INCONCLUSIVE)
    assert run(["gate", "new.onnx", "--baseline", "shipped.onnx"]) == 0
    assert capsys.readouterr().err == (
        "warning: a doubt\nwarning: undecided, and passed by the policy: 12 ms a sample, too noisy to tell from 10 ms\n"
    )


def test_a_policy_on_another_drive_is_named_by_its_whole_path(
    decided: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[gate]\nmax-macs = "1G"\n')

    def refuse(*_: Any) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", refuse)
    monkeypatch.setenv("COLUMNS", "500")
    assert run(["gate", "new.onnx", "--policy", str(path)]) == 0
    assert str(path) in capsys.readouterr().out


def test_options_override_the_policy_file(decided: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    (tmp_path / "aznas.toml").write_text(
        "[gate]\nbaseline = 'a.onnx'\nmax-macs = '1G'\nmax-params = '5M'\n[gate.floors]\nmacs = 1\ntrainability = -1\n"
    )
    assert (
        run(["gate", "new.onnx", "--max-macs", "600M", "--floor", "trainability=-0.5", "--inconclusive", "reject"]) == 0
    )
    policy = decided["policy"]
    assert (policy.baseline, policy.max_macs, policy.max_params) == (("a.onnx",), 600_000_000, 5_000_000)
    assert (policy.floors, policy.inconclusive) == ({"macs": 1.0, "trainability": -0.5}, Inconclusive.REJECT)
    assert run(["gate", "new.onnx", "--no-policy", "--max-macs", "600M"]) == 0
    assert decided["policy"] == Policy(max_macs=600_000_000)


def test_the_table_has_the_decision_first_and_a_line_for_each_check(
    decided: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    decided["result"] = result(Decision.REJECT, Decision.PASS)
    assert run(["gate", "new.onnx", "--baseline", "shipped.onnx"]) == 1
    assert (
        capsys.readouterr().out
        == """\
models/new.onnx is rejected: 39.45M MACs, over the budget of 30M

  REJECT  rule_0                39.45M MACs, over the budget of 30M
  pass    rule_1                signal score equal to shipped.onnx (±0 over 2 seeds; 0.5 below is tolerated)

Model            Expressivity  Progressivity  Trainability    MACs  Params  Activations    ms
─────────────────────────────────────────────────────────────────────────────────────────────
models/new.onnx        38.600            n/a          none  148.1M  11.23M     2.56 MiB
shipped.onnx           38.600            n/a          none  148.1M  11.23M     2.56 MiB  12.3

MACs: multiply-adds of one sample. Effort balanced, batch 16, 2 paired seeds. 4 s. Rules: options.
"""
    )


def test_json_has_the_fields_that_scripts_rely_on(decided: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    decided["result"] = result(Decision.PASS, Decision.REJECT)
    assert run(["gate", "new.onnx", "--baseline", "shipped.onnx", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "aznas.gate/1"
    assert (document["status"], document["verdict"], document["passed"]) == ("ok", "reject", False)
    assert document["reasons"] == ["39.45M MACs, over the budget of 30M"]
    assert document["checks"][1] == {
        "rule": "rule_1",
        "against": "shipped.onnx",
        "verdict": "reject",
        "reason": "39.45M MACs, over the budget of 30M",
        "value": None,
        "limit": None,
        "stderr": None,
    }
    assert document["software"]["onnx"] == onnx.__version__
    assert document["models"][1]["proxies"] == {"expressivity": 38.6, "trainability": None, "idle_blocks": 0.0}
    assert (document["models"][1]["latency_ms"], document["seeds"], document["seconds"]) == (12.34, 2, 4.2)


def junit_text_of(outcome: GateResult) -> str:
    return junit_text([suite_of(outcome)])


def test_junit_has_a_case_for_each_check() -> None:
    suites = ElementTree.fromstring(junit_text_of(result(Decision.PASS, Decision.REJECT, Decision.INCONCLUSIVE)))
    counts = {key: suites.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    assert [case.get("name") for case in suites.iter("testcase")] == [
        "rule_0",
        "rule_1 (shipped.onnx)",
        "rule_2 (shipped.onnx)",
    ]
    (failure,) = (one for one in suites.iter("failure") if one.get("type") == "reject")
    assert failure.get("message") == "39.45M MACs, over the budget of 30M"


def test_junit_has_every_sentence_where_viewers_look_and_what_the_decision_depends_on() -> None:
    (suite,) = ElementTree.fromstring(junit_text_of(result(Decision.PASS, Decision.REJECT)))
    assert suite.get("name") == "aznas gate models/new.onnx"
    passed, failed = suite.iter("testcase")
    assert (
        passed.findtext("system-out") == "signal score equal to shipped.onnx (±0 over 2 seeds; 0.5 below is tolerated)"
    )
    assert failed.findtext("system-out") == failed.findtext("failure") == "39.45M MACs, over the budget of 30M"
    assert suite.findtext("system-err") == "a doubt"
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["onnx"] == onnx.__version__
    assert properties["sha256 of shipped.onnx"] == "5a" * 32
    assert (properties["verdict"], properties["seeds"], properties["settings.effort"]) == ("reject", "2", "balanced")
    assert properties["settings.input_shapes"] == "{}"


def test_what_is_undecided_is_skipped_in_junit_where_it_passes() -> None:
    suites = ElementTree.fromstring(junit_text_of(result(Decision.PASS, Decision.INCONCLUSIVE)))
    assert (suites.get("failures"), suites.get("skipped")) == ("0", "1")


def test_gitlab_gets_an_issue_for_each_rejection_with_a_fingerprint_that_stays() -> None:
    issues = code_quality_document(result(Decision.PASS, Decision.REJECT))
    (issue,) = issues
    assert issue["location"] == {"path": "models/new.onnx", "lines": {"begin": 1}}
    assert (issue["severity"], issue["check_name"]) == ("blocker", "aznas gate: rule_1")
    assert issue["fingerprint"] == code_quality_document(result(Decision.REJECT, Decision.REJECT))[1]["fingerprint"]
    assert code_quality_document(result(Decision.PASS)) == []


def in_github(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[Path, Path]:
    summary, output = folder / "summary.md", folder / "output.txt"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    return summary, output


def test_github_gets_annotations_a_summary_and_the_verdict(
    decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, output = in_github(monkeypatch, tmp_path)
    decided["result"] = result(Decision.REJECT, Decision.INCONCLUSIVE, Decision.PASS)
    assert run(["gate", "models/new.onnx", "--baseline", "shipped.onnx"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("::")]
    assert lines == [
        "::error file=models/new.onnx,title=aznas gate%3A rule_0::models/new.onnx: 39.45M MACs, over the budget of 30M",
        "::warning file=models/new.onnx,title=aznas gate%3A rule_1::models/new.onnx: 12 ms a sample, too noisy to tell "
        "from 10 ms",
    ]
    assert output.read_text() == "verdict=reject\n"
    assert summary.read_text().startswith("### REJECT: `models/new.onnx`\n\n| Check | Verdict | Reason |\n")
    assert "| rule_0 | REJECT | 39.45M MACs, over the budget of 30M |" in summary.read_text()


def test_undecided_and_rejected_by_the_policy_says_so_in_every_report(
    decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, _ = in_github(monkeypatch, tmp_path)
    decided["result"] = result(Decision.INCONCLUSIVE, inconclusive=Inconclusive.REJECT)
    assert run(["gate", "models/new.onnx", "--baseline", "shipped.onnx", "--code-quality", "quality.json"]) == 1
    told = "is undecided and is rejected by the policy: 12 ms a sample, too noisy to tell from 10 ms"
    captured = capsys.readouterr()
    assert captured.out.startswith(f"models/new.onnx {told}\n")
    assert f"::error file=models/new.onnx,title=aznas gate%3A rule_0::models/new.onnx {told}\n" in captured.err
    assert summary.read_text().startswith(f"### `models/new.onnx` {told}\n")
    assert json.loads((tmp_path / "quality.json").read_text())[0]["severity"] == "blocker"
    assert code_quality_document(result(Decision.INCONCLUSIVE))[0]["severity"] == "minor"


def test_names_cannot_write_commands_of_their_own(
    decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_github(monkeypatch, tmp_path)
    assert run(["gate", "a\n::error::hacked", "--baseline", "100%.onnx", "--policy", "gone.toml"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("::")]
    assert len(lines) == 1


def test_a_bad_candidate_is_status_2_in_every_report(
    decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real gate
    monkeypatch.chdir(tmp_path)
    summary, output = in_github(monkeypatch, tmp_path)
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf at all")
    options = ["--format", "json", "--junit", "junit.xml", "--code-quality", "quality.json", "--max-macs", "5"]
    assert run(["gate", "bad.onnx", *options]) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["status"], document["verdict"], document["passed"]) == ("failed", None, False)
    assert document["reasons"][0].startswith("bad.onnx")
    assert "aznas: bad.onnx" in captured.err
    assert "::error file=bad.onnx,title=aznas gate could not decide::bad.onnx" in captured.err
    assert "Traceback" not in captured.err
    assert summary.read_text().startswith("### no decision: `bad.onnx`\n\nThe gate could not decide: bad.onnx")
    assert output.read_text() == "verdict=error\n"
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suites.get("failures"), suites.get("errors")) == ("0", "1")
    (issue,) = json.loads((tmp_path / "quality.json").read_text())
    assert issue["check_name"] == "aznas gate: error"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new.onnx"], "the gate has no rule"),
        (["gone.onnx", "--max-macs", "5"], "gone.onnx"),
        (["new.onnx", "--baseline", "gone.onnx"], "gone.onnx"),
        (["new.onnx", "--reference", "mbv3"], "there is no reference set 'mbv3'"),
        (["new.onnx", "--floor", "trainability"], "'trainability' is not PROXY=NUMBER"),
        (["new.onnx", "--max-macs", "5", "--proxies", ","], "no proxy is named"),
        (["new.onnx", "--max-macs", "many"], "'many' is not a count"),
        (["new.onnx", "--max-macs", "5", "--policy", "gone.toml"], "policy gone.toml cannot be read"),
        (["new.onnx", "--max-macs", "5", "--policy", "a.toml", "--no-policy"], "give one of the two"),
        (["new.onnx", "--max-macs", "5", "--junit", "no/such/folder.xml"], "cannot be written"),
        (["new.onnx", "--baseline", ""], "--baseline is empty"),
        ([], "Missing argument"),
    ],
)
def test_bad_usage_is_status_2_with_a_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    residual(tmp_path / "new.onnx")
    assert run(["gate", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("baseline = 'shiped.onnx'", "aznas: aznas.toml: baseline shiped.onnx does not exist"),
        ("reference = 'mbv3'", "aznas: aznas.toml: reference: there is no reference set 'mbv3'"),
        ("max-macs = 5\ntolerance = 1", "aznas: aznas.toml: tolerance compares with a baseline"),
        ("max-macs = 5\nmin-percentile = 1", "aznas: aznas.toml: min-percentile compares with a reference"),
        ("max-macs = 5\nmin-seeds = 9", "aznas: aznas.toml: min-seeds is 9, above max-seeds, which is 8"),
        ("floors = { my_proxy = 1 }", "aznas: aznas.toml: floors: there is no proxy 'my_proxy'"),
        ("max-macs = 5\nproxies = 'my_proxy'", "aznas: aznas.toml: proxies: there is no proxy 'my_proxy'"),
        ("max-macs = 5\nspreads = { my_proxy = 1 }", "aznas: aznas.toml: spreads names 'my_proxy'"),
        ("max-macs = 5\nmax_latency_ratio = 1", "aznas: aznas.toml: max-latency-ratio compares with a baseline"),
    ],
)
def test_a_mistake_in_a_policy_names_file_and_rule(
    policy: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    residual(tmp_path / "new.onnx")
    policy_with(tmp_path, f"[gate]\n{policy}\n")
    assert run(["gate", "new.onnx"]) == 2
    assert message in capsys.readouterr().err


def test_a_ratio_of_the_policy_takes_the_baseline_of_the_option(decided: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "aznas.toml").write_text("[gate]\nmax-latency-ratio = 1.1\n")
    assert run(["gate", "new.onnx", "--baseline", "shipped.onnx"]) == 0
    assert decided["policy"].max_latency_ratio == 1.1


def test_a_bug_is_status_2_because_1_would_say_rejected(
    decided: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    decided["result"] = ZeroDivisionError("oops")
    assert run(["gate", "new.onnx", "--max-macs", "5", "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["reasons"] == ["internal error (ZeroDivisionError: oops); please report it"]
    assert "Traceback" in captured.err


def test_a_reader_that_has_seen_enough_does_not_turn_a_rejection_into_success(tmp_path: Path) -> None:
    model = residual(tmp_path / "net.onnx")
    read, write = os.pipe()
    os.close(read)
    code = (
        f"import sys; from aznas_onnx.cli.main import run; sys.exit(run(['gate', {str(model)!r}, '--max-macs', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False, cwd=tmp_path)
    os.close(write)
    assert done.returncode == 1, done.stderr


def policy_with(folder: Path, text: str) -> Path:
    (folder / ".git").mkdir(exist_ok=True)
    (folder / "mine.py").write_text("import pathlib, sys\npathlib.Path('was_run').touch()\nsys.exit(0)\n")
    path = folder / "aznas.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "[gate]\nbaseline = 'net.onnx'\nproxies = ['az', './mine.py:X']\n",
        "[gate]\nbaseline = 'net.onnx'\nproxies = './mine.py:X:0.5'\n",
        "[gate.floors]\n'./mine.py:X' = 1\n",
        "[gate]\nbaseline = 'net.onnx'\n[gate.spreads]\n'mine.py' = 1\n",
    ],
)
def test_python_of_a_policy_is_executed_only_where_that_is_allowed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = residual(tmp_path / "net.onnx")
    policy_with(tmp_path, text)
    assert run(["gate", str(model), "--max-macs", "1G"]) == 2
    assert "--allow-python" in capsys.readouterr().err
    assert not Path("was_run").exists()


def test_a_proxy_file_that_ends_the_process_is_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = residual(tmp_path / "net.onnx")
    policy_with(tmp_path, "[gate]\nbaseline = 'net.onnx'\nproxies = ['./mine.py:X']\n")
    (tmp_path / "vanish.py").write_text("import os\nos._exit(0)\n")
    assert run(["gate", str(model), "--allow-python", "--max-macs", "1"]) == 2
    assert "SystemExit: 0" in capsys.readouterr().err
    assert run(["gate", str(model), "--proxies", "./vanish.py:X", "--no-policy", "--baseline", str(model)]) == 2
    assert "ended with status 0 and no decision" in capsys.readouterr().err


def test_a_proxy_that_ends_the_process_while_scoring_is_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = residual(tmp_path / "net.onnx")
    (tmp_path / "mine.py").write_text(
        "import dataclasses, sys\nfrom aznas_onnx.proxies import PROXIES\n"
        "X = dataclasses.replace(PROXIES['macs'], name='mine', evaluate=lambda evidence: sys.exit(0))\n"
    )
    options = ["--no-policy", "--baseline", str(model), "--proxies", "az,./mine.py:X", "--spread", "mine=1"]
    assert run(["gate", str(model), *options, "--effort", "fast"]) == 2
    assert "ended the scoring (SystemExit: 0)" in capsys.readouterr().err


def test_what_an_option_overrides_in_a_policy_is_not_executed(decided: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    policy_with(tmp_path, "[gate]\nbaseline = 'net.onnx'\nproxies = ['./mine.py:X']\n")
    assert run(["gate", "net.onnx", "--proxies", "az"]) == 0
    assert not Path("was_run").exists()


def test_a_name_that_is_no_text_is_no_decision_and_stands_in_every_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reports = ["--junit", "junit.xml", "--code-quality", "quality.json"]
    assert run(["gate", "nofile\udce9.onnx", "--no-policy", "--max-macs", "1", *reports]) == 2
    (issue,) = json.loads((tmp_path / "quality.json").read_text())
    assert issue["location"]["path"] == "nofile\\udce9.onnx"
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"


@pytest.mark.parametrize(("limit", "status"), [("1G", 0), ("1", 1)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-", "| true"])
def test_a_closed_stream_changes_no_verdict(limit: str, status: int, closed: str, tmp_path: Path) -> None:
    model = residual(tmp_path / "net.onnx")
    command = (
        f"{sys.executable} -m aznas_onnx gate {model} --no-policy --max-macs {limit} {closed}; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == status


def test_an_option_may_go_beyond_a_limit_of_the_policy_whose_other_end_stays(
    decided: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "aznas.toml").write_text("[gate]\nmin-seeds = 10\nmax-seeds = 16\nmax-macs = 5\n")
    assert run(["gate", "new.onnx", "--max-seeds", "20"]) == 0
    assert (decided["policy"].min_seeds, decided["policy"].max_seeds) == (10, 20)
