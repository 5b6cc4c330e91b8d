"""A space and a scorer that cost nothing, for tests of everything around them."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from aznas_onnx.latency import Latency
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching import Budget, CountConvention, Strategy, StudySettings, search
from aznas_onnx.searching.space_reference import StoredSpace
from aznas_onnx.searching.stored_settings import StoredScoring
from aznas_onnx.spaces import GenotypeError, Space

Digits = tuple[int, ...]


class DigitSpace(Space[Digits]):
    """Genotypes are `length` digits; everything about them can be worked out in the head."""

    name = "digits"

    def __init__(self, *, length: int = 8) -> None:
        super().__init__()
        self.length = length

    def start(self, rng: np.random.Generator) -> Digits:
        return (5,) * self.length

    def sample(self, rng: np.random.Generator) -> Digits:
        return tuple(int(digit) for digit in rng.integers(10, size=self.length))

    def mutate(self, genotype: Digits, rng: np.random.Generator, changes: int = 1) -> Digits:
        digits = list(genotype)
        for place in rng.choice(self.length, size=min(changes, self.length), replace=False):
            digits[place] = int(rng.integers(10))
        return tuple(digits)

    def parse(self, text: str) -> Digits:
        if len(text) != self.length or not text.isdigit():
            raise GenotypeError(f"{text!r} is not {self.length} digits")
        return tuple(map(int, text))

    def format(self, genotype: Digits) -> str:
        return "".join(map(str, genotype))

    def validate(self, genotype: Any) -> None:
        self.parse(self.format(genotype))

    def build(self, genotype: Digits) -> onnx.ModelProto:
        raise NotImplementedError("the fake scorer needs no network")

    def macs(self, genotype: Digits) -> int:
        return 1000 * sum(genotype)

    def params(self, genotype: Digits) -> int:
        return 10 * sum(digit * digit for digit in genotype)

    def layers(self, genotype: Digits) -> int:
        return sum(digit > 0 for digit in genotype)


class UnorderedDigits(DigitSpace):
    """The same, where the order of the digits makes no difference to the network."""

    def canonical(self, genotype: Digits) -> str:
        return self.format(tuple(sorted(genotype)))


def taking(ms: float, *, is_loaded: bool = False) -> Latency:
    return Latency(ms=ms, quantile=0.05, spread=0.01, rounds=9, waited=0.5 if is_loaded else 0.0)


class PaperDigits(DigitSpace):
    """The same with a convention of its own, which orders genotypes the other way round."""

    def paper_flops(self, genotype: Digits) -> int:
        return 1000 * (9 * self.length - sum(genotype))


class FakeScorer:
    """Scores by hashing; values tie often, and some are not finite.

    Parameters
    ----------
    delay_s
        Sleeps so long for each candidate.
    failing
        Candidates whose text contains this fail.
    deadly
        Those that contain this kill the process that scores them.
    log
        A file that gets a line for each call.
    company
        Starts only when so many processes that share the log are ready.
    """

    def __init__(
        self,
        *,
        delay_s: float = 0.0,
        failing: str | None = None,
        deadly: str | None = None,
        log: Path | None = None,
        company: int = 1,
    ) -> None:
        self._delay_s = delay_s
        self._failing = failing
        self._deadly = deadly
        self._log = log
        self._company = company

    def describe(self) -> Mapping[str, Any]:
        return {"scorer": "fake"}

    def prepare(self, threads: int | None) -> None:
        if self._company > 1:
            assert self._log is not None
            ready = self._log.with_name("ready")
            append(ready, str(os.getpid()))
            while len(ready.read_text().split()) < self._company:
                time.sleep(0.01)

    def score(self, genotype: str) -> ProxyScores:
        if self._log is not None:
            append(self._log, genotype)
        if self._deadly is not None and self._deadly in genotype:
            os._exit(9)
        if self._delay_s:
            time.sleep(self._delay_s)
        if self._failing is not None and self._failing in genotype:
            raise ValueError("this one fails")
        digest = hashlib.sha256(genotype.encode()).digest()
        proxies = {
            "expressivity": number(digest[0] / 256 + sum(map(int, genotype))),
            "progressivity": number(-math.inf if digest[1] < 64 else digest[1] % 5),
            "trainability": number(digest[2] / 3),
            "macs": number(1000.0 * sum(map(int, genotype))),
        }
        return ProxyScores(model=genotype, status=Status.OK, proxies=proxies, macs=1, params=1)


def append(file: Path, line: str) -> None:
    """Add a line to a file that several processes write to."""
    with file.open("a") as stream:
        stream.write(f"{line}\n")


def number(value: float) -> ProxyValue:
    """A proxy with this value, or without one where it is not finite."""
    return ProxyValue(mean=value) if math.isfinite(value) else ProxyValue(mean=None, reason="not finite")


def settings(**changes: Any) -> StudySettings:
    """Settings of a study of the fake space."""
    values: dict[str, Any] = {
        "space": {"name": "digits", "options": {"length": 8}, "code": None, "reference": None},
        "budget": Budget(),
        "count": CountConvention.GRAPH,
        "strategy": Strategy.EVOLUTION,
        "top_k": 16,
        "seed": 0,
        "scoring": {"scorer": "fake"},
    }
    values |= changes
    values["space"] = StoredSpace.from_json(values["space"])
    values["scoring"] = StoredScoring.from_json(values["scoring"])
    return StudySettings(**values)


def main() -> None:
    """Search in a process of its own: PATH ITERATIONS DELAY_S WORKERS LOG COMPANY."""
    path, iterations, delay_s, workers, log, company = sys.argv[1:]
    scorer = FakeScorer(delay_s=float(delay_s), log=Path(log), company=int(company))
    study = search(
        DigitSpace(),
        iterations=int(iterations),
        top_k=16,
        db=path,
        resume=True,
        workers=int(workers),
        scorer=scorer,
    )
    sys.stdout.write(study.best()[0].trial.genotype)


if __name__ == "__main__":
    main()
