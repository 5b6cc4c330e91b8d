"""One architecture, exported in many ways, must score the same.

    python benchmarks/same_architecture.py resnet18 mobilenet_v2 [--seeds 8] [--batch-size 8] [--port FILE.onnx ...]

Exports a torchvision network (random weights) by TorchScript and dynamo, optimised and not, in evaluation and in
training mode, then rewrites it with onnxslim, ONNX Runtime's basic optimisation and fp16 conversion. `--port` adds
files of the same architecture from other frameworks. Prints MACs, blocks and proxies side by side: MACs within
0.5 %, the same kinds of blocks, proxies within 3 standard errors of the first row, over the seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROXIES = ("expressivity", "progressivity", "trainability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one export scores."""

    export: str
    macs: int
    params: int
    kinds: tuple[str, ...]
    means: dict[str, float | None]
    stderrs: dict[str, float | None]

    def sigmas(self, other: Row, proxy: str) -> float | None:
        """Difference of a proxy in standard errors of the difference; None where it applies to neither."""
        mine, theirs = self.means[proxy], other.means[proxy]
        if mine is None or theirs is None:
            return None if mine is theirs else math.inf
        error = math.hypot(self.stderrs[proxy] or 0.0, other.stderrs[proxy] or 0.0)
        return abs(mine - theirs) / error if error else (0.0 if mine == theirs else math.inf)

    def agrees(self, other: Row) -> bool:
        """Whether MACs, blocks and proxies are those of `other`."""
        same = abs(self.macs / other.macs - 1) <= 0.005 and self.kinds == other.kinds
        return same and all((self.sigmas(other, proxy) or 0.0) <= 3.0 for proxy in PROXIES)


def exports(network: Any, sample: Any, folder: Path) -> dict[str, Path]:
    """Write a torch network in every way that PyTorch, onnxslim and ONNX Runtime offer."""
    import onnx
    import onnxruntime
    import onnxslim
    import torch
    from onnxruntime.transformers.float16 import convert_float_to_float16

    network.eval()
    paths: dict[str, Path] = {}

    def export(name: str, **options: Any) -> None:
        paths[name] = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (sample,), str(paths[name]), **options)

    def derive(name: str, make: Callable[[Path, Path], None]) -> None:
        paths[name] = folder / f"{name}.onnx"
        make(paths["ts"], paths[name])

    export("ts", dynamo=False, opset_version=17)
    export("dynamo", dynamo=True, verbose=False)
    export("dynamo-noopt", dynamo=True, verbose=False, optimize=False)
    training = torch.onnx.TrainingMode
    export("ts-train", dynamo=False, opset_version=17, training=training.TRAINING, do_constant_folding=False)
    network.eval()
    export("ts-keepbn", dynamo=False, opset_version=17, training=training.PRESERVE, do_constant_folding=False)

    def slim(source: Path, target: Path) -> None:
        onnx.save(onnxslim.slim(onnx.load(source)), target)

    def optimise(source: Path, target: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    def halve(source: Path, target: Path) -> None:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)

    derive("ts+onnxslim", slim)
    derive("ts+ortbasic", optimise)
    derive("ts+fp16", halve)
    return paths


def measure(name: str, path: Path, *, seeds: int, batch_size: int) -> Row:
    """Score one file."""
    from aznas_onnx.blocks import find_blocks
    from aznas_onnx.graph import prepare
    from aznas_onnx.scoring import score

    scores = score(path, seeds=seeds, batch_size=batch_size)
    if scores.reason is not None or scores.macs is None or scores.params is None:
        raise RuntimeError(f"{name}: {scores.reason}")
    values = {proxy: scores.proxies.get(proxy) for proxy in PROXIES}
    return Row(
        export=name,
        macs=scores.macs,
        params=scores.params,
        kinds=tuple(block.kind.value for block in find_blocks(prepare(path)).blocks),
        means={proxy: None if value is None else value.mean for proxy, value in values.items()},
        stderrs={proxy: None if value is None else value.stderr for proxy, value in values.items()},
    )


def show(rows: list[Row]) -> bool:
    """Print the rows of one architecture beside its first; return whether all agree."""
    first = rows[0]
    print(f"{'export':<16}{'MACs':>15}{'params':>12}{'blocks':>7}" + "".join(f"{p:>28}" for p in PROXIES))
    for row in rows:
        cells = ""
        for proxy in PROXIES:
            mean, sigma = row.means[proxy], row.sigmas(first, proxy)
            text = "-" if mean is None else f"{mean:.4f} ± {row.stderrs[proxy] or 0:.4f} ({sigma or 0:.1f})"
            cells += f"{text:>28}"
        verdict = "" if row.agrees(first) else "  <- differs"
        print(f"{row.export:<16}{row.macs:>15,}{row.params:>12,}{len(row.kinds):>7}{cells}{verdict}")
        if row.kinds != first.kinds:
            print("    blocks:", dict(Counter(row.kinds)), "instead of", dict(Counter(first.kinds)))
    return all(row.agrees(first) for row in rows)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="torchvision model names")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--port", type=Path, action="append", default=[], help="the last network's port (repeatable)")
    options = parser.parse_args()
    import torch
    import torchvision

    agree = True
    for index, name in enumerate(options.networks):
        torch.manual_seed(0)
        network = torchvision.models.get_model(name, weights=None)
        with tempfile.TemporaryDirectory() as folder:
            paths = exports(network, torch.randn(1, 3, options.size, options.size), Path(folder))
            if index == len(options.networks) - 1:
                paths.update({path.stem: path for path in options.port})
            rows = [
                measure(export, path, seeds=options.seeds, batch_size=options.batch_size)
                for export, path in paths.items()
            ]
        print(f"\n{name}, batch {options.batch_size}, {options.seeds} seeds")
        agree &= show(rows)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
