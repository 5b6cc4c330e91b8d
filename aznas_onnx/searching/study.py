"""A study: its trials, ranked over the whole history."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aznas_onnx.errors import SettingsError
from aznas_onnx.latency import Latency
from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching.settings import Strategy, StudySettings
from aznas_onnx.searching.store.database import open_reader, read_settings
from aznas_onnx.searching.store.history import read_again, read_software, read_trials
from aznas_onnx.searching.trial import Candidate, Trial, TrialOrigin
from aznas_onnx.spaces import Space

__all__ = ["Study"]

_MEASURES = ("macs", "params", "layers", "paper_flops")


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A snapshot of a search and its candidates.

    Attributes
    ----------
    settings
        Settings of the study.
    trials
        All scored candidates, failed ones included, in the order in which they were recorded.
    path
        The file, or None for a study in memory.
    stopped
        The reason why the search ended early; None where it did not.
    again
        The latency of the best candidates, measured again at the end of the search, by genotype; empty where the budget
        does not limit it.
    doubt
        A warning about latencies measured under other load; None without such load, and for an opened study.
    software
        The versions of Python and the main packages that scored, one mapping for each combination.

    Examples
    --------
    >>> study = Study.open("run.db")                                         # doctest: +SKIP
    >>> study.best(3)[0].trial.genotype                                      # doctest: +SKIP
    """

    settings: StudySettings
    trials: tuple[Trial, ...]
    path: Path | None = None
    stopped: str | None = None
    again: Mapping[str, Latency] = field(default_factory=lambda: MappingProxyType({}))
    doubt: str | None = None
    software: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, stopped: str | None = None) -> Study:
        """Read the study in a file, also while a search adds to it.

        Raises StudyError if there is no file, or no study that this version reads.
        """
        file = Path(path)
        with open_reader(file) as connection:
            settings = read_settings(connection, file)
            trials = read_trials(connection, file)
            return cls(
                settings=settings,
                trials=trials,
                path=file,
                stopped=stopped,
                again=MappingProxyType(read_again(connection, file)),
                software=read_software(connection),
            )

    def best(self, n: int = 1) -> tuple[Candidate, ...]:
        """Return the `n` best candidates (all ranked ones, where there are fewer), the best first.

        The score is Eq. 12 over all trials that did not fail; of equal ones the earlier comes first.
        """
        if n < 1:
            raise SettingsError(f"the best {n} candidates are none; ask for at least 1")
        return tuple(self._ranked[:n])

    def candidate(self, number: int) -> Candidate:
        """Return a candidate by its number; raise SettingsError if there is no such trial or it failed."""
        found = next((one for one in self._ranked if one.trial.number == number), None)
        if found is not None:
            return found
        failed = next((trial for trial in self.trials if trial.number == number), None)
        if failed is not None:
            raise SettingsError(f"trial {number} was not scored: {failed.reason}")
        raise SettingsError(f"there is no trial {number}; the study has {len(self.trials)}, numbered from 0")

    def pareto(self, measure: str = "macs") -> tuple[Candidate, ...]:
        """Return the front of score against a count: the candidates that no cheaper one equals or beats.

        Parameters
        ----------
        measure
            ``macs``, ``params``, ``layers`` or ``paper_flops``.

        Returns
        -------
        tuple[Candidate, ...]
            The cheapest first, so that scores rise.
        """
        if measure not in _MEASURES:
            raise SettingsError(f"there is no count {measure!r}; accepted are {', '.join(_MEASURES)}")
        costs = {one.trial.number: getattr(one.trial.cost, measure) for one in self._ranked}
        if None in costs.values():
            raise SettingsError(f"space {self.settings.space.name!r} has no {measure}; use macs, params or layers")
        front: list[Candidate] = []
        for one in sorted(self._ranked, key=lambda one: (costs[one.trial.number], one.rank)):
            if not front or one.rank < front[-1].rank:  # equal scores share a rank
                front.append(one)
        return tuple(front)

    def space(self) -> Space[Any]:
        """Return the space that was searched.

        Raises SettingsError if it was made in a program and has no name, or its file has changed.
        """
        return self.settings.space.make()

    @property
    def tries(self) -> int:
        """Genotypes that were tried for the trials, those over budget or known already included."""
        return sum(trial.proposal.tries for trial in self.trials)

    @property
    def acceptance_rate(self) -> float:
        """Share of the tried genotypes that were within budget and new; 0 for an empty study."""
        return len(self.trials) / self.tries if self.trials else 0.0

    @property
    def sampled_instead(self) -> int:
        """Number of trials of an evolution that were sampled, as no tried change of a parent was new and within budget.

        0 for the random strategy.
        """
        if self.settings.strategy is Strategy.RANDOM:
            return 0
        return sum(trial.proposal.origin is TrialOrigin.SAMPLE for trial in self.trials)

    @cached_property
    def _ranked(self) -> list[Candidate]:
        """All trials that did not fail, the best first."""
        scored = [trial for trial in self.trials if trial.status is Status.OK]
        ensemble = self.settings.ensemble
        ranking = rank(
            [_scores(trial) for trial in scored],
            aggregation=ensemble.aggregation,
            weights=ensemble.weights,
            directions=self.settings.directions,
        )
        if not ranking.order:  # one candidate alone has no score, and is the best
            return [Candidate(trial=trial, az_score=None, rank=1) for trial in scored]
        ranked = []
        for index in ranking.order:
            place = ranking.rank[index]
            assert place is not None
            ranked.append(Candidate(trial=scored[index], az_score=ranking.az_score[index], rank=place))
        return ranked


def _scores(trial: Trial) -> ProxyScores:
    return ProxyScores(model=trial.genotype, status=trial.status, proxies=trial.proxies)
