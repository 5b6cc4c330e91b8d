"""What other repositories use of this one: the action, the hook, and the snippets of docs/ci.md, run as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.gating.networks import residual

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; `make env` does that")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose candidate is what is shipped, and a wider one that is over its budget."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    residual(tmp_path / "models" / "shipped.onnx", depth=2)
    residual(tmp_path / "models" / "candidate.onnx", depth=2)
    residual(tmp_path / "models" / "wide.onnx", depth=2, width=64)
    (tmp_path / "aznas.toml").write_text("[gate]\nbaseline = 'models/shipped.onnx'\nmax-macs = '2M'\n")
    return tmp_path


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the systems do, with `aznas` on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    environment = {**kept, "PATH": path, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# --- the action -----------------------------------------------------------------------------------------------------


def gate_step(repository: Path) -> dict[str, Any]:
    action = read(repository / "action.yml")
    assert action["runs"]["using"] == "composite"
    (step,) = (step for step in action["runs"]["steps"] if step.get("id") == "gate")
    assert isinstance(step, dict)
    return step


def run_action(repository: Path, project: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's step as GitHub would: every input in its variable, defaults filled in."""
    declared = read(repository / "action.yml")["inputs"]
    values = {name: inputs.get(name.replace("-", "_"), one.get("default", "")) for name, one in declared.items()}
    step = gate_step(repository)
    variables = {}
    for name, text in step["env"].items():
        match = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text)
        assert match is not None, text
        variables[name] = values[match[1]]
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(project / "out"),
        "GITHUB_STEP_SUMMARY": str(project / "sum"),
    }
    return shell(step["run"], project, **variables, **github)


def test_every_input_of_the_action_is_used(repository: Path) -> None:
    text = (repository / "action.yml").read_text(encoding="utf-8")
    for name in read(repository / "action.yml")["inputs"]:
        assert f"inputs.{name} " in text, name


def test_no_input_becomes_part_of_a_script(repository: Path) -> None:
    for step in read(repository / "action.yml")["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_the_action_installs_from_its_own_folder(repository: Path) -> None:
    steps = read(repository / "action.yml")["runs"]["steps"]
    (install,) = (step for step in steps if step.get("name") == "Install")
    assert install["run"] == 'python -m pip install --disable-pip-version-check "$GITHUB_ACTION_PATH"'
    assert (repository / "pyproject.toml").is_file()


@pytest.mark.slow
def test_the_action_passes_what_is_equal(repository: Path, project: Path) -> None:
    done = run_action(repository, project, candidate="models/candidate.onnx", junit="junit.xml")
    assert done.returncode == 0, done.stderr
    assert (project / "out").read_text() == "verdict=pass\n"
    assert ElementTree.parse(project / "junit.xml").getroot().get("failures") == "0"


@pytest.mark.slow
def test_the_action_rejects_and_annotates(repository: Path, project: Path) -> None:
    done = run_action(
        repository,
        project,
        candidate="models/wide.onnx",
        baseline="models/shipped.onnx\nmodels/candidate.onnx\n",
        arguments="--max-params 1G --seed 3",
    )
    assert done.returncode == 1, done.stderr
    assert "::error file=models/wide.onnx,title=aznas gate%3A max_macs::" in done.stderr
    assert (project / "out").read_text() == "verdict=reject\n"
    assert (project / "sum").read_text().startswith("### REJECT: `models/wide.onnx`")
    assert done.stdout.count("baseline_score") == 2


def test_the_action_judges_several_or_what_the_policy_lists(repository: Path, project: Path) -> None:
    both = "models/candidate.onnx\nmodels/wide.onnx\n"
    (project / "aznas.toml").write_text("[gate]\nmax-macs = '2M'\n[[gate.model]]\ncandidate = 'models/wide.onnx'\n")
    done = run_action(repository, project, candidate=both)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("2 models: 1 rejected, 1 passed\n")
    done = run_action(repository, project)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("models/wide.onnx is rejected: ")


def test_the_action_says_that_a_bad_file_is_no_rejection(repository: Path, project: Path) -> None:
    (project / "models" / "bad; touch hacked.onnx").write_bytes(b"nothing")
    done = run_action(repository, project, candidate="models/bad; touch hacked.onnx")
    assert done.returncode == 2
    assert "could not decide" in done.stderr
    assert not (project / "hacked.onnx").exists()


# --- the hook -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_hook_runs_as_pre_commit_would(repository: Path, project: Path) -> None:
    (hook,) = read(repository / ".pre-commit-hooks.yaml")
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("aznas-gate", "python", False)
    for name, expected in (
        ("models/a.onnx", True),
        ("aznas.toml", True),
        ("src/pyproject.toml", True),
        ("a.py", False),
    ):
        assert bool(re.search(hook["files"], name)) is expected, name
    user = yaml.safe_load(snippet(repository, "pre-commit"))
    (used,) = (one for entry in user["repos"] for one in entry["hooks"])
    assert used["id"] == hook["id"]
    command = shlex.join([*shlex.split(hook["entry"]), *used["args"]])
    done = shell(command, project)
    assert done.returncode == 0, done.stderr


# --- the documentation ------------------------------------------------------------------------------------------------


def snippet(repository: Path, heading: str) -> str:
    """Return the first YAML after a heading of docs/ci.md."""
    text = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    _, heading_found, section = text.partition(f"\n### {heading}\n")
    assert heading_found, heading
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_workflow_of_the_documentation_uses_the_action_as_it_is(repository: Path) -> None:
    workflow = yaml.safe_load(snippet(repository, "GitHub"))
    (job,) = workflow["jobs"].values()
    (step,) = (step for step in job["steps"] if "aznas-onnx" in step.get("uses", ""))
    declared = read(repository / "action.yml")["inputs"]
    assert set(step["with"]) <= set(declared)
    assert {name for name, one in declared.items() if one.get("required")} <= set(step["with"])


@pytest.mark.slow
def test_the_job_for_gitlab_runs(repository: Path, project: Path) -> None:
    (job,) = yaml.safe_load(snippet(repository, "GitLab")).values()
    commands = [line for line in job["script"] if not line.startswith("pip ")]
    assert any(line.startswith("aznas gate ") for line in commands)
    done = shell("\n".join(commands), project)
    assert done.returncode == 0, done.stderr
    for report in job["artifacts"]["reports"].values():
        assert (project / report).is_file()
    assert job["artifacts"]["when"] == "always"


def test_commands_of_the_documentation_are_accepted(repository: Path) -> None:
    from tests.test_readme import parse

    text = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\$ )?(aznas [a-z]+ [^\n]*)", text, re.MULTILINE)
    assert {command.split()[1] for command in commands} >= {"gate", "reference", "score"}
    for command in commands:
        parse(shlex.split(command, comments=True))


def test_policies_of_the_documentation_are_accepted(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aznas_onnx.gating import Policy, read_policy
    from aznas_onnx.proxies import PROXIES

    # Another test of this process may have loaded the same proxy from elsewhere.
    monkeypatch.setattr(PROXIES, "_proxies", {name: proxy for name, proxy in PROXIES.items() if name != "spread"})
    monkeypatch.setattr(PROXIES, "_loaded", {})
    text = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    policies = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(policies) >= 2
    (tmp_path / "mine.py").write_bytes((repository / "examples" / "own_proxy.py").read_bytes())
    for policy in policies:
        name = "pyproject.toml" if "[tool.aznas.gate]" in policy else "aznas.toml"
        (tmp_path / name).write_text(policy, encoding="utf-8")
        assert not Policy(**read_policy(tmp_path / name)).demands_nothing


def test_the_documentation_says_how_each_reference_set_was_made(repository: Path) -> None:
    from aznas_onnx.references import BUNDLED

    text = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    for bundled in BUNDLED:
        assert f"-o {bundled.name}.json {bundled.arguments}\n" in text
        assert f"| {bundled.description} |" in text
