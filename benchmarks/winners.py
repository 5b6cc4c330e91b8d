"""Accuracies of the best-scored of random samples.

    aznas bench nb201 --truth accuracies.csv -o scores.jsonl
    python benchmarks/winners.py scores.jsonl --truth accuracies.csv [--size 1000]

Divides the architectures of a scores file, in its order (which `aznas bench` draws at random), into samples that share
none, ranks each sample by itself (Eq. 12), and prints the accuracies of its winner beside the best in the sample.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from aznas_onnx.ranking import aggregate

PROXIES = ("expressivity", "progressivity", "trainability", "macs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1000)
    arguments = parser.parse_args()
    with arguments.truth.open(newline="") as file:
        truth = {row["arch"]: row for row in csv.DictReader(file)}
    columns = [name for name in next(iter(truth.values())) if name != "arch"]
    scores = [json.loads(line) for line in arguments.scores.read_text().splitlines()]
    samples = [scores[start : start + arguments.size] for start in range(0, len(scores), arguments.size)]
    samples = [sample for sample in samples if len(sample) == arguments.size]
    if not samples:
        print(f"{arguments.scores} holds {len(scores)} scores, fewer than one sample of {arguments.size}")
        return 2
    titles = ["sample", *(f"{name}: winner" for name in columns), *(f"{name}: best" for name in columns)]
    print(f"| {' | '.join(titles)} |")
    print("|---|" + "---:|" * (2 * len(columns)))
    found = []
    for number, sample in enumerate(samples, start=1):
        winner = truth[sample[int(np.argmax(az_scores(sample)))]["arch"]]
        best = [max(float(truth[one["arch"]][name]) for one in sample) for name in columns]
        found.append([*(float(winner[name]) for name in columns), *best])
        print(line(str(number), found[-1]))
    print(line("mean", np.mean(found, axis=0).tolist()))
    return 0


def az_scores(sample: list[dict[str, Any]]) -> np.ndarray:
    """Return Eq. 12 of each architecture within the sample; a proxy without a value ranks lowest."""
    values = [[one[name] if one[name] is not None else -np.inf for name in PROXIES] for one in sample]
    return np.asarray(aggregate(np.array(values, dtype=float)))


def line(name: str, values: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


if __name__ == "__main__":
    sys.exit(main())
