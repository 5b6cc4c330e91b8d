"""How long the command line takes to answer where it needs no torch.

    python benchmarks/startup.py [MODEL.onnx]

Without a model, the ResNet-50 that the onnx package ships is inspected. Each command runs in a process of its own, as a
user's does; the median of several runs counts, and the fastest is shown beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7
LIMITS_S = {"--help": 0.5, "inspect": 1.5}


def main() -> int:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_resnet50()
    missed = False
    print(f"{'command':<36}{'median s':>10}{'fastest s':>11}{'limit s':>9}")
    for arguments in (["--help"], ["inspect", str(model)]):
        times_s = [run_once(arguments) for _ in range(RUNS)]
        limit_s = LIMITS_S[arguments[0]]
        missed |= statistics.median(times_s) > limit_s
        label = " ".join(["aznas", arguments[0], *(Path(argument).name for argument in arguments[1:])])
        print(f"{label:<36}{statistics.median(times_s):>10.2f}{min(times_s):>11.2f}{limit_s:>9.1f}")
    return int(missed)


def run_once(arguments: list[str]) -> float:
    command = [sys.executable, "-c", "from aznas_onnx.cli.main import main; main()", *arguments]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def shipped_resnet50() -> Path:
    import onnx

    return Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"


if __name__ == "__main__":
    sys.exit(main())
