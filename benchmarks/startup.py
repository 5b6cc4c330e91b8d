"""Time of the command line to answer where it needs no torch.

    python benchmarks/startup.py [MODEL.onnx]

Without a model, the ResNet-50 that the onnx package ships is inspected. Each command runs in a process of its own, as a
user's does. The median of several runs counts; the fastest, and the processor time, tell what a busy machine adds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

RUNS = 7
LIMITS_S = {"--help": 0.5, "inspect": 1.5}


def main() -> int:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_resnet50()
    missed = False
    print(f"{'command':<40}{'median s':>9}{'fastest s':>11}{'processor s':>13}{'limit s':>9}")
    for arguments in (["--help"], ["inspect", str(model)]):
        wall_s, processor_s = zip(*(run_once(arguments) for _ in range(RUNS)), strict=True)
        limit_s = LIMITS_S[arguments[0]]
        missed |= median(wall_s) > limit_s
        label = " ".join(["aznas", arguments[0], *(Path(argument).name for argument in arguments[1:])])
        print(f"{label:<40}{median(wall_s):>9.2f}{min(wall_s):>11.2f}{median(processor_s):>13.2f}{limit_s:>9.1f}")
    return int(missed)


def run_once(arguments: list[str]) -> tuple[float, float]:
    command = [sys.executable, "-m", "aznas_onnx", *arguments]
    before = os.times()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - started
    after = os.times()
    return wall_s, after.children_user + after.children_system - before.children_user - before.children_system


def shipped_resnet50() -> Path:
    import onnx

    return Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"


if __name__ == "__main__":
    sys.exit(main())
