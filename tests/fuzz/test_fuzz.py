from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="memory limits of a process are a POSIX matter")

from aznas_onnx.flops import count
from aznas_onnx.graph import prepare, specialise
from tests.fuzz import campaign
from tests.fuzz.campaign import Outcome, outcomes
from tests.fuzz.mutations import mutant
from tests.fuzz.seeds import SEEDS


def unclear(found: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in found if not outcome.is_clear]


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_model_is_read_before_it_is_mutated(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "seed.onnx"
    path.write_bytes(SEEDS[name])
    model = prepare(path)
    assert not model.fixed_batch
    assert count(specialise(model, 3)).nodes


def test_a_mutation_is_reproducible() -> None:
    program = (
        "from tests.fuzz.mutations import mutant; import hashlib; print(hashlib.sha256(mutant(17)[1]).hexdigest())"
    )
    digests = {subprocess.check_output([sys.executable, "-c", program], cwd=campaign.ROOT) for _ in range(2)}
    assert len(digests) == 1
    assert mutant(17) == mutant(17)
    assert len({mutant(seed)[1] for seed in range(100)}) > 90


def test_a_few_mutated_files_end_clearly() -> None:
    found = list(outcomes(0, 120))
    assert [outcome.seed for outcome in found] == list(range(120))
    assert not unclear(found)
    assert any(outcome.result == "ok" for outcome in found)


@pytest.mark.slow
def test_several_hundred_mutated_files_end_clearly() -> None:
    assert not unclear(list(outcomes(120, 700)))


@pytest.mark.slow  # one process each, which imports torch
@pytest.mark.parametrize("seed", [276, 783, 799, 30022, 30562, 31767, 710135, 710429, 710453, 711099])
def test_files_that_once_escaped(seed: int) -> None:
    assert not unclear(list(outcomes(seed, seed + 1, scored=True)))


@pytest.mark.slow
def test_mutated_files_are_scored_or_refused_clearly() -> None:
    found = list(outcomes(0, 150, scored=True))
    assert len(found) == 150
    assert not unclear(found)


def test_the_campaign_survives_a_worker_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import json, os, sys\n"
        "for seed in range(int(sys.argv[1]), int(sys.argv[2])):\n"
        "    print(json.dumps({'seed': seed, 'mutation': 'm'}), flush=True)\n"
        "    if seed == 2: os.abort()\n"
        "    print(json.dumps({'seed': seed, 'outcome': 'ok'}), flush=True)\n"
    )
    monkeypatch.setattr(campaign, "WORKER", [sys.executable, "-c", program])
    found = list(outcomes(0, 5))
    assert [outcome.seed for outcome in found] == [0, 1, 2, 3, 4]
    assert [outcome.is_clear for outcome in found] == [True, True, False, True, True]
    assert found[2].result.startswith("crashed: the process ended with -6")


def test_the_campaign_survives_a_worker_that_hangs_or_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "HANG_S", 1.0)
    monkeypatch.setattr(campaign, "WORKER", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert [outcome.result.partition(":")[0] for outcome in outcomes(0, 1)] == ["hung"]
    monkeypatch.setattr(campaign, "WORKER", [sys.executable, "-c", "raise SystemExit('no')"])
    assert [outcome.result.partition(":")[0] for outcome in outcomes(0, 2)] == ["crashed", "crashed"]
