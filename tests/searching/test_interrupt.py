from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

CODE = """
import sys
from tests.searching.fakes import DigitSpace, FakeScorer, Path, search
if __name__ == "__main__":
    scorer = FakeScorer(delay_s=0.01, log=Path(sys.argv[1]))
    search(DigitSpace(), iterations=100_000, workers=2, scorer=scorer, db=sys.argv[2])
"""


@pytest.mark.parametrize("scored_before", [0, 20])
def test_ctrl_c_ends_all_processes_with_one_traceback_at_most(
    repository: Path, tmp_path: Path, scored_before: int
) -> None:
    """The terminal sends it to every process: workers leave it to their parent, also while they still start."""
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(CODE)
    command = [sys.executable, str(script), str(log), str(tmp_path / "run.db")]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not (tmp_path / "run.db").exists():
        time.sleep(0.01)
    while process.poll() is None and len(log.read_text().split() if log.exists() else []) < scored_before:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1  # the parent's, which nobody caught
    while is_group_alive(process.pid):  # multiprocessing's own helper needs a moment to notice
        time.sleep(0.01)


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
