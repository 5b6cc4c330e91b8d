"""The process that reads mutated files, with a bound on its memory; it writes a line before and after each.

python -m tests.fuzz.worker START STOP [--score]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path

_READING_BYTES = 3 * 2**30
_SCORING_BYTES = 12 * 2**30  # torch maps several gigabytes that it never touches


def outcome(path: Path, *, scored: bool) -> str:
    """Read a file to the end and return ``ok`` or the error's one sentence; anything else propagates."""
    from aznas_onnx.errors import AznasError
    from aznas_onnx.flops import count
    from aznas_onnx.graph import prepare, specialise

    try:
        model = prepare(path)
        count(model)
        special = specialise(model, model.inputs.declared_batch if model.fixed_batch else 3)
        count(special)
        if scored:
            return _score(path)
        return "ok"
    except AznasError as error:
        text = str(error)
        if not text.isprintable() or not 0 < len(text) <= 1000:
            raise AssertionError(f"not one printable sentence: {text[:2000]!r}") from error
        return f"{type(error).__name__}: {text}"


def _score(path: Path) -> str:
    from aznas_onnx.results import Status
    from aznas_onnx.scoring import score

    result = score(path, batch_size=2)
    return "ok" if result.status is Status.OK else f"failed: {result.reason}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("start", type=int)
    parser.add_argument("stop", type=int)
    parser.add_argument("--score", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("error")

    from tests.fuzz.mutations import mutant

    limit = _SCORING_BYTES if arguments.score else _READING_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.onnx"
        for seed in range(arguments.start, arguments.stop):
            done, content = mutant(seed)
            path.write_bytes(content)
            _tell({"seed": seed, "mutation": done})
            try:
                result = outcome(path, scored=arguments.score)
            except BaseException:  # noqa: BLE001  # the record of what escaped is the point
                result = f"escaped: {traceback.format_exc()}"
            _tell({"seed": seed, "outcome": result.replace(str(path), "mutant.onnx")})


def _tell(record: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
