"""Benchmarks that go on where they stopped go on with the same settings only."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def resuming(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return importlib.import_module("resuming")


def test_rows_of_the_same_settings_are_kept(resuming: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows, append = resuming.resumed(path, {"seeds": 2})
    assert rows == []
    append({"arch": "a"})
    again, append = resuming.resumed(path, {"seeds": 2})
    append({"arch": "b"})
    assert [row["arch"] for row in again] == ["a", "b"]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("row", [{"arch": "a"}, {"arch": "a", "settings": {"seeds": 3}}])
def test_rows_of_other_settings_are_refused(row: dict[str, object], resuming: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(SystemExit, match=r"rows.jsonl was begun with other settings \(seeds\); name another file"):
        resuming.resumed(path, {"seeds": 2})
    assert json.loads(path.read_text()) == row


def test_fidelity_to_another_reference_is_refused(
    resuming: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fidelity: Any = importlib.import_module("fidelity")
    first, second, out = (tmp_path / name for name in ("first.jsonl", "second.jsonl", "out.jsonl"))
    first.write_text('{"arch": "a"}\n')
    second.write_text('{"arch": "b"}\n')
    settings = {"reference": resuming.digest(first), "space": "nb201", "seeds": 1, "batch_size": 64}
    out.write_text(json.dumps({"settings": settings}) + "\n")
    monkeypatch.setattr(sys, "argv", ["fidelity.py", "nb201", str(second), "-o", str(out)])
    with pytest.raises(SystemExit, match=r"other settings \(reference\)"):
        fidelity.main()
