"""A baseline from a revision: `git:REVISION:PATH`."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

import aznas_onnx as az
from aznas_onnx.cli.main import run
from aznas_onnx.errors import ModelError
from aznas_onnx.gating import Decision
from tests.gating.networks import move_weights_out, residual
from tests.gating.test_gate import Scripted, scripted

__all__ = ["scripted"]

SHIPPED = "git:main:models/shipped.onnx"


def git(*arguments: str) -> None:
    person = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *person, *arguments], check=True, capture_output=True)


def commit(*files: Path) -> None:
    git("add", "-f", *map(str, files))
    git("commit", "-q", "-m", "models")


@pytest.fixture
def repository_with_model(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose branch `main` has models/shipped.onnx, which is no longer on the disk."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "models").mkdir()
    shipped = residual(tmp_path / "models" / "shipped.onnx", width=12)
    git("init", "-q", "-b", "main")
    commit(shipped)
    return shipped


def test_the_file_of_a_revision_is_judged_and_named_by_it(repository_with_model: Path) -> None:
    content = repository_with_model.read_bytes()
    macs = az.inspect(repository_with_model).costs.macs
    repository_with_model.unlink()
    result = az.gate("new.onnx", baseline=SHIPPED, max_latency_ratio=1000)
    assert result.verdict is Decision.PASS
    shipped = result.models[1]
    assert (shipped.model, shipped.macs) == (SHIPPED, macs)
    assert shipped.hashes.sha256 == hashlib.sha256(content).hexdigest()
    assert shipped.latency_ms is not None
    assert {check.against for check in result.checks} == {SHIPPED}


def test_external_data_comes_from_the_same_revision(repository_with_model: Path) -> None:
    move_weights_out(repository_with_model)
    data = repository_with_model.with_name("weights.data")
    commit(repository_with_model, data)
    content = data.read_bytes()
    data.write_bytes(b"other")
    (digest,) = az.gate("new.onnx", baseline=SHIPPED).models[1].hashes.data.values()
    assert digest == hashlib.sha256(content).hexdigest()


def test_a_policy_file_in_a_folder_names_a_revision(
    repository_with_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "aznas.toml").write_text(f"[gate]\nbaseline = '{SHIPPED}'\nmax-macs = '1'\n")
    monkeypatch.chdir(tmp_path / "models")
    assert run(["gate", "../new.onnx", "--effort", "fast"]) == 1
    assert f"\n{SHIPPED}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("git:main:models/gone.onnx", "revision 'main' has no file 'models/gone.onnx'; the path begins at the root"),
        ("git:main:models", "revision 'main' has no file 'models'"),
        ("git:origin/next:m.onnx", r"no revision 'origin/next'; `git fetch origin next` may bring it \(GitHub: `fetch"),
        ("git:next:m.onnx", "no revision 'next'; `git fetch` may bring it"),
        ("git:--exec=touch hacked:m.onnx", "names no file of a revision; write git:REVISION:PATH"),
        ("git:main", "names no file of a revision; write git:REVISION:PATH"),
        ("git:main;touch hacked:m.onnx", "no revision 'main;touch hacked'"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    repository_with_model: Path, tmp_path: Path, baseline: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        az.gate("new.onnx", baseline=baseline)
    assert baseline in str(raised.value)
    assert not (tmp_path / "hacked").exists()


def test_a_bad_file_of_a_revision_is_called_by_its_name(repository_with_model: Path) -> None:
    repository_with_model.write_bytes(b"no model at all")
    commit(repository_with_model)
    with pytest.raises(ModelError, match=rf"^{SHIPPED} is not an ONNX file"):
        az.gate("new.onnx", baseline=SHIPPED)


def test_outside_a_repository_and_without_git(
    repository_with_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="git cannot be started: No such file or directory; install it"):
        az.gate("new.onnx", baseline=SHIPPED)
    monkeypatch.undo()
    outside = tmp_path / "models"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(outside)
    with pytest.raises(ModelError, match=r"not a git repository .*; start the gate inside the repository"):
        az.gate("../new.onnx", baseline=SHIPPED)


def test_a_pointer_of_git_lfs_is_followed_into_the_local_store(repository_with_model: Path, tmp_path: Path) -> None:
    content = repository_with_model.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    repository_with_model.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    )
    commit(repository_with_model)
    with pytest.raises(ModelError, match=r"shipped\.onnx is a Git LFS pointer there.*`git lfs fetch origin main`$"):
        az.gate("new.onnx", baseline=SHIPPED)
    store = tmp_path / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4]
    store.mkdir(parents=True)
    (store / digest).write_bytes(content)
    assert az.gate("new.onnx", baseline=SHIPPED).models[1].hashes.sha256 == digest
