"""An executor of one's own, as one that scores on other machines would be."""

from __future__ import annotations

import pickle
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import pytest

from aznas_onnx.searching import Executor, Scorer, TrialOutcome, search
from aznas_onnx.searching.executors import evaluate
from tests.searching.fakes import DigitSpace, FakeScorer


class Elsewhere:
    """Sends pickles away and gets pickles back, the latest first."""

    def __init__(self, scorer: Scorer, slots: int) -> None:
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots)
        self._scorer = pickle.dumps(scorer)
        self._out: dict[Future[bytes], int] = {}
        self.is_closed = False

    def submit(self, number: int, genotype: str) -> None:
        assert len(self._out) < self.slots
        self._out[self._pool.submit(self._score, genotype)] = number

    def _score(self, genotype: str) -> bytes:
        return pickle.dumps(evaluate(pickle.loads(self._scorer), genotype))

    def collect(self) -> TrialOutcome:
        done, _ = wait(self._out, return_when=FIRST_COMPLETED)
        latest = max(done, key=lambda one: self._out[one])
        return TrialOutcome(number=self._out.pop(latest), scores=pickle.loads(latest.result()))

    def close(self) -> None:
        self.is_closed = True
        self._pool.shutdown()


@pytest.mark.parametrize("slots", [1, 5])
def test_a_search_scores_on_the_given_executor(slots: int) -> None:
    made: list[Elsewhere] = []

    def make(scorer: Scorer) -> Executor:
        made.append(Elsewhere(scorer, slots))
        return made[0]

    study = search(DigitSpace(), iterations=120, top_k=16, scorer=FakeScorer(), make_executor=make)
    assert sorted(trial.number for trial in study.trials) == list(range(120))
    assert len({trial.genotype for trial in study.trials}) == 120
    for trial in study.trials:
        assert trial.proxies == FakeScorer().score(trial.genotype).proxies
    assert made[0].is_closed
    if slots == 1:
        alone = search(DigitSpace(), iterations=120, top_k=16, scorer=FakeScorer())
        assert [trial.genotype for trial in study.trials] == [trial.genotype for trial in alone.trials]
