"""TE-NAS as its authors measure NAS-Bench-201: on much smaller substitutes for the network.

    python benchmarks/te_nas_reduced.py OUT.jsonl --truth accuracies.csv --sample 300

Their kernel is that of a network of 3, 6 and 12 channels with one cell a stage; their regions are those of a single
cell of one channel without stem, counted over 1,000 images of 3x3 pixels at a time. An ONNX file holds the network
alone, so `te_nas_ntk` and `te_nas_regions` measure that. This says what the same two proxies make of the stand-ins:
whether it is them or the proxies that make the difference to Table 1. It goes on where it was stopped, and prints the
table of all that was scored.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from resuming import digest, resumed
from rivals import COLUMNS, row, single

import aznas_onnx as az
from aznas_onnx.evaluation.sample_archs import choose_archs
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces import nb201

KERNEL_BATCH, REGION_BATCH = 32, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=300)
    arguments = parser.parse_args()
    with arguments.truth.open(newline="") as file:
        accuracy = {entry["arch"]: [float(entry[name]) for name in COLUMNS] for entry in csv.DictReader(file)}
    archs = choose_archs(list(accuracy), az.spaces.get("nb201"), sample=arguments.sample)
    records, append = resumed(arguments.scores, {"truth": digest(arguments.truth)})
    known = {record["arch"] for record in records}
    for arch in archs:
        if arch not in known:
            append({"arch": arch, **measured(arch)})
    truth = np.array([accuracy[record["arch"]] for record in records])
    print("| Proxy | Cells | Batch | tau | rho | Published tau | Published rho |\n|---|---:|---:|---|---|---|---|")
    for name, scores in single(records).items():
        print(row(name, scores, truth, REGION_BATCH if name == "te_nas_regions" else KERNEL_BATCH))
    return 0


def measured(arch: str) -> dict[str, Any]:
    """Return both proxies of a cell, each of its stand-in."""
    space = az.spaces.get("nb201")
    cell = space.parse(arch)
    with mock.patch.multiple(nb201, _CHANNELS=(3, 6, 12), _CELLS=1):
        narrow = space.build(cell)
    kernel = az.score(narrow, proxies=["te_nas_ntk"], batch_size=KERNEL_BATCH, device="cpu")
    regions = az.score(thin(cell), proxies=["te_nas_regions"], batch_size=REGION_BATCH, device="cpu")
    return {
        "te_nas_ntk": kernel.proxies["te_nas_ntk"].mean,
        "te_nas_regions": regions.proxies["te_nas_regions"].mean,
    }


def thin(cell: nb201.Cell) -> Any:
    """Return one cell of one channel on images of 3x3 pixels."""
    net = GraphBuilder("thin")
    zero = net.constant("zero", np.float32(0)) if nb201.Operation.NONE in cell.operations else ""
    x = nb201._cell(net, net.image_input(1, 3), "cell", 1, cell, zero)
    net.declare_block(x)
    return net.model(net.classifier(x, "classifier", 1, num_classes=10))


if __name__ == "__main__":
    sys.exit(main())
