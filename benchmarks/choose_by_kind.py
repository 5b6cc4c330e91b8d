"""Choose the proxies of `--proxies best` for each kind of candidates, and test it on benchmarks that took no part.

    python -m benchmarks.truth score DATA ... --scores SCORES
    python -m benchmarks.choose_by_kind DATA ... --scores SCORES

For a kind (aznas_onnx/ranking/kinds.py), weights 0, 1 and 2 are chosen that maximise the mean of Kendall's tau over the
benchmarks of that kind, plus a tenth of that over similar kinds and a fiftieth of that over the others. The start is a
broad set, every proxy once, and each step away from it costs 0.004 divided by the number of benchmarks of the kind: few
benchmarks select too closely. Moves are steps of one weight and exchanges of two proxies; ranks are added, or their
logarithms. A kind without benchmarks has the broad set. At most 300 networks of a benchmark take part, and only
classification. A benchmark that is left out takes its relatives along: networks of the same authors, or of the same
space.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from aznas_onnx.evaluation import read_scores, read_truth
from aznas_onnx.evaluation.measured import measured
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Aggregation, CohortKind, Ensemble, kind_of
from aznas_onnx.spaces import get
from benchmarks.truth_sets import SETS, TruthSet

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# gain has no upper side: the best of it is a network whose gradients explode. The others say the same as these.
CANDIDATES = (
    *("expressivity", "trainability", "macs", "bottleneck", "final_expressivity", "flatness", "effective_rank"),
    *("expressivity_ceiling", "params", "layers", "depth", "mean_path", "shortest_path", "spatial_depth"),
    *("spatial_layers", "activations", "log_widths", "layer_macs", "spectral_capacity"),
)
RELATIVES = (("transnas-micro", "transnas-macro"), ("darts-swap", "nb301"))
BROAD = (
    *("expressivity", "trainability", "macs", "bottleneck", "flatness", "effective_rank", "layers", "mean_path"),
    *("spatial_depth", "spatial_layers", "activations", "spectral_capacity", "layer_macs"),
)
ALIKE = (
    (CohortKind.TRANSFORMERS, CohortKind.WIDTHS),
    (CohortKind.EDGES, CohortKind.WIRING),
    (CohortKind.STAGES, CohortKind.RESOLUTIONS),
)
SHARE_OF_ALIKE, SHARE_OF_OTHERS = 0.1, 0.02
STEP_COST = 0.004
HIGHEST_WEIGHT = 2
MOST_NETWORKS = 300
_TIE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Pairs of networks of one benchmark.

    - `differences`: By aggregation: (n_pairs, n_candidates), what a weight multiplies; 0 where all networks are equal.
    - `order`: (n_pairs, n_columns): 1 where the first is more accurate, -1 where the second is.
    """

    name: str
    kind: CohortKind
    differences: Mapping[Aggregation, Floats]
    order: Floats

    def tau(self, weights: Integers, aggregation: Aggregation) -> Floats:
        """Return Kendall's tau-b of scores, (n_scores, n_columns), over the pairs.

        - `weights`: (n_scores, n_candidates).
        """
        gaps = self.differences[aggregation] @ weights.T.astype(np.float32)
        signs = (gaps > _TIE).astype(np.float32) - (gaps < -_TIE)
        scales = np.sqrt(np.outer(np.abs(signs).sum(axis=0), np.abs(self.order).sum(axis=0)))
        agreeing: Floats = signs.T @ self.order
        return np.divide(agreeing, scales, out=np.zeros_like(agreeing), where=scales > 0)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Weights of the candidates, and how their ranks are combined."""

    weights: Integers
    aggregation: Aggregation

    @classmethod
    def of(cls, group: str) -> Choice:
        """Return the choice that is a group of the registry."""
        ensemble = Ensemble.of([group])
        members = {proxy.name for proxy in PROXIES.resolve([group])}
        weights = [round(ensemble.weight(name)) if name in members else 0 for name in CANDIDATES]
        return cls(weights=np.array(weights), aggregation=ensemble.aggregation)

    def __str__(self) -> str:
        chosen = [(int(weight), name) for name, weight in zip(CANDIDATES, self.weights, strict=True) if weight]
        names = ", ".join(name if weight == 1 else f"{name}:{weight}" for weight, name in chosen)
        return f"{names} ({self.aggregation.value})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders with the measurements")
    parser.add_argument("--scores", type=Path, required=True, help="folder of the scores files")
    arguments = parser.parse_args()
    found = list(read_benchmarks(arguments.data, arguments.scores))
    for kind in CohortKind:
        print(f"{kind.value}: {choose(found, kind)}", flush=True)
    for one in found:
        columns = [
            ("shipped", Choice.of(one.kind.group)),
            ("chosen without it", without(found, one)),
            ("chosen on it alone", choose([one], one.kind)),
        ]
        for label, choice in columns:
            taus = ", ".join(f"{value:.2f}" for value in one.tau(choice.weights[None], choice.aggregation)[0])
            print(f"{one.name}, {one.kind.value}, {label}: {taus}: {choice}", flush=True)
    return 0


def read_benchmarks(data: Sequence[Path], scores: Path) -> Iterator[Benchmark]:
    """Yield the benchmarks that have scores."""
    for one in SETS:
        truth = next((folder / one.file for folder in data if (folder / one.file).exists()), None)
        path = scores / f"{one.name}.jsonl"
        if truth is not None and path.exists():
            yield read_benchmark(one, truth, path)


def read_benchmark(one: TruthSet, truth: Path, scores: Path, *, rows: slice = slice(MOST_NETWORKS)) -> Benchmark:
    """Return some networks of a benchmark: those of `rows`, in the order of the measurements."""
    space = get(one.space, **one.options)
    listed = read_truth(truth, one.classification, genotype=space.columns, group=one.group, lower=one.lower)
    known = set(listed.archs)
    scored = measured([record for record in read_scores(scores).records.values() if record.arch in known], listed)
    records = scored.records[rows]
    groups = np.zeros(len(records), dtype=np.int64) if scored.groups is None else scored.groups[rows]
    values = np.array(
        [[PROXIES.sign(name) * (record.proxies[name].mean or 0.0) for name in CANDIDATES] for record in records]
    )
    first, second = np.triu_indices(len(records), 1)
    within = groups[first] == groups[second]
    first, second = first[within], second[within]
    differences = {}
    for how in (Aggregation.LINEAR, Aggregation.LOG_RANK):
        terms = np.zeros(values.shape, dtype=np.float32)
        for group in np.unique(groups):
            there = groups == group
            shares = rankdata(values[there], axis=0) / there.sum()
            terms[there] = np.log(shares) if how is Aggregation.LOG_RANK else shares
        differences[how] = terms[first] - terms[second]
    accuracies = scored.values[rows]
    return Benchmark(
        name=one.name,
        kind=kind_of([record.proxies for record in records]),
        differences=differences,
        order=np.nan_to_num(np.sign(accuracies[first] - accuracies[second])).astype(np.float32),
    )


def without(found: Sequence[Benchmark], one: Benchmark) -> Choice:
    """Return what is chosen for a benchmark's kind without it and its relatives."""
    left_out = next((names for names in RELATIVES if one.name in names), (one.name,))
    return choose([other for other in found if other.name not in left_out], one.kind)


def choose(found: Sequence[Benchmark], kind: CohortKind) -> Choice:
    """Return the weights for a kind."""
    broad = np.array([name in BROAD for name in CANDIDATES], dtype=np.int64)
    own = [one for one in found if one.kind is kind]
    if not own:
        return Choice(weights=broad, aggregation=Aggregation.LINEAR)
    alike = next(kinds for kinds in ALIKE if kind in kinds)
    near = [one for one in found if one.kind in alike and one.kind is not kind]
    far = [one for one in found if one.kind not in alike]
    parts = [(some, share) for some, share in ((own, 1.0), (near, SHARE_OF_ALIKE), (far, SHARE_OF_OTHERS)) if some]

    def value(weights: Integers, how: Aggregation) -> Floats:
        taus = [share * np.mean([one.tau(weights, how).mean(axis=1) for one in some], axis=0) for some, share in parts]
        found: Floats = np.sum(taus, axis=0) - STEP_COST / len(own) * np.abs(weights - broad).sum(axis=1)
        return found

    ends = [climbed(broad, how, value) for how in (Aggregation.LINEAR, Aggregation.LOG_RANK)]
    weights, how, _ = max(ends, key=lambda end: end[2])
    return Choice(weights=weights * varying(own), aggregation=how)


def climbed(
    weights: Integers, how: Aggregation, value: Callable[[Integers, Aggregation], Floats]
) -> tuple[Integers, Aggregation, float]:
    """Change weights as long as that helps; return them and what they are worth."""
    reached = float(value(weights[None], how)[0])
    while True:
        moves = np.array(list(neighbours(weights)))
        values = value(moves, how)
        at = int(np.argmax(values))
        if values[at] <= reached + 1e-6:
            return weights, how, reached
        weights, reached = moves[at], float(values[at])


def varying(own: Sequence[Benchmark]) -> Integers:
    """Return 1 for each candidate that differs between networks of a benchmark, else 0; (n_candidates,)."""
    found: Integers = np.any([one.differences[Aggregation.LINEAR].any(axis=0) for one in own], axis=0).astype(np.int64)
    return found


def neighbours(weights: Integers) -> Iterator[Integers]:
    """Yield weights of which one is a step away, or of which one proxy takes the place of another."""
    chosen, free = np.flatnonzero(weights), np.flatnonzero(weights == 0)
    for at in range(len(weights)):
        for step in (-1, 1):
            changed = weights.copy()
            changed[at] += step
            if changed.any() and 0 <= changed[at] <= HIGHEST_WEIGHT:
                yield changed
    if len(chosen) <= len(free):
        for one in chosen:
            for other in free:
                changed = weights.copy()
                changed[other], changed[one] = changed[one], 0
                yield changed


if __name__ == "__main__":
    sys.exit(main())
