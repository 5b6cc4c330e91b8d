"""Time and peak memory of scoring a space's networks, against the textbook implementation in one run.

    python benchmarks/speed.py nb201            20 cells at 32x32, batch 64
    python benchmarks/speed.py mbv2             a network of 0.4G MACs at 224x224, batch 64
    python benchmarks/speed.py autoformer-tiny  a network at 224x224, batch 64
    python benchmarks/speed.py nb201 --effort balanced    time of an effort beside the textbook's
    python benchmarks/speed.py nb201 --drawn              ours without the detour through ONNX, as a search scores

Ours is timed from the genotype to the result: building the ONNX model (with --drawn the typed graph that reading it
would give), reading it, finding blocks, converting, drawing weights, the pass. The textbook is a ready-made torch
module, timed from drawing its weights to the result. Each side is a process of its own, which warms up on one network
first; the two take turns, and the best of each counts. Peak memory is that of the whole process, interpreter and torch
included. On a busy machine look at the processor time, with --threads 1.
Overhead is the share of our time outside the pass: building, reading, finding blocks, counting and converting.
Ends with status 1 where a ratio is above its bound.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

OVERHEAD = ("build", "read and canonicalise", "find blocks", "count", "convert")
BOUNDS = {"nb201": (0.6, None), "mbv2": (0.7, 0.35), "autoformer-tiny": (0.7, 0.35)}
OVERHEAD_BOUND = 0.1
MBV2 = (
    "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE6K3(16,32,2,16,1)SuperResIDWE6K3(32,48,2,32,2)"
    "SuperResIDWE6K5(48,96,2,64,2)SuperResIDWE4K5(96,128,1,96,2)SuperResIDWE6K3(128,192,2,128,2)"
    "SuperConvK1BNRELU(192,2048,1,1)"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", choices=list(BOUNDS))
    parser.add_argument("--effort", default="paper")
    parser.add_argument("--batch-size", type=int, default=64, help="of the textbook, and of ours with effort paper")
    parser.add_argument("--drawn", action="store_true", help="score what Space.source gives, not Space.build")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--side", choices=["ours", "textbook"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments)))
        return 0
    runs = [{side: in_process(side, arguments) for side in ("textbook", "ours")} for _ in range(arguments.repeats)]
    return report(arguments, runs)


def in_process(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, arguments.space, "--side", side, "--effort", arguments.effort]
    command += ["--batch-size", str(arguments.batch_size), "--threads", str(arguments.threads)]
    command += ["--drawn"] if arguments.drawn else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(finished.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score all networks of the space on one side, the first one twice: once to warm up."""
    import torch

    torch.set_num_threads(arguments.threads)
    side = Ours(arguments) if arguments.side == "ours" else Textbook(arguments)
    names = genotypes(arguments.space)
    side.score(names[0])
    side.phases_s.clear()
    gc.collect()
    gc.freeze()  # the objects of torch and the imports are no garbage: a pass over them takes a tenth of a second
    started, before = time.perf_counter(), time.process_time()
    for name in names:
        side.score(name)
    elapsed_s, processor_s = time.perf_counter() - started - side.untimed_s, time.process_time() - before
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    count = len(names)
    phases_s = {phase: total_s / count for phase, total_s in side.phases_s.items()}
    return {
        "seconds": elapsed_s / count,
        "processor_seconds": processor_s / count,
        "peak_bytes": peak,
        "phases_s": phases_s,
    }


def genotypes(name: str) -> list[str]:
    import numpy as np

    from aznas_onnx import spaces

    if name == "mbv2":
        return [MBV2]
    space, rng = spaces.get(name), np.random.default_rng(0)
    return [space.format(space.sample(rng)) for _ in range(20 if name == "nb201" else 1)]


class Ours:
    """From the genotype to the result."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from aznas_onnx import spaces

        self.space = spaces.get(arguments.space)
        self.build = self.space.source if arguments.drawn else self.space.build
        self.options: dict[str, Any] = {"effort": arguments.effort, "device": "cpu", "profile": True}
        if arguments.effort == "paper":
            self.options["batch_size"] = arguments.batch_size
        self.phases_s: dict[str, float] = {}
        self.untimed_s = 0.0

    def score(self, genotype: str) -> None:
        """Score one network."""
        from aznas_onnx.scoring import score

        started = time.perf_counter()
        model = self.build(self.space.parse(genotype))
        built_s = time.perf_counter() - started
        result = score(model, **self.options)
        for phase, elapsed_s in {"build": built_s, **result.profile_s}.items():
            self.phases_s[phase] = self.phases_s.get(phase, 0.0) + elapsed_s


class Textbook:
    """From a ready-made module, made off the clock, to the result."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.phases_s: dict[str, float] = {}
        self.untimed_s = 0.0

    def score(self, genotype: str) -> None:
        """Score one network."""
        import torch
        from textbook import initialise, initialise_transformer, score

        started = time.perf_counter()
        is_transformer = self.arguments.space.startswith("autoformer")
        module = self.network(genotype)
        self.untimed_s += time.perf_counter() - started
        resolution = 32 if self.arguments.space == "nb201" else 224
        (initialise_transformer if is_transformer else initialise)(module)
        score(module, list(module.blocks), torch.randn(self.arguments.batch_size, 3, resolution, resolution))

    def network(self, genotype: str) -> Any:
        """Make the module of a genotype."""
        from textbook_networks import AutoFormer, MobileNetV2, NasBench201

        from aznas_onnx import spaces

        if self.arguments.space == "nb201":
            return NasBench201(genotype)
        if self.arguments.space == "mbv2":
            return MobileNetV2(genotype)
        parsed = spaces.get(self.arguments.space).parse(genotype)
        return AutoFormer(parsed.embed_dim, parsed.num_heads, parsed.mlp_ratio)


def report(arguments: argparse.Namespace, runs: list[dict[str, dict[str, Any]]]) -> int:
    best = {
        side: {key: min(run[side][key] for run in runs) for key in ("seconds", "processor_seconds", "peak_bytes")}
        for side in ("textbook", "ours")
    }
    ratios = {key: best["ours"][key] / best["textbook"][key] for key in best["ours"]}
    fastest = min((run["ours"] for run in runs), key=lambda run: run["seconds"])
    phases_s = fastest["phases_s"]
    overhead = sum(phases_s[phase] for phase in OVERHEAD) / fastest["seconds"]
    time_bound, memory_bound = BOUNDS[arguments.space]
    holds = ratios["seconds"] <= time_bound and (memory_bound is None or ratios["peak_bytes"] <= memory_bound)
    holds = holds and (arguments.effort != "paper" or overhead <= OVERHEAD_BOUND)
    if arguments.json:
        print(json.dumps({**vars(arguments), "runs": runs, "ratios": ratios, "overhead": overhead}))
        return 0 if holds else 1
    print(
        f"{arguments.space}, batch {arguments.batch_size}, ours with effort {arguments.effort}, "
        f"{arguments.threads} threads, best of {arguments.repeats}"
    )
    for side, cost in best.items():
        times = f"{cost['seconds']:8.3f} s a network ({cost['processor_seconds']:.3f} s of processor)"
        print(f"  {side:9} {times}  {cost['peak_bytes'] / 2**30:5.2f} GiB")
    print(f"  time      {ratios['seconds']:.2f} of the textbook's (bound {time_bound})")
    print(f"            {ratios['processor_seconds']:.2f} of its processor time")
    print(f"  memory    {ratios['peak_bytes']:.2f} of the textbook's (bound {memory_bound})")
    print(f"  overhead  {overhead:.1%} of our time is outside the pass (bound {OVERHEAD_BOUND:.0%} with effort paper)")
    print("            " + ", ".join(f"{phase} {1e3 * elapsed_s:.1f} ms" for phase, elapsed_s in phases_s.items()))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
