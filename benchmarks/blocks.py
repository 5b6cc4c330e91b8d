"""Primary blocks of every ONNX file of a folder: counts by kind, doubts, and the time to find them.

    python benchmarks/blocks.py FOLDER ... [--verbose]

Files named SOURCE__MODEL__EXPORTER.onnx are compared: the same model must have the same blocks, whichever exporter
wrote it. Exit code 1 if two exports of a model differ, or a file could not be read.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from aznas_onnx.blocks import Blocks, find_blocks
from aznas_onnx.errors import AznasError
from aznas_onnx.graph import Model, prepare


def main() -> int:
    """Print one line per file, then the models whose exports differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--verbose", action="store_true", help="list every block with its reason")
    arguments = parser.parse_args()
    exports: dict[str, dict[str, str]] = defaultdict(dict)
    failed = False
    for path in sorted(path for folder in arguments.folders for path in folder.glob("*.onnx")):
        try:
            model = prepare(path)
        except AznasError as error:
            print(f"{path.stem:48s} refused: {error}")
            failed = True
            continue
        find_blocks(model)  # the first call pays for the graph's own indices
        started = time.process_time()
        blocks = find_blocks(model)
        elapsed_ms = 1e3 * (time.process_time() - started)
        print(f"{path.stem:48s} {len(model.graph.nodes):4d} nodes {elapsed_ms:6.1f} ms  {summary(blocks)}", flush=True)
        for warning in blocks.warnings:
            print(f"    ? {warning}")
        if arguments.verbose:
            for block in blocks.blocks:
                shape = "x".join(map(str, model.infos.shape(block.output)))
                print(f"    {block.index:3d} {block.kind.value:18s} {shape:18s} {block.name:36s} {block.reason}")
        if path.stem.count("__") == 2:
            source, name, _ = path.stem.split("__")
            exports[f"{source} {name}"][path.stem] = widths(blocks, model)
    differing = {name: found for name, found in exports.items() if len(set(found.values())) > 1}
    for name, found in differing.items():
        print(f"DIFFERENT blocks for {name}: {', '.join(found)}")
    return 1 if failed or differing else 0


def summary(blocks: Blocks) -> str:
    """Return the counts by kind, in the order in which the kinds first occur."""
    counts = Counter(block.kind.value for block in blocks.blocks)
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{len(blocks.blocks):3d} blocks{' (transformer)' if blocks.is_transformer else ''}: {listed}"


def widths(blocks: Blocks, model: Model) -> str:
    """Return kinds and widths of all blocks: what two exports of a model must agree in."""
    shapes = ((block, model.infos.shape(block.output)) for block in blocks.blocks)
    return " ".join(f"{block.kind.value}:{shape[block.channel_axis]}" for block, shape in shapes)


if __name__ == "__main__":
    sys.exit(main())
