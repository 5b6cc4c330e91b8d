"""Time to convert a graph here and with onnx2torch, in the same run on the same model.

    python benchmarks/conversion.py [FILE.onnx ...] [--repeats 15]

Without files it exports torchvision's efficientnet_b0 and efficientnet_b1 on the spot (TorchScript exporter, opset
13: onnx2torch converts few files of the newer exporter). All weights are random, because equal ones make the
exporter write Identity nodes, which onnx2torch does not convert.

Both sides start from a model that is in memory and checked. Ours is timed in two steps: `shapes` is the graph
room's work for a new batch size, `compile` is the conversion proper, for weights that are drawn on the device
already. The best of all repeats is reported; a first conversion in a process costs some milliseconds more.
"""

from __future__ import annotations

import argparse
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

from aznas_onnx.convert import compile_program
from aznas_onnx.graph import Model, prepare, specialise

BATCH_SIZE = 64
REQUIRED_MS = 25.0


def export(name: str) -> onnx.ModelProto:
    """Export a network of torchvision with random weights."""
    import torchvision

    network = getattr(torchvision.models, name)(weights=None).eval()
    for parameter in [*network.parameters(), *network.buffers()]:
        if parameter.is_floating_point():
            parameter.data.uniform_(0.5, 1.5)
    buffer = io.BytesIO()
    torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), buffer, dynamo=False, opset_version=13)
    return onnx.load_from_string(buffer.getvalue())


def best_ms(function: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of `repeats` runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def drawn_weights(model: Model) -> dict[str, torch.Tensor]:
    """Return a tensor for every weight-like constant, as scoring draws them before it converts."""
    return {
        name: torch.empty(constant.shape)
        for name, constant in model.graph.constants.items()
        if constant.is_float and constant.elements > 1
    }


def onnx2torch_ms(proto: onnx.ModelProto, repeats: int) -> str:
    """Time onnx2torch; say so where it cannot convert the model."""
    import onnx2torch

    try:
        return f"{best_ms(lambda: onnx2torch.convert(proto), repeats):.1f}"
    except (NotImplementedError, KeyError, RuntimeError, ValueError) as error:
        return f"- ({type(error).__name__}: {str(error)[:50]})"


def measure(name: str, proto: onnx.ModelProto, repeats: int) -> float:
    """Print one row; return the milliseconds of our conversion."""
    prepared = prepare(proto)
    model = specialise(prepared, BATCH_SIZE)
    weights = drawn_weights(model)
    started = time.perf_counter()
    program = compile_program(model.graph, model.infos, weights, device="cpu", training=True)
    first_ms = 1000 * (time.perf_counter() - started)
    compile_ms = best_ms(
        lambda: compile_program(model.graph, model.infos, weights, device="cpu", training=True), repeats
    )
    shapes_ms = best_ms(lambda: specialise(prepared, BATCH_SIZE), repeats)
    print(
        f"{name:32} {len(proto.graph.node):6} {len(program.steps):6} {onnx2torch_ms(proto, repeats):>12} "
        f"{compile_ms:9.2f} {first_ms:9.2f} {shapes_ms:9.1f}"
    )
    return (compile_ms + shapes_ms) * 300 / max(300, len(program.steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    models = {path.stem: path for path in options.files} or {n: n for n in ("efficientnet_b0", "efficientnet_b1")}
    print(f"{'milliseconds':32} {'nodes':>6} {'steps':>6} {'onnx2torch':>12} {'compile':>9} {'first':>9} {'shapes':>9}")
    worst = 0.0
    for name, source in models.items():
        proto = onnx.load(source) if isinstance(source, Path) else export(source)
        worst = max(worst, measure(name, proto, options.repeats))
    verdict = "below" if worst < REQUIRED_MS else "ABOVE"
    print(f"Both steps for 300 nodes take {worst:.1f} ms at most: {verdict} the required {REQUIRED_MS:.0f} ms.")


if __name__ == "__main__":
    main()
