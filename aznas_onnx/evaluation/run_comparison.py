"""Compare several scores files on the architectures that all of them contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aznas_onnx.evaluation.correlation import Bootstrap, Cohort, Interval, interval, resample
from aznas_onnx.evaluation.measured import measured, proxy_table
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.proxies import Direction
from aznas_onnx.ranking import aggregate

__all__ = ["RunComparison", "Contender", "compare"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to score.

    - `kendall`: By column: tau-b of the score of all its proxies.
    - `difference`: By column: its tau less that of the first. Both are computed on the same resamples, so that the
      interval is that of the difference and much narrower than theirs.
    - `seconds`: Median wall-clock time of one architecture.
    """

    kendall: Mapping[str, Interval]
    difference: Mapping[str, Interval]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Ways to score, in the order given, on `n` architectures."""

    n: int
    contenders: tuple[Contender, ...]


def compare(
    runs: Sequence[Sequence[Record]],
    truth: Truth,
    bootstrap: Bootstrap | None = None,
    directions: Sequence[Mapping[str, Direction]] | None = None,
) -> RunComparison | None:
    """Compare ways to score by Kendall's tau, on what all of them scored.

    - `runs`: The records of each way.
    - `truth`: The measured architectures.
    - `bootstrap`: How to make confidence intervals.
    - `directions`: Of each way: which way the proxies point that need not be registered.

    Returns: None where that is fewer than two architectures.
    """
    bootstrap = bootstrap or Bootstrap()
    scored = [{record.arch: record for record in run if record.reason is None} for run in runs]
    shared = [arch for arch in dict.fromkeys(truth.archs) if all(arch in run for run in scored)]
    if len(shared) < 2:
        return None
    chosen = [measured((run[arch] for arch in shared), truth) for run in scored]
    kept = directions or [{}] * len(runs)
    tables = [proxy_table(one.records, directions=own)[2] for one, own in zip(chosen, kept, strict=True)]
    ends = np.cumsum([table.shape[1] for table in tables])

    def predict(drawn: Floats) -> Floats:
        return np.column_stack([aggregate(one) for one in np.split(drawn, ends[:-1], axis=1)])

    cohort = Cohort(proxies=np.hstack(tables), truth=chosen[0].values, groups=chosen[0].groups)
    found = resample(cohort, predict, bootstrap)
    whole, drawn = found.whole.kendall, found.kendall

    def intervals(values: Floats, resampled: Floats) -> dict[str, Interval]:
        places = enumerate(truth.columns)
        return {name: interval(values[at], resampled[:, at], bootstrap.level) for at, name in places}

    contenders = (
        Contender(
            kendall=intervals(whole[row], drawn[:, row]),
            difference=intervals(whole[row] - whole[0], drawn[:, row] - drawn[:, 0]),
            seconds=float(np.median([record.elapsed_s for record in one.records])),
        )
        for row, one in enumerate(chosen)
    )
    return RunComparison(n=len(shared), contenders=tuple(contenders))
