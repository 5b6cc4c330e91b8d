"""Test that one architecture, exported in many ways, has equal scores.

    python benchmarks/same_architecture.py resnet18 mobilenet_v2 [--seeds 8] [--batch-size 8] [--port FILE.onnx ...]

Exports a torchvision network by TorchScript and dynamo, optimised and not, in evaluation and in training mode, then
rewrites it with onnxslim, ONNX Runtime's basic optimisation and fp16 conversion. `--port` adds files of the same
architecture from other frameworks, at the same input size. Prints MACs, blocks and proxies side by side, and PASS or
FAIL: MACs within 0.5 % of the first row's; the same blocks in the same places (kinds, channels, positions);
each proxy within 3 standard errors of every other row's, over the seeds. Exits with 1 if any network fails. The last
column is the largest relative difference of one seed's proxies: 0 or rounding where an export is the same graph in the
same order, and so gets the same weights.

The weights are random and perturbed, as those of a trained network: optimisers merge what is equal in a fresh one, and
the file is then another network (`--fresh` shows it).
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROXIES = ("expressivity", "progressivity", "trainability")
MACS_TOLERANCE, STANDARD_ERRORS = 0.005, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a block is and where it ends, whatever layout its feature map has."""

    kind: str
    channels: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one export scores."""

    export: str
    macs: int
    params: int
    blocks: tuple[Place, ...]
    means: dict[str, float | None]
    stderrs: dict[str, float | None]
    per_seed: dict[str, tuple[float, ...]]

    def sigmas(self, other: Row, proxy: str) -> float | None:
        """Difference of a proxy in standard errors of the difference; None where it applies to neither."""
        mine, theirs = self.means[proxy], other.means[proxy]
        if mine is None or theirs is None:
            return None if mine is theirs else math.inf
        error = math.hypot(self.stderrs[proxy] or 0.0, other.stderrs[proxy] or 0.0)
        return abs(mine - theirs) / error if error else (0.0 if mine == theirs else math.inf)

    def paired(self, other: Row) -> float:
        """Return the largest relative difference of a proxy for one seed: rounding where the draws are the same."""
        pairs = [pair for proxy in PROXIES for pair in zip(self.per_seed[proxy], other.per_seed[proxy], strict=True)]
        return max((abs(mine - theirs) / max(abs(theirs), 1e-12) for mine, theirs in pairs), default=0.0)

    def differences(self, other: Row) -> list[str]:
        """Say in which of MACs, blocks and proxies this is not what `other` is."""
        found = [] if abs(self.macs / other.macs - 1) <= MACS_TOLERANCE else ["MACs"]
        found += [] if self.blocks == other.blocks else ["blocks"]
        return found + [proxy for proxy in PROXIES if (self.sigmas(other, proxy) or 0.0) > STANDARD_ERRORS]


def perturb(network: Any) -> None:
    """Give a fresh network weights and statistics no two of which are equal, as training does."""
    import torch

    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.randn(tensor.shape, generator=source))
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=source))


def resized(path: Path, size: int, folder: Path) -> Path:
    """Return a copy of a port that takes images of `size`; shapes that its exporter wrote down are dropped."""
    import onnx

    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(model, folder / path.name)
    return folder / path.name


def exports(network: Any, sample: Any, folder: Path) -> dict[str, Path]:
    """Write a torch network in every way that PyTorch, onnxslim and ONNX Runtime offer."""
    import onnx
    import onnxslim
    import torch

    from aznas_onnx.runtime import onnxruntime

    runtime = onnxruntime()
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
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        runtime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    def halve(source: Path, target: Path) -> None:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)

    derive("ts+onnxslim", slim)
    derive("ts+ortbasic", optimise)
    derive("ts+fp16", halve)
    return paths


def places(path: Path) -> tuple[Place, ...]:
    """Return the blocks of a file."""
    from aznas_onnx.blocks import find_blocks
    from aznas_onnx.graph import prepare

    model = prepare(path)
    found = []
    for block in find_blocks(model).blocks:
        shape = list(model.infos.shape(block.output))
        channels = shape.pop(block.channel_axis)
        found.append(Place(kind=block.kind.value, channels=channels, positions=tuple(shape[1:])))
    return tuple(found)


def measure(name: str, path: Path, *, seeds: int, batch_size: int) -> Row:
    """Score one file."""
    from aznas_onnx.scoring import score

    scores = score(path, seeds=seeds, batch_size=batch_size)
    if scores.reason is not None or scores.macs is None or scores.params is None:
        raise RuntimeError(f"{name}: {scores.reason}")
    values = {proxy: scores.proxies.get(proxy) for proxy in PROXIES}
    return Row(
        export=name,
        macs=scores.macs,
        params=scores.params,
        blocks=places(path),
        means={proxy: None if value is None else value.mean for proxy, value in values.items()},
        stderrs={proxy: None if value is None else value.stderr for proxy, value in values.items()},
        per_seed={proxy: () if value is None else value.per_seed for proxy, value in values.items()},
    )


def show(rows: list[Row]) -> bool:
    """Print the rows of one architecture beside its first; return whether all agree with each other."""
    first = rows[0]
    print(
        f"{'export':<36}{'MACs':>15}{'params':>12}{'blocks':>7}" + "".join(f"{p:>28}" for p in PROXIES) + "   one seed"
    )
    for row in rows:
        cells = ""
        for proxy in PROXIES:
            mean, sigma = row.means[proxy], row.sigmas(first, proxy)
            text = "-" if mean is None else f"{mean:.4f} ± {row.stderrs[proxy] or 0:.4f} ({sigma or 0:.1f})"
            cells += f"{text:>28}"
        print(f"{row.export:<36}{row.macs:>15,}{row.params:>12,}{len(row.blocks):>7}{cells}{row.paired(first):>11.0e}")
    agree = True
    for one, other in itertools.combinations(rows, 2):
        differences = other.differences(one)
        agree &= not differences
        if differences:
            print(f"    {other.export} differs from {one.export} in {', '.join(differences)}")
        if "blocks" in differences and one is first:
            print("    blocks:", *_unlike(other.blocks, one.blocks), sep="\n        ")
    print("PASS" if agree else "FAIL")
    return agree


def _unlike(blocks: tuple[Place, ...], expected: tuple[Place, ...]) -> list[str]:
    """Say where two lists of blocks differ."""
    pairs = enumerate(itertools.zip_longest(blocks, expected))
    return [f"{index}: {block} instead of {other}" for index, (block, other) in pairs if block != other]


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="torchvision model names")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--fresh", action="store_true", help="leave the weights as they are initialised")
    parser.add_argument("--port", type=Path, action="append", default=[], help="the last network's port (repeatable)")
    options = parser.parse_args()
    import torch
    import torchvision

    agree = True
    for index, name in enumerate(options.networks):
        torch.manual_seed(0)
        sized = {"image_size": options.size} if name.startswith("vit") else {}
        network = torchvision.models.get_model(name, weights=None, **sized)
        if not options.fresh:
            perturb(network)
        with tempfile.TemporaryDirectory() as folder:
            paths = exports(network, torch.randn(1, 3, options.size, options.size), Path(folder))
            if index == len(options.networks) - 1:
                paths.update({path.stem: resized(path, options.size, Path(folder)) for path in options.port})
            rows = [
                measure(export, path, seeds=options.seeds, batch_size=options.batch_size)
                for export, path in paths.items()
            ]
        print(f"\n{name}, input {options.size} x {options.size}, batch {options.batch_size}, {options.seeds} seeds")
        agree &= show(rows)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
