"""Import coverage: every ONNX file of a folder, verified against ONNX Runtime and scored.

    python benchmarks/coverage.py FOLDER [-o coverage.jsonl] [--batch-sizes 1,3] [--table coverage.md]

Each comparison is tested, too: with zeros fed to the converted network in place of the samples it must say "differs",
or it could not fail. A file for which it does not is a row of status "vacuous".

Each file runs in a process of its own, so that one that crashes or eats the memory is a row and not the end. Rows
are appended as they are made; files that already have one are skipped, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from resuming import resumed
from rich.console import Console
from rich.progress import track

_MEMORY_BYTES = 20 * 2**30
_TIMEOUT_S = 900


def examine(path: Path, batch_sizes: list[int]) -> dict[str, Any]:
    """Verify and score one file; runs in the child process."""
    from aznas_onnx.errors import AznasError
    from aznas_onnx.results import Status
    from aznas_onnx.scoring import score
    from aznas_onnx.verify import Verdict, VerificationError, verify

    row: dict[str, Any] = {"file": path.name}
    for batch_size in batch_sizes:
        try:
            result = verify(path, batch_size=batch_size)
            row[f"difference_b{batch_size}"] = result.relative_difference
            row[f"verdict_b{batch_size}"] = result.verdict.value
            row["tolerance"], row["variation"] = result.tolerance, result.variation
            if batch_size == batch_sizes[0]:
                zeros = verify(path, batch_size=batch_size, feed_zeros=True)
                row["zeros"], row["zeros_verdict"] = zeros.relative_difference, zeros.verdict.value
        except VerificationError as error:
            row["onnxruntime"] = str(error)
        except AznasError as error:
            row["reason"] = str(error)
            return {**row, "status": "refused"}
    result_ = score(path, batch_size=2, effort="fast")
    row.update(macs=result_.macs, params=result_.params, blocks=result_.blocks, changes=result_.changes)
    row["warnings"] = result_.warnings
    row["proxies"] = {name: value.mean for name, value in result_.proxies.items()}
    row["reasons"] = {name: value.reason for name, value in result_.proxies.items() if value.reason}
    if result_.status is not Status.OK:
        return {**row, "status": "refused", "reason": result_.reason}
    if "onnxruntime" in row:
        return {**row, "status": "unverified"}
    if row["zeros_verdict"] != Verdict.DIFFERS.value:
        return {**row, "status": "vacuous"}
    verdicts = {row[f"verdict_b{b}"] for b in batch_sizes} - {Verdict.AGREES.value}
    return {**row, "status": min(verdicts, default="ok")}


def run_child(path: Path, batch_sizes: str) -> dict[str, Any]:
    """Examine a file in a process of its own."""
    command = [sys.executable, __file__, "--child", str(path), "--batch-sizes", batch_sizes]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"file": path.name, "status": "timeout"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return {"file": path.name, "status": "crashed", "reason": done.stderr.strip()[-1500:], "rc": done.returncode}
    row: dict[str, Any] = json.loads(lines[-1])
    row["seconds"] = round(time.perf_counter() - started, 2)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown, with the totals first."""
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["status"]] = totals.get(row["status"], 0) + 1
    lines = [", ".join(f"{count} {status}" for status, count in sorted(totals.items())) + f" of {len(rows)} files.", ""]
    lines += [
        "| file | status | difference b1 | b3 | with zeros fed | samples vary by | MACs | params | blocks | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["file"]):
        differences = [row.get(key) for key in ("difference_b1", "difference_b3", "zeros", "variation")]
        shown = ["" if d is None else f"{d:.1e}" for d in differences]
        note = str(row.get("reason") or row.get("onnxruntime") or "").replace("|", "/").replace("\n", " ")[:160]
        lines.append(
            f"| {row['file']} | {row['status']} | {' | '.join(shown)} | {row.get('macs') or '':,} | "
            f"{row.get('params') or '':,} | {row.get('blocks') or ''} | {note} |".replace(":,", "")
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--batch-sizes", default="1,3")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        print(json.dumps(examine(options.child, [int(b) for b in options.batch_sizes.split(",")])))
        return
    if options.folder is None:
        parser.error("a folder of ONNX files is needed")
    rows, append = resumed(options.output, {"folder": options.folder.name, "batch_sizes": options.batch_sizes})
    done = {row["file"] for row in rows}
    paths = [path for path in sorted(options.folder.glob("*.onnx")) if path.name not in done]
    console = Console(stderr=True)
    for path in track(paths, description="files", console=console):
        append(run_child(path, options.batch_sizes))
    text = table(rows)
    if options.table:
        options.table.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
