"""Score and rank real networks, then run a short search; `make demo` runs it.

Some are graphs of the ONNX model zoo that the onnx package ships, their weights left out. The others are torchvision
networks, exported on the spot by `torch.onnx.export` with its defaults. None of them is trained, and none has to be.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

FOLDER = Path("build/demo")
ZOO = ("squeezenet", "shufflenet", "inception_v1", "resnet50", "densenet121")
TORCHVISION = ("mobilenet_v3_small", "mobilenet_v2", "mnasnet1_0", "efficientnet_b0", "resnet18", "regnet_x_400mf")
BATCH_SIZE = "16"  # a quarter of the default, so that two cores are done in about two minutes


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    models = [copy_from_zoo(name) for name in ZOO] + [export(name) for name in TORCHVISION]
    (FOLDER / "search.db").unlink(missing_ok=True)
    steps = (
        ["inspect", "resnet18.onnx"],
        ["score", "--rank-by", "estimate", *models],
        [
            "search",
            "--space",
            "nb201",
            "--flops",
            "100M",
            "--iterations",
            "30",
            "--batch-size",
            BATCH_SIZE,
            "--db",
            "search.db",
        ],
        ["export", "search.db", "--best", "1", "-o", "winner"],
    )
    return next((status for status in map(aznas, steps) if status), 0)


def copy_from_zoo(name: str) -> str:
    import onnx

    source = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    return shutil.copy(source, FOLDER / f"zoo_{name}.onnx").name


def export(name: str) -> str:
    path = FOLDER / f"{name}.onnx"
    if path.exists():
        return path.name
    print(f"exporting {path.name}", flush=True)
    import torch
    import torchvision

    network = torchvision.models.get_model(name, weights=None).eval()
    with (
        tempfile.TemporaryDirectory(
            dir=FOLDER
        ) as folder,  # so that an interrupted export leaves nothing that looks whole
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the exporter's, about itself
        torch.onnx.export(network, (torch.randn(1, 3, 224, 224),), Path(folder) / path.name)
        for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights, in a file beside the graph, first
            file.rename(FOLDER / file.name)
    return path.name


def aznas(arguments: list[str]) -> int:
    print(f"\n$ aznas {' '.join(arguments)}\n", flush=True)
    return subprocess.run([sys.executable, "-m", "aznas_onnx", *arguments], cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
