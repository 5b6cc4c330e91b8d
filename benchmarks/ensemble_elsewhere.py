"""Compare `--proxies best` with AZ-NAS in spaces without measured accuracies.

    python benchmarks/ensemble_elsewhere.py autoformer-tiny --params 4M:6M --sample 40
    python benchmarks/ensemble_elsewhere.py autoformer-tiny --params 4M:6M --sample 40 --known winner.json
    python benchmarks/ensemble_elsewhere.py mbv2 --flops :600M --layers :14 --sample 40 --resolution 96

Networks are drawn at random within the budget and scored once. Printed are Kendall's tau between the ranking by AZ-NAS
and that by `best-nb201`, that of each proxy with AZ-NAS, and, for genotypes that are given with --known (one a line),
the share of the drawn networks that each ranking puts below them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

import aznas_onnx as az
from aznas_onnx.counts import parse_count
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.results import ProxyScores
from aznas_onnx.searching import Budget, Limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space")
    for name in ("flops", "params", "layers"):
        parser.add_argument(f"--{name}", default=":", metavar="MIN:MAX")
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--known", type=Path)
    arguments = parser.parse_args()
    options = {} if arguments.resolution is None else {"resolution": arguments.resolution}
    budget = Budget(macs=limit(arguments.flops), params=limit(arguments.params), layers=limit(arguments.layers))
    study = az.search(
        arguments.space,
        budget,
        iterations=arguments.sample,
        strategy="random",
        proxies=["best-nb201"],
        space_options=options,
        device="cpu",
    )
    drawn = [ProxyScores(model=t.genotype, status=t.status, proxies=t.proxies) for t in study.trials]
    space = az.spaces.get(arguments.space, **options)
    known = arguments.known.read_text().split("\n") if arguments.known else []
    named = [
        replace(
            az.score(space.build(space.parse(text)), proxies=["best-nb201"], effort="auto", device="cpu"), model=text
        )
        for text in known
        if text.strip()
    ]
    print(f"{arguments.space}: {len(drawn)} networks drawn at random, {study.settings.scoring.resolution} pixels")
    plain, best = scores(drawn, "az"), scores(drawn, "best-nb201")
    print(f"tau between az and best: {kendalltau(plain, best).statistic:.3f}")
    for proxy in PROXIES.resolve(["best-nb201"]):
        values = [one.proxies[proxy.name].mean for one in drawn]
        if None in values or len(set(values)) == 1:
            print(f"  {proxy.name:20} the same for all" if None not in values else f"  {proxy.name:20} not defined")
            continue
        sign = -1.0 if proxy.direction is Direction.LOWER_IS_BETTER else 1.0
        print(f"  {proxy.name:20} {kendalltau(plain, sign * np.array(values)).statistic:6.3f} with az")
    for one in named:
        below = [
            np.mean(scores([one, *drawn], group)[0] > scores([one, *drawn], group)[1:])
            for group in ("az", "best-nb201")
        ]
        print(f"{one.model[:60]}: above {below[0]:.0%} by az, {below[1]:.0%} by best")
    return 0


def limit(text: str) -> Limit:
    low, _, high = text.rpartition(":")
    return Limit(*(parse_count(end) if end else None for end in (low, high)))


def scores(candidates: list[ProxyScores], group: str) -> np.ndarray:
    return np.array(az.rank(candidates, proxies=[group]).az_score, dtype=np.float64).round(9)


if __name__ == "__main__":
    sys.exit(main())
