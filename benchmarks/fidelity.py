"""Agreement of our proxies with those of the published implementation, network by network.

    python benchmarks/fidelity.py SPACE REFERENCE.jsonl [--seeds 8] [-o scores.jsonl]

Each line of the reference names an architecture (`arch` as text, or `genotype` as an object), the batch size and
resolution it was scored at, and expressivity, progressivity and trainability, either once or in a list of `runs`. Ours
are computed at the same batch size and resolution, as published (a singular covariance has no expressivity), and
averaged over finite values. Reported are Spearman's rho and Pearson's r over the networks that both sides give a finite
value, how often they disagree on that, and the difference of the means beside its spread. Where networks are tied
within noise, rho depends on the noise and r does not. Scores are appended as they are made,
and an interrupted run goes on where it was; a file that belongs to another reference, or other settings, is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from resuming import digest, resumed
from rich.console import Console
from rich.progress import track
from scipy.stats import pearsonr, spearmanr

from aznas_onnx import spaces
from aznas_onnx.scoring import score

PROXIES = ("expressivity", "progressivity", "trainability")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", help="nb201, mbv2, or auto where each line names its space")
    parser.add_argument("reference", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64, help="where the reference does not say")
    parser.add_argument("-o", "--output", type=Path, default=Path("fidelity.jsonl"))
    arguments = parser.parse_args()
    entries = [json.loads(line) for line in arguments.reference.read_text().splitlines()]
    settings = {
        "reference": digest(arguments.reference),
        "space": arguments.space,
        "seeds": arguments.seeds,
        "batch_size": arguments.batch_size,
    }
    done, append = resumed(arguments.output, settings)
    for entry in track(entries[len(done) :], "scoring", console=Console(stderr=True)):
        append(ours(entry, arguments.space, arguments.seeds, arguments.batch_size))
    print(f"{len(entries)} networks, {arguments.seeds} seeds")
    print(f"{'proxy':14} {'rho':>6} {'r':>6} {'both':>5} {'only ours':>9} {'only theirs':>11}  mean diff  spread")
    for name in PROXIES:
        if any(name in one for one in (entries[0], *entries[0].get("runs", ()))):
            print(line(name, [theirs(entry, name) for entry in entries], [one[name] for one in done]))
    return 0


def ours(entry: dict[str, Any], space_name: str, seeds: int, batch_size: int) -> dict[str, list[float | None]]:
    """Score the network of an entry: for each proxy the values over seeds, None where there is none."""
    options = {"resolution": entry["resolution"]} if "resolution" in entry else {}
    space = spaces.get(entry.get("space", space_name) if space_name == "auto" else space_name, **options)
    text = entry["arch"] if "arch" in entry else json.dumps(entry["genotype"])
    model = space.build(space.parse(text))
    result = score(model, batch_size=entry.get("batch_size", batch_size), seeds=seeds, as_published=True)
    return {
        name: [value if math.isfinite(value) else None for value in result.proxies[name].per_seed] for name in PROXIES
    }


def theirs(entry: dict[str, Any], name: str) -> list[float | None]:
    """Return the reference's values of a proxy over its runs."""
    values = [run[name] for run in entry.get("runs", [entry])]
    return [float(value) if math.isfinite(value) else None for value in values]


def line(name: str, theirs: list[list[float | None]], ours: list[list[float | None]]) -> str:
    """Compare one proxy over all networks."""
    pairs = [(mean(a), mean(b)) for a, b in zip(theirs, ours, strict=True)]
    both = np.array([(a, b) for a, b in pairs if a is not None and b is not None])
    only_ours = sum(a is None and b is not None for a, b in pairs)
    only_theirs = sum(a is not None and b is None for a, b in pairs)
    difference = both[:, 1] - both[:, 0]
    rho = spearmanr(both[:, 0], both[:, 1]).statistic
    r = pearsonr(both[:, 0], both[:, 1]).statistic
    spread = both[:, 0].std()
    return (
        f"{name:14} {rho:6.3f} {r:6.3f} {len(both):5} {only_ours:9} {only_theirs:11} {difference.mean():10.4f} "
        f"{spread:7.3f}   (difference: standard deviation {difference.std():.4f})"
    )


def mean(values: list[float | None]) -> float | None:
    """Return the mean of the finite values, or None where more than half are not finite."""
    finite = [value for value in values if value is not None]
    return statistics.fmean(finite) if 2 * len(finite) > len(values) else None


if __name__ == "__main__":
    sys.exit(main())
