from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_an_exported_winner_learns_real_digits(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    script = repository / "examples" / "train_winner.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # it checks its accuracy itself
    assert "test accuracy" in done.stdout
    (trained,) = tmp_path.glob("build/train_winner/*/trained.onnx")
    assert trained.stat().st_size > 100_000
