"""How often the gate is wrong, on few networks and one seed: benchmarks/gate_trials.py does it on more."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", ["residual", "cells", "transformer"])
def test_no_re_export_is_rejected_and_every_damaged_network_is(
    family: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    trials: Any = importlib.import_module("gate_trials")
    paths = trials.write_networks(family, tmp_path)
    rows = [trials.run(trial, paths) for trial in trials.trials(family, paths, 0)]
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("same", "redrawn", "damaged")}
    assert (len(by_kind["same"]), len(by_kind["redrawn"]), len(by_kind["damaged"])) == (
        7,
        1,
        10,
    )
    assert [row for row in (*by_kind["same"], *by_kind["redrawn"]) if row["verdict"] == "reject"] == []
    assert [row for row in by_kind["same"] if row["verdict"] != "pass"] == []
    assert [row for row in by_kind["damaged"] if row["verdict"] != "reject"] == []
