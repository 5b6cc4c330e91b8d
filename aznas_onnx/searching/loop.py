"""The loop of Algorithm 1: propose, score, store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from aznas_onnx.results import ProxyScores, ProxyValue
from aznas_onnx.searching.executors import Executor
from aznas_onnx.searching.population import Population
from aznas_onnx.searching.proposing import Exhausted, Proposer
from aznas_onnx.searching.search_progress import Progress
from aznas_onnx.searching.store.database import StudyError
from aznas_onnx.searching.store.history import History
from aznas_onnx.searching.trial import COMPLEXITY, Proposal, Trial

__all__ = ["SearchLoop"]

_HOPELESS = 10  # so many candidates that fail, and none that does not, end the search
_REPORT_EVERY_S = 0.2
_LOOK_AGAIN_S = 0.2


class SearchLoop:
    """One process's part in a study.

    - `history`: The study's file, open for writing.
    - `proposer`: Proposes the candidates.
    - `executor`: Scores them.
    - `iterations`: Total candidates of the study, those of earlier sessions and of other processes included; at least
      1.
    - `on_progress`: Called a few times a second at most, and once at the end.
    """

    def __init__(
        self,
        history: History,
        proposer: Proposer[Any],
        executor: Executor,
        iterations: int,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._history = history
        self._proposer = proposer
        self._executor = executor
        self._iterations = iterations
        self._on_progress = on_progress
        self._identify = proposer.identifier.of_text
        self._population = Population(history.settings.ensemble, history.settings.directions, self._identify)
        self._pending: dict[int, Proposal] = {}
        self._exhausted: str | None = None
        self._lowest_free = 0
        self._began = self._reported = time.monotonic()
        self._found = 0

    def run(self) -> str | None:
        """Search; return why it ended early, or None.

        Raises StudyError if the first candidates or all of them fail, or the budget admits none.
        """
        self._population.update(self._history.new_trials())
        self._began, self._reported, self._found = time.monotonic(), 0.0, len(self._population)
        while self._submit() or self._others_are_busy():
            if self._pending:
                self._collect()
            else:
                time.sleep(_LOOK_AGAIN_S)
            self._population.update(self._history.new_trials())
            self._report_now_and_then()
        self._report()
        if self._exhausted is not None and not len(self._population):
            raise StudyError(f"the search finds nothing to score: {self._exhausted}")
        if not self._population.n_ranked:  # too few for `_HOPELESS`
            failed = self._history.trials()
            raise StudyError(
                f"none of {len(failed):,} candidates could be scored; the last one: {failed[-1].reason or 'unknown'}"
            )
        return self._exhausted

    def _submit(self) -> bool:
        """Submit candidates to all slots; return whether any candidate is in progress."""
        while len(self._pending) < self._executor.slots and self._exhausted is None:
            claims = dict(self._history.claims())
            number = self._next_number(claims)
            if number >= self._iterations:
                break
            taken = set(claims.values())
            proposal = self._proposer.propose(number, self._population, taken, self._report_now_and_then)
            if isinstance(proposal, Exhausted):
                self._exhausted = proposal.reason
            elif self._history.claim(proposal, self._identify):
                self._pending[number] = proposal
                self._executor.submit(number, proposal.genotype)
            else:  # another process was quicker
                self._population.update(self._history.new_trials())
        return bool(self._pending)

    def _next_number(self, claimed: Collection[int]) -> int:
        """Return the lowest number that is neither recorded nor claimed: those of a killed process come first."""
        while self._lowest_free in self._population.numbers:
            self._lowest_free += 1
        number = self._lowest_free
        while number in self._population.numbers or number in claimed:
            number += 1
        return number

    def _others_are_busy(self) -> bool:
        """Whether another process still scores one of our candidates: the winner is named when all are in."""
        return any(number < self._iterations for number, _ in self._history.claims())

    def _collect(self) -> None:
        outcome = self._executor.collect()
        proposal = self._pending.pop(outcome.number)
        self._history.record(self._trial(proposal, outcome.scores))
        if (
            outcome.scores.reason is not None
            and not self._population.n_ranked
            and self._population.failed + 1 >= _HOPELESS
        ):
            raise StudyError(
                f"the first {_HOPELESS} candidates all failed to score; the last one: {outcome.scores.reason}"
            )

    def _trial(self, proposal: Proposal, scores: ProxyScores) -> Trial:
        proxies = dict(scores.proxies)
        if COMPLEXITY in proxies:  # the count of the budget can differ from that of the scored graph
            proxies[COMPLEXITY] = ProxyValue(mean=float(proposal.cost.counted(self._history.settings.count)))
        return Trial(
            proposal=proposal, status=scores.status, reason=scores.reason, proxies=proxies, elapsed_s=scores.elapsed_s
        )

    def _report_now_and_then(self, sampled: int = 0) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            self._report(sampled)

    def _report(self, sampled: int = 0) -> None:
        if self._on_progress is None:
            return
        elapsed_s = time.monotonic() - self._began
        self._on_progress(
            Progress(
                done=len(self._population),
                iterations=self._iterations,
                failed=self._population.failed,
                tries=self._population.tries,
                sampled=sampled,
                best=self._population.best(),
                rate=(len(self._population) - self._found) / elapsed_s if elapsed_s > 0 else 0.0,
            )
        )
