"""Choose the proxies of `--proxies best-nb201` on one half of measured cells, and test them on the other.

    aznas bench nb201 --truth accuracies.csv --effort balanced --device cpu \\
        --proxies az,blockwise,structure -o candidates.jsonl
    python benchmarks/choose_ensemble.py candidates.jsonl --truth accuracies.csv
    python benchmarks/choose_ensemble.py candidates.jsonl --truth accuracies.csv --fixed best-nb201

Cells that are the same network are in the same half, which a hash of the network decides. The search starts from the
four proxies of AZ-NAS, adds one proxy after the other, and after each addition exchanges added ones as long as that
helps; what it maximises is the mean of Kendall's tau over the columns, over all cells of the first half and over its
unique ones. Every proxy counts once: there are no weights to fit. Of all sizes the smallest set is chosen that comes
within 0.002 of the best, on the first half. The second half takes no part in that; what there was to choose from was
decided by people who had seen cells of both (docs/proxies.md).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata, spearmanr

import aznas_onnx as az
from aznas_onnx.evaluation import read_scores, read_truth
from aznas_onnx.evaluation.measured import measured, proxy_table
from aznas_onnx.proxies import PROXIES

Floats = npt.NDArray[np.float64]
AZ = ("expressivity", "progressivity", "trainability", "macs")
# gain has no upper side: the best of it is a network whose gradients explode, which a search would find.
LEFT_OUT = ("gain", "params")
NEGLIGIBLE = 0.002


@dataclass(frozen=True)
class Population:
    """Some cells: the logarithms of their ranks by proxy, and their accuracies."""

    name: str
    terms: dict[str, Floats]
    measured: Floats

    def tau(self, names: Sequence[str]) -> list[float]:
        """Return Kendall's tau of some proxies' score with each column."""
        score = np.sum([self.terms[name] for name in names], axis=0).round(9)
        return [float(kendalltau(score, column).statistic) for column in self.measured.T]

    def rho(self, names: Sequence[str]) -> list[float]:
        """Return Spearman's rho of some proxies' score with each column."""
        score = np.sum([self.terms[name] for name in names], axis=0).round(9)
        return [float(spearmanr(score, column).statistic) for column in self.measured.T]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--start", default="az", help="proxies that are in every set, or none")
    parser.add_argument("--candidates", help="proxies to choose from (default: all in the file but gain and params)")
    parser.add_argument("--largest", type=int, default=10)
    parser.add_argument("--fixed", help="only report these sets: az+depth or best-nb201, several separated by spaces")
    arguments = parser.parse_args()
    first, second, columns = read(arguments.scores, arguments.truth)
    print(
        f"columns: {', '.join(columns)}; cells: " + ", ".join(f"{p.name} {len(p.measured):,}" for p in first + second)
    )
    if arguments.fixed:
        for text in arguments.fixed.split():
            report(text, [proxy.name for proxy in PROXIES.resolve(text.split("+"))], [*first, *second])
        return 0
    start = [] if arguments.start == "none" else [proxy.name for proxy in PROXIES.resolve(arguments.start.split(","))]
    known = list(first[0].terms)
    wanted = arguments.candidates.split(",") if arguments.candidates else [n for n in known if n not in LEFT_OUT]
    found = search(first, start, [name for name in wanted if name not in start], arguments.largest)
    values = [objective(first, names) for names in found]
    chosen = next(names for names, value in zip(found, values, strict=True) if value >= max(values) - NEGLIGIBLE)
    for names in found:
        report("chosen" if names is chosen else f"{len(names)}", names, [*first, *second])
    report("az", AZ, [*first, *second])
    return 0


def read(scores: Path, truth: Path) -> tuple[list[Population], list[Population], Sequence[str]]:
    """Return the two halves, each as all its cells and as its unique ones."""
    listed = read_truth(truth)
    space = az.spaces.get("nb201")
    scored = measured(read_scores(scores).records.values(), listed)
    records, accuracies = scored.records, scored.values
    names, _, table = proxy_table(records)
    networks = [space.canonical(space.parse(one.arch)) for one in records]
    halves = np.array([hashlib.sha256(network.encode()).digest()[0] % 2 for network in networks])
    is_first_of_its_kind = np.zeros(len(networks), dtype=bool)
    is_first_of_its_kind[np.unique(networks, return_index=True)[1]] = True

    def populations(half: int) -> list[Population]:
        found = []
        for name, mask in (("all", halves == half), ("unique", (halves == half) & is_first_of_its_kind)):
            values = table[mask]
            terms = {proxy: np.log(rankdata(values[:, at]) / len(values)) for at, proxy in enumerate(names)}
            found.append(Population(f"half {half + 1}, {name}", terms, accuracies[mask]))
        return found

    return populations(0), populations(1), listed.columns


def objective(populations: Sequence[Population], names: Sequence[str]) -> float:
    return float(np.mean([population.tau(names) for population in populations]))


def search(
    populations: Sequence[Population], start: Sequence[str], candidates: Sequence[str], largest: int
) -> list[list[str]]:
    """Return the best set found of each size."""
    current, found = list(start), [list(start)] if start else []
    while len(current) < largest and set(candidates) - set(current):
        free = [name for name in candidates if name not in current]
        current.append(max(free, key=lambda name: objective(populations, [*current, name])))
        while True:
            best, value = current, objective(populations, current)
            for at in range(len(start), len(current)):
                for name in candidates:
                    if name not in current:
                        other = [*current[:at], name, *current[at + 1 :]]
                        reached = objective(populations, other)
                        if reached > value + 1e-6:
                            best, value = other, reached
            if best is current:
                break
            current = best
        found.append(list(current))
        print(f"{len(current)} proxies: {objective(populations, current):.4f} on the first half", file=sys.stderr)
    return found


def report(label: str, names: Sequence[str], populations: Sequence[Population]) -> None:
    print(f"\n{label}: {', '.join(names)}")
    for one in populations:
        tau, rho = (" / ".join(f"{value:.3f}" for value in side) for side in (one.tau(names), one.rho(names)))
        print(f"  {one.name:16} {len(one.measured):>5,} cells  tau {tau}  rho {rho}")


if __name__ == "__main__":
    sys.exit(main())
