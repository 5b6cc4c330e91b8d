"""Read, score or gate damaged and malicious files, each in a process that can crash without harm.

    python -m benchmarks.hostile inspect --count 10000 -o build/inspect.jsonl     mutated files, by seed
    python -m benchmarks.hostile score --count 2000 -o build/score.jsonl
    python -m benchmarks.hostile gate --count 2000 -o build/gate.jsonl
    python -m benchmarks.hostile inspect --directed                               files made to take long (tests/fuzz)
    python -m benchmarks.hostile inspect --files FOLDER/*.onnx

Every file must end in a result or in one clear sentence, within 10 s of processor time and 1 GB of memory. Commands run
as they are typed, in one process that reads file after file; only the gate's own process is left out, since each would
load PyTorch anew. A line of the output says how a file ended, and what it took; a run that is given the same output
again goes on where it stopped. Exits with 1 if any file did not end as it should.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import io
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Outcome", "outcomes"]

ROOT = Path(__file__).resolve().parents[1]
WORKER = [sys.executable, "-m", "benchmarks.hostile", "--worker"]
HANG_S = 60.0  # of processor time
_WAITING_S = 900.0  # without it: on a busy machine, a process may wait long for its turn
_LOOK_S = 5.0
MOST_S = 10.0
MOST_BYTES = 10**9
_WORKER_BYTES = 3 * 2**30
_SHOWN = 3000
_LONGEST = 1200
_COMMANDS = {
    "inspect": ["inspect"],
    "score": ["score", "--batch-size", "2", "--effort", "fast", "--device", "cpu", "--time-limit", "5"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one file ended: `result` is ``ok``, a clear error, or starts with ``escaped``, ``crashed`` or ``hung``."""

    case: str
    what: str
    result: str
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether it ended as it should, within the limits."""
        ended = not self.result.startswith(("escaped", "crashed", "hung"))
        return ended and self.seconds <= MOST_S and self.peak_bytes <= MOST_BYTES


def outcomes(command: str, cases: Sequence[str]) -> Iterator[Outcome]:
    """Yield the outcome of each case, in order; the worker is started again after a crash or a hang.

    Parameters
    ----------
    command
        ``inspect``, ``score`` or ``gate``.
    cases
        Seeds of mutated files, names of directed ones, or paths.
    """
    done = 0
    while done < len(cases):
        for outcome in _one_worker(command, cases[done:]):
            done += 1
            yield outcome


def _one_worker(command: str, cases: Sequence[str]) -> Iterator[Outcome]:
    lines: queue.Queue[str | None] = queue.Queue()
    errors: collections.deque[str] = collections.deque(maxlen=100)
    pending = list(cases)
    what = "none yet"
    with subprocess.Popen(
        [*WORKER, command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        threads = [
            threading.Thread(target=_give, args=(process, cases)),
            threading.Thread(target=_pump, args=(process, lines)),
            threading.Thread(target=lambda: errors.extend(process.stderr or ())),
        ]
        for thread in threads:
            thread.start()
        try:
            while (line := _next(lines, process.pid)) is not None:
                record = json.loads(line)
                what = record["what"]
                if "result" in record:
                    yield Outcome(case=pending.pop(0), **record)
            reason = None
        except queue.Empty:
            reason = f"hung: no end after {HANG_S:g} s of processor time, or {_WAITING_S:g} s without"
        finally:
            process.kill()
            for thread in threads:
                thread.join()
    if pending:
        reason = reason or f"crashed: the process ended with {process.returncode}: {''.join(errors)[-2000:]}"
        yield Outcome(case=pending[0], what=what, result=reason)


def _next(lines: queue.Queue[str | None], pid: int) -> str | None:
    """Return the worker's next line; raise `queue.Empty` where none comes."""
    started, before = time.monotonic(), _spent_s(pid)
    while True:
        try:
            return lines.get(timeout=_LOOK_S)
        except queue.Empty:
            if _spent_s(pid) - before > HANG_S or time.monotonic() - started > _WAITING_S:
                raise


def _spent_s(pid: int) -> float:
    """Return the processor time that a process has spent; none where the kernel does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _give(process: subprocess.Popen[str], cases: Sequence[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        assert process.stdin is not None
        for case in cases:
            process.stdin.write(f"{case}\n")
            process.stdin.flush()
        process.stdin.close()


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


# The worker


def work(command: str) -> None:
    """Read cases from stdin, and write a line before and after each."""
    limit = _WORKER_BYTES if command == "inspect" else 4 * _WORKER_BYTES  # torch maps gigabytes that it never touches
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    run = _gated if command == "gate" else _typed(_COMMANDS[command])
    with tempfile.TemporaryDirectory() as folder:
        for number, line in enumerate(sys.stdin):
            path, what = _file(line.rstrip("\n"), Path(folder))
            _tell(what=what)
            if number == 0:
                _warm_up(run, Path(folder) / "first.onnx")
            gc.collect()
            _reset_peak()
            started = time.process_time()
            try:
                result = run(path)
            except BaseException:  # noqa: BLE001  # the record of what escaped is the point
                result = f"escaped: {traceback.format_exc()}"
            seconds, peak_bytes = time.process_time() - started, _peak_bytes()
            result = result.replace(str(path), path.name)
            _tell(what=what, result=result, seconds=round(seconds, 3), peak_bytes=peak_bytes)


def _file(case: str, folder: Path) -> tuple[Path, str]:
    """Return the file of a case, and what was done to it."""
    from tests.fuzz.directed import DIRECTED, directed
    from tests.fuzz.mutations import mutant

    path = folder / "case.onnx"
    if case.isdigit():
        what, content = mutant(int(case))
    elif case in DIRECTED:
        what, content = case, directed(case)
    else:
        return Path(case), Path(case).name
    path.write_bytes(content)
    return path, what


def _warm_up(run: Callable[[Path], str], path: Path) -> None:
    """Load what every file needs, so that the first is charged with no more than the others."""
    from tests.fuzz.seeds import SEEDS

    path.write_bytes(SEEDS["plain"])
    result = run(path)
    if result != "ok":
        raise AssertionError(f"a plain network ends with {result!r}")


def _typed(arguments: Sequence[str]) -> Callable[[Path], str]:
    """Return a function that runs a command on a file as if it were typed."""
    from aznas_onnx.cli.main import run

    def runs(path: Path) -> str:
        output, errors = io.StringIO(), io.StringIO()
        form = ["--format", ("table", "json")[path.stat().st_size % 2]]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), warnings.catch_warnings():
            warnings.simplefilter("error")
            status = run([*arguments, *form, str(path)])
        return _judged(status, output.getvalue(), errors.getvalue())

    return runs


def _judged(status: int, output: str, errors: str) -> str:
    if status == 0 and form_is_sound(output):
        return "ok"
    said = [line for line in errors.splitlines() if line.startswith("aznas: ")]
    if status not in (2, 3) or len(said) != 1 or not said[0].isprintable() or len(said[0]) > _LONGEST:
        raise AssertionError(f"status {status}, and not one printable sentence: {errors[-2000:]!r}")
    return f"refused: {said[0].removeprefix('aznas: ')}"


def form_is_sound(output: str) -> bool:
    """Whether what a command wrote is a table, or JSON that can be parsed."""
    if output.startswith("{"):
        json.loads(output)
    return bool(output)


def _gated(path: Path) -> str:
    """Judge a file against a plain network, in this process."""
    from aznas_onnx.errors import AznasError
    from aznas_onnx.gating import gate

    baseline = path.with_name("baseline.onnx")
    if not baseline.exists():
        from tests.fuzz.seeds import SEEDS

        baseline.write_bytes(SEEDS["plain"])
    try:
        result = gate(
            path,
            baseline=[baseline],
            effort="fast",
            batch_size=2,
            device="cpu",
            max_seeds=2,
            max_macs=10**9,
            time_limit=5,
        )
    except AznasError as error:
        if not str(error).isprintable() or not 0 < len(str(error)) <= _LONGEST:
            raise AssertionError(f"not one printable sentence: {str(error)[:2000]!r}") from error
        return f"refused: {error}"
    return "ok" if result.passed else f"rejected: {result.reasons[0]}"


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    """Return the most memory that was in use since the last reset; where the kernel has no resets, ever."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tell(**record: object) -> None:
    sys.__stdout__.write(json.dumps(record) + "\n")
    sys.__stdout__.flush()


# The command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["inspect", "score", "gate"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--directed", action="store_true", help="the directed files instead of mutated ones")
    parser.add_argument("--files", nargs="*", help="these files instead")
    parser.add_argument("-o", "--output", type=Path, help="write every outcome here, one JSON object a line")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.command)
        os._exit(0)
    cases = _cases(arguments)
    found = _known(arguments.output)
    unclear = [outcome for outcome in found.values() if not outcome.is_clear]
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(arguments.output.open("a", encoding="utf-8")) if arguments.output else None
        for outcome in outcomes(arguments.command, [case for case in cases if case not in found]):
            found[outcome.case] = outcome
            if file is not None:
                file.write(json.dumps(asdict(outcome)) + "\n")
                file.flush()
            if not outcome.is_clear:
                unclear.append(outcome)
                _show(outcome)
    kinds = collections.Counter(outcome.result.partition(":")[0] for outcome in found.values())
    slowest = max(found.values(), key=lambda outcome: outcome.seconds)
    largest = max(found.values(), key=lambda outcome: outcome.peak_bytes)
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "\n")
    sys.stdout.write(f"slowest {slowest.seconds:.1f} s ({slowest.case}), ")
    sys.stdout.write(f"largest {largest.peak_bytes / 1e6:.0f} MB ({largest.case}); {len(unclear)} not as they should\n")
    sys.exit(bool(unclear))


def _cases(arguments: argparse.Namespace) -> list[str]:
    if arguments.files is not None:
        return [str(Path(name).resolve()) for name in arguments.files]
    if arguments.directed:
        from tests.fuzz.directed import DIRECTED

        return list(DIRECTED)
    return [str(seed) for seed in range(arguments.start, arguments.start + arguments.count)]


def _known(output: Path | None) -> dict[str, Outcome]:
    """Return the outcomes that an earlier run has written."""
    if output is None or not output.exists():
        return {}
    written = [Outcome(**json.loads(line)) for line in output.read_text(encoding="utf-8").splitlines()]
    return {outcome.case: outcome for outcome in written}


def _show(outcome: Outcome) -> None:
    took = f"{outcome.seconds:.1f} s, {outcome.peak_bytes / 1e6:.0f} MB"
    sys.stdout.write(f"{outcome.case} ({outcome.what}; {took}): {outcome.result[-_SHOWN:]}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
