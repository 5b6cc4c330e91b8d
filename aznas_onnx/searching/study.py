"""What a search found: its trials, ranked over the whole history."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.results import Status
from aznas_onnx.searching.database import StudyError, open_reader, read_settings
from aznas_onnx.searching.history import read_software, read_trials
from aznas_onnx.searching.leaderboard import Leaderboard
from aznas_onnx.searching.population import ranked_proxies, ranked_values
from aznas_onnx.searching.settings import StudySettings
from aznas_onnx.searching.trial import Candidate, Trial

__all__ = ["Study"]

_MEASURES = ("macs", "params", "layers", "paper_flops")


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A search and its candidates, as they were when this was made.

    Attributes
    ----------
    settings
        What was asked for.
    trials
        All scored candidates, failed ones included, in the order in which they were recorded.
    path
        The file, or None for a study in memory.
    stopped
        Why the search ended before the number of candidates asked for; None where it did not.
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
    software: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, stopped: str | None = None) -> Study:
        """Read the study in a file; a search may be adding to it meanwhile.

        Raises
        ------
        StudyError
            If there is no file, or it holds no study that this version reads.
        """
        file = Path(path)
        with open_reader(file) as connection:
            settings = read_settings(connection, file)
            trials = read_trials(connection, file)
            return cls(settings=settings, trials=trials, path=file, stopped=stopped, software=read_software(connection))

    def best(self, n: int = 1) -> tuple[Candidate, ...]:
        """Return the `n` best candidates (all ranked ones, where there are fewer), the best first.

        The score is Eq. 12 over all ranked trials; of equal ones the earlier is the better.
        """
        if n < 1:
            raise SettingsError(f"the best {n} candidates are none; ask for at least 1")
        return self._candidates(self._board.best(n).tolist()) if self._ranked else ()

    def candidate(self, number: int) -> Candidate:
        """Return a candidate by its number.

        Raises
        ------
        SettingsError
            If there is no such trial or it failed.
        """
        trial = next((trial for trial in self.trials if trial.number == number), None)
        if trial is None:
            raise SettingsError(f"there is no trial {number}; the study has {len(self.trials)}, numbered from 0")
        if trial.status is not Status.OK:
            raise SettingsError(f"trial {number} was not scored: {trial.reason}")
        return self._candidates([self._ranked.index(trial)])[0]

    def pareto(self, measure: str = "macs") -> tuple[Candidate, ...]:
        """Return the front of score against a count: candidates that no cheaper one equals or beats.

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
        costs = [getattr(trial.cost, measure) for trial in self._ranked]
        if None in costs:
            raise SettingsError(f"space {self.settings.space['name']!r} has no {measure}; use macs, params or layers")
        front: list[int] = []
        best = -np.inf
        scores = self._scores
        for index in sorted(range(len(costs)), key=lambda index: (costs[index], -scores[index])):
            if scores[index] > best:
                front.append(index)
                best = scores[index]
        return self._candidates(front)

    @property
    def acceptance_rate(self) -> float:
        """Share of the genotypes drawn that were within budget and new; 0 for an empty study."""
        tries = sum(trial.proposal.tries for trial in self.trials)
        return len(self.trials) / tries if tries else 0.0

    @cached_property
    def _ranked(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.status is Status.OK]

    @cached_property
    def _board(self) -> Leaderboard:
        names = ranked_proxies(self._ranked)
        board = Leaderboard(max(1, len(names)))
        board.extend([ranked_values(trial, names) for trial in self._ranked])
        return board

    @cached_property
    def _scores(self) -> list[float]:
        scores: list[float] = self._board.az_scores().tolist()
        return scores

    @cached_property
    def _ranks(self) -> dict[int, int]:
        return {index: rank for rank, index in enumerate(self._board.best(len(self._ranked)).tolist(), 1)}

    def _candidates(self, indices: Sequence[int]) -> tuple[Candidate, ...]:
        scores, ranks = self._scores, self._ranks
        return tuple(Candidate(trial=self._ranked[i], az_score=scores[i], rank=ranks[i]) for i in indices)
