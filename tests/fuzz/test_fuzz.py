from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="memory limits of a process are a POSIX matter")

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare, specialise
from benchmarks import hostile
from benchmarks.hostile import Outcome, outcomes
from tests.fuzz.mutations import mutant
from tests.fuzz.seeds import SEEDS


def seeds(start: int, stop: int) -> list[str]:
    return [str(seed) for seed in range(start, stop)]


def unclear(found: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in found if not outcome.is_clear]


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_model_is_read_before_it_is_mutated(name: str, tmp_path) -> None:
    path = tmp_path / "seed.onnx"
    path.write_bytes(SEEDS[name])
    model = prepare(path)
    assert not model.fixed_batch
    assert count(specialise(model, 3)).nodes


def test_a_mutation_is_reproducible() -> None:
    program = (
        "from tests.fuzz.mutations import mutant; import hashlib; print(hashlib.sha256(mutant(17)[1]).hexdigest())"
    )
    digests = {subprocess.check_output([sys.executable, "-c", program], cwd=hostile.ROOT) for _ in range(2)}
    assert len(digests) == 1
    assert mutant(17) == mutant(17)
    assert len({mutant(seed)[1] for seed in range(100)}) > 90


def test_a_few_mutated_files_end_clearly() -> None:
    found = list(outcomes("inspect", seeds(0, 120)))
    assert [outcome.case for outcome in found] == seeds(0, 120)
    assert not unclear(found)
    assert any(outcome.result == "ok" for outcome in found)
    assert all(outcome.peak_bytes > 0 for outcome in found)


@pytest.mark.slow
def test_several_hundred_mutated_files_end_clearly() -> None:
    assert not unclear(list(outcomes("inspect", seeds(120, 700))))


ESCAPED = [276, 783, 799, 30022, 30562, 31767, 710135, 710429, 710453, 711099]


@pytest.mark.slow
def test_files_that_once_escaped() -> None:
    assert not unclear(list(outcomes("score", list(map(str, ESCAPED)))))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "gate"])
def test_mutated_files_are_scored_and_gated_or_refused_clearly(command: str) -> None:
    found = list(outcomes(command, seeds(0, 150)))
    assert len(found) == 150
    assert not unclear(found)


def test_what_takes_too_long_or_too_much_is_not_clear() -> None:
    assert Outcome(case="0", what="", result="ok", seconds=9.0, peak_bytes=10**8).is_clear
    assert not Outcome(case="0", what="", result="ok", seconds=11.0, peak_bytes=10**8).is_clear
    assert not Outcome(case="0", what="", result="refused: so", seconds=9.0, peak_bytes=2 * 10**9).is_clear


def worker(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(hostile, "WORKER", [sys.executable, "-c", program])


def test_the_campaign_survives_a_worker_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    worker(
        monkeypatch,
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'what': 'm'}), flush=True)\n"
        "    if line == '2\\n': os.abort()\n"
        "    print(json.dumps({'what': 'm', 'result': 'ok'}), flush=True)\n",
    )
    found = list(outcomes("inspect", seeds(0, 5)))
    assert [outcome.case for outcome in found] == seeds(0, 5)
    assert [outcome.is_clear for outcome in found] == [True, True, False, True, True]
    assert found[2].result.startswith("crashed: the process ended with -6")


def test_the_campaign_survives_a_worker_that_hangs_or_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "_LOOK_S", 0.1)
    for limit, program in (("HANG_S", "while True: pass"), ("_WAITING_S", "import time; time.sleep(60)")):
        with monkeypatch.context() as patched:
            patched.setattr(hostile, limit, 0.5)
            worker(patched, program)
            assert [outcome.result.partition(":")[0] for outcome in outcomes("inspect", seeds(0, 1))] == ["hung"]
    worker(monkeypatch, "raise SystemExit('no')")
    assert [outcome.result.partition(":")[0] for outcome in outcomes("inspect", seeds(0, 2))] == ["crashed", "crashed"]


def test_a_campaign_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "outcomes.jsonl"
    monkeypatch.setattr(sys, "argv", ["hostile", "inspect", "--count", "2", "-o", str(output)])
    given: list[list[str]] = []

    def made(command: str, cases: list[str]) -> list[Outcome]:
        given.append(cases)
        return [Outcome(case=case, what="", result="ok") for case in cases]

    monkeypatch.setattr(hostile, "outcomes", made)
    for wanted in ("2", "3"):
        sys.argv[3] = wanted
        with pytest.raises(SystemExit, match=r"0|False"):
            hostile.main()
    assert given == [["0", "1"], ["2"]]
    assert len(output.read_text().splitlines()) == 3
