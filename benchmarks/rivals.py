"""Correlation of each registered proxy on NAS-Bench-201, beside Table 1 of the paper, and its cost.

    python benchmarks/rivals.py score OUT.jsonl --truth accuracies.csv --sample 1000 --proxies synflow,naswot
    python benchmarks/rivals.py score OUT.jsonl ... --batch-size 64 --as-published --feed natural --proxies grasp
    python benchmarks/rivals.py cost --sample 8 --proxies best,synflow,naswot
    python benchmarks/rivals.py table OUT.jsonl MORE.jsonl ... --az AZ.jsonl --truth accuracies.csv > table.md

`score` writes one line a cell as it goes and continues where it was stopped; the sample is that of `aznas bench`, so a
larger one begins with a smaller one. `cost` says what adding proxies to the four of AZ-NAS takes, in processor time and
as a multiple of the four alone, cell by cell in turn. `--az` is a scores file of `aznas bench` with the four proxies of
AZ-NAS; with it, each proxy is assembled with them, as in Table 5.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from resuming import digest, resumed
from scipy.stats import kendalltau, spearmanr

import aznas_onnx as az
from aznas_onnx.evaluation.sample_archs import choose_archs
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import Aggregation, aggregate

AZ = ("expressivity", "progressivity", "trainability", "macs")
COLUMNS = ("cifar10", "cifar100", "imagenet16_120")
# Kendall's tau and Spearman's rho of Table 1: all 15,625 cells, CIFAR-10, CIFAR-100, ImageNet16-120.
PUBLISHED = {
    "params": ((0.578, 0.552, 0.520), (0.753, 0.728, 0.691)),
    "macs": ((0.578, 0.551, 0.517), (0.753, 0.727, 0.691)),
    "grad_norm": ((0.357, 0.350, 0.304), (0.484, 0.475, 0.412)),
    "grasp": ((0.318, 0.315, 0.282), (0.460, 0.453, 0.406)),
    "snip": ((0.454, 0.451, 0.400), (0.615, 0.609, 0.539)),
    "synflow": ((0.571, 0.565, 0.555), (0.769, 0.761, 0.747)),
    "naswot": ((0.557, 0.579, 0.573), (0.743, 0.769, 0.760)),
    "te_nas": ((0.536, 0.535, 0.492), (0.731, 0.728, 0.680)),
    "zen": ((0.296, 0.283, 0.303), (0.385, 0.361, 0.409)),
    "gradsign": ((0.618, 0.594, 0.575), (0.809, 0.784, 0.765)),
    "zico": ((0.589, 0.590, 0.584), (0.784, 0.785, 0.778)),
    "az": ((0.741, 0.723, 0.710), (0.913, 0.900, 0.886)),
    # Table 5; it has no rho.
    "zico + C": ((0.632, 0.615, 0.595), ()),
    "zico + C + E": ((0.733, 0.717, 0.678), ()),
    "zico + C + E + T": ((0.761, 0.749, 0.743), ()),
    "az + zico": ((0.773, 0.757, 0.747), ()),
    "synflow + C": ((0.636, 0.616, 0.594), ()),
    "synflow + C + E": ((0.741, 0.721, 0.681), ()),
    "synflow + C + E + T": ((0.768, 0.753, 0.746), ()),
    "az + synflow": ((0.776, 0.758, 0.747), ()),
}
CUMULATIVE = ("zico", "synflow")  # Table 5 adds the four to these one by one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score")
    score.add_argument("out", type=Path)
    score.add_argument("--truth", type=Path, required=True)
    score.add_argument("--sample", type=int, default=1000)
    score.add_argument("--batch-size", type=int, default=32)
    score.add_argument("--resolution", type=int, default=32, help="that networks are built for")
    score.add_argument("--seeds", type=int, default=1, help="how many scores to take the mean of")
    score.add_argument("--feed", default="noise", help="noise, natural, or the path of an .npz file")
    score.add_argument("--as-published", action="store_true", help="in the form of the paper's Table 1")
    score.add_argument("--proxies", required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("--sample", type=int, default=8)
    cost.add_argument("--effort", default="balanced")
    cost.add_argument("--proxies", required=True)
    table = commands.add_parser("table")
    table.add_argument("scores", type=Path, nargs="+")
    table.add_argument("--az", type=Path)
    table.add_argument("--truth", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "score":
        options = {
            "batch_size": arguments.batch_size,
            "seeds": arguments.seeds,
            "feed": arguments.feed,
            "as_published": arguments.as_published,
            "device": "cpu",
            "profile": True,
        }
        score_cells(arguments, arguments.proxies.split(","), options)
    elif arguments.command == "cost":
        print("\n".join(costs(arguments.sample, arguments.effort, arguments.proxies.split(","))))
    else:
        print("\n".join(tables(arguments.scores, arguments.az, arguments.truth)))
    return 0


def score_cells(arguments: argparse.Namespace, proxies: Sequence[str], options: Mapping[str, Any]) -> None:
    """Score the cells that a file does not hold yet."""
    out, space = arguments.out, az.spaces.get("nb201", resolution=arguments.resolution)
    with arguments.truth.open(newline="") as file:
        archs = choose_archs([row["arch"] for row in csv.DictReader(file)], space, sample=arguments.sample)
    settings = {
        **options,
        "resolution": arguments.resolution,
        "proxies": list(proxies),
        "truth": digest(arguments.truth),
    }
    records, append = resumed(out, settings)
    known = {record["arch"] for record in records}
    for arch in archs:
        if arch in known:
            continue
        result = az.score(space.build(space.parse(arch)), proxies=proxies, **options)
        values = {name: value.mean for name, value in result.proxies.items()}
        missing = {name: value.reason for name, value in result.proxies.items() if value.mean is None}
        record = {"arch": arch, "batch_size": options["batch_size"], **values, "missing": missing}
        record["profile_s"] = {name: round(seconds, 5) for name, seconds in result.profile_s.items()}
        append(record)


def costs(sample: int, effort: str, proxies: Sequence[str]) -> list[str]:
    """Return the table of what proxies cost beside the four of AZ-NAS, as lines of Markdown."""
    space = az.spaces.get("nb201")
    rng = np.random.default_rng(0)
    models = [space.build(space.sample(rng)) for _ in range(sample)]
    spent: dict[str, list[float]] = {name: [] for name in ("az", *proxies)}
    for number, model in enumerate([models[0], *models]):
        for name, times in spent.items():
            began = time.process_time()
            az.score(model, proxies=[*AZ, name], effort=effort, device="cpu")
            if number:  # the first round imports and compiles
                times.append(time.process_time() - began)
    lines = ["| Proxies | Processor ms, median | Times the four alone |", "|---|---:|---:|"]
    for name, times in spent.items():
        ratio = np.median(np.array(times) / np.array(spent["az"]))
        label = name if name in ("az", "best") else f"az + {name}"
        lines.append(f"| {label} | {1e3 * np.median(times):.0f} | {ratio:.2f} |")
    return lines


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def tables(paths: Iterable[Path], az_path: Path | None, truth: Path) -> list[str]:
    """Return the document's tables as lines of Markdown."""
    with truth.open(newline="") as file:
        accuracy = {row["arch"]: [float(row[name]) for name in COLUMNS] for row in csv.DictReader(file)}
    four = {} if az_path is None else {record["arch"]: record for record in read(az_path)}
    lines = ["| Proxy | Cells | Batch | tau | rho | Published tau | Published rho |", "|---|---:|---:|---|---|---|---|"]
    for path in paths:
        found = read(path)
        records = [{**four.get(record["arch"], {}), **record} for record in found]
        measured = np.array([accuracy[record["arch"]] for record in records])
        batch_size = records[0].get("batch_size", "")
        for name, scores in single(records).items():
            lines.append(row(name, scores, measured, batch_size))
        records = [record for record in records if record["arch"] in four]
        measured = np.array([accuracy[record["arch"]] for record in records])
        for name, scores in assembled(records).items() if len(records) > 1 else ():
            lines.append(row(name, scores, measured, batch_size))
    return lines


def single(records: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return each proxy of a file alone, and te_nas as its sum of ranks."""
    names = [name for name in records[0] if name in PROXIES and name not in AZ]
    found = {name: column(records, name) for name in names}
    if {"te_nas_ntk", "te_nas_regions"} <= set(names):
        pair = np.column_stack([found["te_nas_ntk"], found["te_nas_regions"]])
        found["te_nas"] = np.asarray(aggregate(pair, Aggregation.LINEAR))
    return found


def assembled(records: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the four of AZ-NAS, each further proxy assembled with them (Table 5), and with some of them."""
    four = [column(records, name) for name in AZ]
    found = {"az": np.asarray(aggregate(np.column_stack(four)))}
    for name in single(records):
        if name == "te_nas":
            continue
        if name in CUMULATIVE:
            added = [column(records, name)]
            for partner, label in (("macs", "C"), ("expressivity", "C + E"), ("trainability", "C + E + T")):
                added.append(column(records, partner))
                found[f"{name} + {label}"] = np.asarray(aggregate(np.column_stack(added)))
        found[f"az + {name}"] = np.asarray(aggregate(np.column_stack([*four, column(records, name)])))
    return found


def column(records: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """Return a proxy so that higher is better and no value is lowest."""
    sign = -1.0 if PROXIES[name].direction is Direction.LOWER_IS_BETTER else 1.0
    # A proxy of the name of a count stands apart in a scores file of `aznas bench`.
    values = [record.get("values", {}).get(name, record[name]) for record in records]
    return np.array([-math.inf if value is None else sign * value for value in values])


def row(name: str, scores: np.ndarray, measured: np.ndarray, batch_size: int | str) -> str:
    ranks = np.unique(scores, return_inverse=True)[1]
    tau = [kendalltau(ranks, truth).statistic for truth in measured.T]
    rho = [spearmanr(ranks, truth).statistic for truth in measured.T]
    published = [triple(part) for part in PUBLISHED[name]] if name in PUBLISHED else ["", ""]
    return f"| {name} | {len(scores)} | {batch_size} | {triple(tau)} | {triple(rho)} | {' | '.join(published)} |"


def triple(values: Iterable[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
