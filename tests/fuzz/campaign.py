"""Many mutated files, each read in a process that may crash or hang without harm.

    python -m tests.fuzz.campaign --count 2000 [--start 0] [--score] [-o outcomes.jsonl]

Prints how many files ended how; exits with 1 if any crashed, hung, or let anything but a clear error escape.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Outcome", "outcomes"]

HANG_S = 60.0  # a file that takes longer is taken to hang
ROOT = Path(__file__).resolve().parents[2]
WORKER = [sys.executable, "-m", "tests.fuzz.worker"]
_SHOWN = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one file ended: `result` is ``ok``, a clear error, or starts with ``escaped``, ``crashed`` or ``hung``."""

    seed: int
    mutation: str
    result: str

    @property
    def is_clear(self) -> bool:
        """Whether it ended as it should."""
        return not self.result.startswith(("escaped", "crashed", "hung"))


def outcomes(start: int, stop: int, *, scored: bool = False) -> Iterator[Outcome]:
    """Yield the outcome of each seed, in order; the worker is started again after a crash or a hang."""
    while start < stop:
        last = start - 1
        for outcome in _one_worker(start, stop, scored=scored):
            yield outcome
            last = outcome.seed
        start = last + 1


def _one_worker(start: int, stop: int, *, scored: bool) -> Iterator[Outcome]:
    command = [*WORKER, str(start), str(stop), *(["--score"] if scored else [])]
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []
    open_seed: tuple[int, str] | None = (start, "none yet")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        readers = [
            threading.Thread(target=read, args=(process, to)) for read, to in ((_pump, lines), (_collect, errors))
        ]
        for reader in readers:
            reader.start()
        try:
            while (line := lines.get(timeout=HANG_S)) is not None:
                record = json.loads(line)
                if "outcome" in record:
                    assert open_seed is not None
                    yield Outcome(seed=record["seed"], mutation=open_seed[1], result=record["outcome"])
                    open_seed = (record["seed"] + 1, "none yet") if record["seed"] + 1 < stop else None
                else:
                    open_seed = (record["seed"], record["mutation"])
            reason = None
        except queue.Empty:
            reason = f"hung: no end after {HANG_S:g} s"
        finally:
            process.kill()
            for reader in readers:
                reader.join()
    if open_seed is not None:
        reason = reason or f"crashed: the process ended with {process.returncode}: {''.join(errors)[-2000:]}"
        yield Outcome(seed=open_seed[0], mutation=open_seed[1], result=reason)


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _collect(process: subprocess.Popen[str], errors: list[str]) -> None:
    assert process.stderr is not None
    errors.extend(process.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--score", action="store_true", help="score what can be read, too")
    parser.add_argument("-o", "--output", type=Path, help="write every outcome here, one JSON object a line")
    arguments = parser.parse_args()
    kinds: collections.Counter[str] = collections.Counter()
    unclear = 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(arguments.output.open("w", encoding="utf-8")) if arguments.output else None
        for outcome in outcomes(arguments.start, arguments.start + arguments.count, scored=arguments.score):
            kinds[outcome.result.partition(":")[0]] += 1
            if file is not None:
                file.write(json.dumps(asdict(outcome)) + "\n")
                file.flush()
            if not outcome.is_clear:
                unclear += 1
                sys.stdout.write(f"{outcome.seed} ({outcome.mutation}): {outcome.result[-_SHOWN:]}\n\n")
                sys.stdout.flush()
    for kind, count in kinds.most_common():
        sys.stdout.write(f"{count:6} {kind}\n")
    sys.exit(unclear > 0)


if __name__ == "__main__":
    main()
