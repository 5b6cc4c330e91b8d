"""Print how much of each room the tests run: ``python tests/coverage_table.py build/coverage.json``."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path, PurePath


def rooms(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, tuple[int, int]]:
    """Return the statements of each room and those that ran, largest room first, and of all together."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in report["files"].items():
        parts = PurePath(name).parts
        is_room = parts[0] == "aznas_onnx" and len(parts) > 2
        room = parts[1] if is_room else parts[0].replace("aznas_onnx", "(top level)")
        for key in (room, "all"):
            found[key][0] += file["summary"]["num_statements"]
            found[key][1] += file["summary"]["covered_lines"]
    return {room: (total, ran) for room, (total, ran) in sorted(found.items(), key=lambda item: -item[1][0])}


def table(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> str:
    lines = [f"{'room':<12}{'statements':>11}{'run':>8}"]
    lines += [f"{room:<12}{total:>11,}{ran / max(total, 1):>8.1%}" for room, (total, ran) in rooms(report).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text())) + "\n")
