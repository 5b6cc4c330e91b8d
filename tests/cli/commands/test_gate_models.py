"""`aznas gate` for several models: of the command line, or of a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from aznas_onnx.cli.main import run
from tests.gating.networks import residual

POLICY = """
[gate]
max-params = "1G"

[[gate.model]]
candidate = "models/small.onnx"
max-macs = "1G"

[[gate.model]]
candidate = "models/wide.onnx"
max-macs = "1"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with three models and a policy for two of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    residual(tmp_path / "models" / "small.onnx", depth=1)
    residual(tmp_path / "models" / "wide.onnx", depth=1, width=16)
    residual(tmp_path / "models" / "other.onnx", depth=1, width=12)
    (tmp_path / "aznas.toml").write_text(POLICY)
    return tmp_path


def documents(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = run(["gate", *arguments, "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


def rules_of(document: Any) -> list[str]:
    return [check["rule"] for check in document["checks"]]


def test_the_models_of_the_policy_are_judged_by_their_own_rules(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = documents(capsys)
    assert status == 1
    assert [(one["candidate"], one["verdict"]) for one in found] == [
        ("models/small.onnx", "pass"),
        ("models/wide.onnx", "reject"),
    ]
    assert [one["policy"]["max_macs"] for one in found] == [10**9, 1]
    assert [rules_of(one) for one in found] == [["max_macs", "max_params"]] * 2


def test_paths_are_seen_from_the_policy_wherever_the_gate_is_started(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project / "models")
    status, found = documents(capsys)
    assert status == 1
    assert [Path(one["candidate"]).name for one in found] == ["small.onnx", "wide.onnx"]
    assert documents(capsys, "wide.onnx")[1]["verdict"] == "reject"


def test_a_candidate_has_the_rules_that_the_policy_has_for_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = documents(capsys, "./models/wide.onnx")
    assert (status, found["verdict"], rules_of(found)) == (1, "reject", ["max_macs", "max_params"])
    status, found = documents(capsys, "models/other.onnx")
    assert (status, rules_of(found)) == (0, ["max_params"])
    status, found = documents(capsys, "models/other.onnx", "models/small.onnx", "--max-macs", "2")
    assert (status, [one["policy"]["max_macs"] for one in found]) == (1, [2, 2])


def test_one_without_a_decision_stops_no_other_and_decides_the_status(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", "output.txt")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    (project / "models" / "bad.onnx").write_bytes(b"nothing")
    models = [f"models/{name}.onnx" for name in ("wide", "bad", "small")]
    assert run(["gate", *models, "--junit", "junit.xml", "--code-quality", "quality.json"]) == 2
    shown = capsys.readouterr()
    first, _, *rows = shown.out.splitlines()[:5]
    assert first == "3 models: 1 without a decision, 1 rejected, 1 passed"
    assert [row.split("  ")[1].strip() for row in rows] == ["REJECT", "no decision", "pass"]
    assert "models/small.onnx passes (2 checks)\n" in shown.out
    assert "aznas: models/bad.onnx is not an ONNX file" in shown.err
    assert "::error file=models/bad.onnx,title=aznas gate could not decide::" in shown.err
    assert "::error file=models/wide.onnx,title=aznas gate%3A max_macs::" in shown.err
    assert Path("output.txt").read_text() == "verdict=error\n"
    summary = Path("summary.md").read_text()
    assert summary.startswith("### 3 models: 1 without a decision, 1 rejected, 1 passed\n\n| Model | Verdict |")
    assert "### no decision: `models/bad.onnx`\n" in summary
    suites = ElementTree.parse("junit.xml").getroot()
    assert (len(suites), suites.get("failures"), suites.get("errors")) == (3, "1", "1")
    issues = json.loads(Path("quality.json").read_text())
    assert [one["location"]["path"] for one in issues] == ["models/wide.onnx", "models/bad.onnx"]


def test_one_that_ends_the_process_leaves_the_others_their_decision(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "vanish.py").write_text("import os\nos._exit(0)\n")
    (project / "aznas.toml").write_text(f"{POLICY}baseline = 'models/small.onnx'\nproxies = './vanish.py:X'\n")
    status, found = documents(capsys, "--allow-python")
    assert status == 2
    assert [one["verdict"] for one in found] == ["pass", None]
    assert "ended with status 0 and no decision" in found[1]["reasons"][0]


def test_python_of_a_model_is_executed_only_where_that_is_allowed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "aznas.toml").write_text(f"{POLICY}proxies = './mine.py:X'\n")
    assert run(["gate"]) == 2
    assert "--allow-python" in capsys.readouterr().err
    assert documents(capsys, "models/small.onnx")[0] == 0


def test_floors_of_a_model_are_added_to_those_of_all(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "aznas.toml").write_text(
        "[gate]\neffort = 'fast'\nfloors = { macs = 1, params = 1 }\n"
        "[[gate.model]]\ncandidate = 'models/small.onnx'\nfloors = { params = 2 }\n"
    )
    _, (found,) = documents(capsys)
    assert found["policy"]["floors"] == {"macs": 1.0, "params": 2.0}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("[gate]\nmodel = 5\n", "model is 5; tables [[gate.model]] with a candidate are accepted"),
        ("[[gate.model]]\nmax-macs = 5\n", "aznas.toml: model 1 has no candidate, such as 'models/net.onnx'"),
        ("[[gate.model]]\ncandidate = 'm.onnx'\nmax-mac = 5\n", "aznas.toml: m.onnx: 'max-mac' is no rule; did you"),
        ("[gate]\nmax-macs = 5\n", "Missing argument 'CANDIDATE.onnx', and no policy lists models"),
        ("[[gate.model]]\ncandidate = 'm.onnx'\nbaseline = 'gone.onnx'\n", "baseline gone.onnx does not exist"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    policy: str, message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "aznas.toml").write_text(policy)
    assert run(["gate"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_without_a_decision_on_the_policy_json_is_a_list_where_it_would_be(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "aznas.toml").write_text("[gate]\nmodel = 5\n")
    status, found = documents(capsys, "a.onnx", "b.onnx")
    assert (status, [(one["candidate"], one["status"]) for one in found]) == (
        2,
        [("a.onnx", "failed"), ("b.onnx", "failed")],
    )
    assert documents(capsys, "a.onnx")[1]["candidate"] == "a.onnx"


def test_markdown_has_a_table_and_each_model(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", "--format", "md"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("### 2 models: 1 rejected, 1 passed\n")
    assert "### pass: `models/small.onnx`\n" in text
    assert "### REJECT: `models/wide.onnx`\n" in text
