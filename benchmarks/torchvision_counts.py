"""Counts of every torchvision classifier against the numbers that torchvision publishes with its weights.

    python benchmarks/torchvision_counts.py [--folder DIR] [--only NAMES] [--trained] [-o table.md]

Each network is exported by ``torch.onnx.export`` with its defaults, at the resolution of its first published weights;
the table holds our parameters and MACs beside ``num_params`` and ``_ops`` of those weights. Nothing is downloaded:
counts do not need trained weights. ``--trained`` gives every parameter and statistic that starts as a constant a
random value, as training would: the exporter drops biases that are exactly zero, so fresh and trained networks give
different files, and both must count alike. ``--folder`` keeps the files, and reuses those that it has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare

# torchvision publishes `_ops` with three decimals of a giga-operation.
_OPS_STEP = 1e-3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network; `gigamacs_published` has three decimals."""

    name: str
    params: int
    params_published: int
    gigamacs: float
    gigamacs_published: float
    unsupported: tuple[str, ...]
    elapsed_s: float

    @property
    def macs_agree(self) -> bool:
        """Whether the MACs lie within 1 % of the published ones, or within their last decimal."""
        difference = abs(self.gigamacs - self.gigamacs_published)
        return difference <= max(0.01 * self.gigamacs_published, _OPS_STEP)

    @property
    def agrees(self) -> bool:
        """Whether both counts agree and nothing was left out."""
        return self.macs_agree and self.params == self.params_published and not self.unsupported


def names() -> list[str]:
    """Return every classification model of torchvision."""
    import torchvision

    return sorted(torchvision.models.list_models(module=torchvision.models))


def published(name: str) -> tuple[int, float, int]:
    """Return `num_params`, `_ops` and the resolution of a model's first published weights."""
    import torchvision

    entry = next(iter(torchvision.models.get_model_weights(name)))
    return entry.meta["num_params"], entry.meta["_ops"], entry.transforms().crop_size[0]


def export(name: str, path: Path, *, trained: bool) -> None:
    """Export a network with random weights by the default exporter."""
    import torch
    import torchvision

    resolution = published(name)[2]
    options: dict[str, object] = {"image_size": resolution} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    if trained:
        vary(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.randn(1, 3, resolution, resolution),), path, verbose=False)


def vary(network: object) -> None:
    """Give what starts as a constant a random value: biases, normalisation vectors and statistics, layer scales."""
    import torch

    assert isinstance(network, torch.nn.Module)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                tensor.add_(torch.rand_like(tensor) * 0.5)


def examine(name: str, path: Path) -> Row:
    """Count one exported network."""
    started = time.perf_counter()
    costs = count(prepare(path))
    num_params, ops, _ = published(name)
    return Row(
        name=name,
        params=costs.params,
        params_published=num_params,
        gigamacs=costs.macs / 1e9,
        gigamacs_published=ops,
        unsupported=tuple(costs.unsupported),
        elapsed_s=time.perf_counter() - started,
    )


def rows(wanted: list[str], folder: Path | None, *, trained: bool) -> Iterator[Row]:
    """Export and count one network after the other."""
    for name in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            path = (folder or Path(scratch)) / f"{name}.onnx"
            if not path.exists():
                export(name, path, trained=trained)
            yield examine(name, path)


def line(row: Row) -> str:
    """Format a row of the table."""
    relative = row.gigamacs / row.gigamacs_published - 1
    return (
        f"| {row.name} | {row.params:,} | {row.params - row.params_published:+,} | {row.gigamacs:.4f} | "
        f"{row.gigamacs_published:.3f} | {relative:+.2%} | {'' if row.agrees else 'see below'} |"
    )


HEADER = "| model | parameters | minus published | GMACs | published | difference | |\n|---|--:|--:|--:|--:|--:|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the exported files here, and reuse those that are there")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--trained", action="store_true", help="vary what starts as a constant, as training would")
    parser.add_argument("-o", "--output", type=Path, help="write the table here too")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only.split(",") if arguments.only else names()
    lines = [HEADER]
    print(HEADER)
    disagreeing = []
    for row in rows(wanted, arguments.folder, trained=arguments.trained):
        lines.append(line(row))
        print(lines[-1], flush=True)
        if not row.agrees:
            disagreeing.append(row.name)
    lines.append(f"\n{len(wanted) - len(disagreeing)} of {len(wanted)} agree; not: {', '.join(disagreeing) or 'none'}.")
    print(lines[-1])
    if arguments.output is not None:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(bool(disagreeing))


if __name__ == "__main__":
    main()
