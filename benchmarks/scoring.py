"""Time and peak memory of scoring a torchvision ResNet, against the textbook implementation in one run.

    python benchmarks/scoring.py                       resnet50, batch 64: what the project promises
    python benchmarks/scoring.py --model resnet18 --batch-size 16 --repeats 3

Each measurement is a process of its own; the two sides take turns, and the best of each counts, so that whatever
else the machine does hits both. Ours is timed from the file to the result (reading, restoring normalisation,
converting, drawing weights, the pass); the textbook is a ready-made torch module, timed from drawing its weights to the
result. Peak memory is that of the whole process, interpreter and torch included. On a busy machine look at the
processor time, which leaves the waiting out.
Ends with status 1 where a ratio is above its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY_BOUND = 0.35
TIME_BOUND = 0.7
MEASURES = ("seconds", "processor_seconds", "peak_bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet50", help="a torchvision ResNet")
    parser.add_argument("--onnx", type=Path, help="its ONNX file; exported on the spot by default")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)  # for the processes that measure
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if arguments.onnx is None:
            arguments.onnx = Path(folder) / f"{arguments.model}.onnx"
            in_process("export", arguments)
        runs = [{side: in_process(side, arguments) for side in ("ours", "textbook")} for _ in range(arguments.repeats)]
    return report(arguments, runs)


def in_process(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    options = ("model", "onnx", "batch_size", "threads")
    command = [sys.executable, __file__, "--side", side]
    command += [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(finished.stdout.splitlines()[-1])


def measure(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(arguments.threads)
    before = time.process_time()
    proxies, seconds = SIDES[side](arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "proxies": proxies,
        "seconds": seconds,
        "processor_seconds": time.process_time() - before,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def export(arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    import torch
    import torchvision

    started = time.perf_counter()
    model = torchvision.models.get_model(arguments.model).eval()
    torch.onnx.export(model, (torch.randn(1, 3, 224, 224),), arguments.onnx, verbose=False)
    return {}, time.perf_counter() - started


def ours(arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    from aznas_onnx.scoring import score

    started = time.perf_counter()
    scores = score(arguments.onnx, batch_size=arguments.batch_size, device="cpu")
    seconds = time.perf_counter() - started
    return {name: value.mean for name, value in scores.proxies.items() if value.mean is not None}, seconds


def textbook(arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    import torch
    import torchvision
    from textbook import initialise, resnet_blocks, score

    torch.manual_seed(0)
    model = torchvision.models.get_model(arguments.model)
    started = time.perf_counter()
    initialise(model)
    proxies = score(model, resnet_blocks(model), torch.randn(arguments.batch_size, 3, 224, 224))
    return proxies, time.perf_counter() - started


Side = Callable[[argparse.Namespace], tuple[dict[str, float], float]]
SIDES: dict[str, Side] = {"export": export, "ours": ours, "textbook": textbook}


def report(arguments: argparse.Namespace, runs: list[dict[str, dict[str, Any]]]) -> int:
    best = {side: {key: min(run[side][key] for run in runs) for key in MEASURES} for side in ("ours", "textbook")}
    ratios = {key: best["ours"][key] / best["textbook"][key] for key in MEASURES}
    holds = ratios["seconds"] < TIME_BOUND and ratios["peak_bytes"] < MEMORY_BOUND
    if arguments.json:
        print(
            json.dumps({"model": arguments.model, "batch_size": arguments.batch_size, "runs": runs, "ratios": ratios})
        )
        return 0 if holds else 1
    print(f"{arguments.model}, batch {arguments.batch_size}, {arguments.threads} threads, best of {arguments.repeats}")
    for side in ("textbook", "ours"):
        proxies = ", ".join(f"{name} {value:.3f}" for name, value in runs[0][side]["proxies"].items() if name != "macs")
        cost = best[side]
        times = f"{cost['seconds']:7.1f} s ({cost['processor_seconds']:.1f} s of processor)"
        print(f"  {side:9} {times}  {cost['peak_bytes'] / 2**30:5.2f} GiB  {proxies}")
    print(f"  time   {ratios['seconds']:.2f} of the textbook's (bound {TIME_BOUND})")
    print(f"         {ratios['processor_seconds']:.2f} of its processor time")
    print(f"  memory {ratios['peak_bytes']:.2f} of the textbook's (bound {MEMORY_BOUND})")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
