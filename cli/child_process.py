"""Run a function in a child process, so that a crash or a kill does not end the command.

The process is a copy of this one (a fork) where nothing is loaded yet that a copy does not bear, so that nothing is
imported twice; elsewhere it is a new one.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from aznas_onnx.child_processes import end_with_parent, interrupts_ignored
from aznas_onnx.errors import AznasError
from aznas_onnx.memory import available_bytes
from aznas_onnx.operators import CUSTOM_OPERATORS

__all__ = [
    "Bug",
    "ChildProcess",
    "EndedError",
    "StoppedError",
    "ended_by_signals",
    "in_child_process",
    "limit_processor_time",
]

_LOOK_AGAIN_S = 0.5
_FAREWELL_S = 5.0
_FIRST_TO_DIE = "1000"  # of the kernel's killer: this process, and not the one that reports
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
_WHY = {"SIGKILL": "out of memory?", "SIGXCPU": "reading them takes too much processor time"}
_UNFORKABLE = ("torch", "onnxruntime")  # their threads are not copied, and their locks are

Tell = Callable[[str], None]


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


copyreg.pickle(MappingProxyType, lambda proxy: (_read_only, (dict(proxy),)))


class EndedError(AznasError):
    """The process ended without a result."""


class StoppedError(EndedError):
    """A signal has ended the command itself."""


class Bug(Exception):  # noqa: N818 - it carries any exception
    """An exception of the function that is not an error of this package; the text has the traceback."""

    def __init__(self, summary: str, trace: str) -> None:
        super().__init__(summary)
        self.trace = trace


class ChildProcess:
    """A function that runs in a started process, which sends messages and output through two connections."""

    def __init__(self, process: BaseProcess, connection: Connection, output: Connection) -> None:
        self._process = process
        self._connection = connection
        self._output = output
        self._rest = b""
        self._is_closed = False

    def result(self, *, on_stage: Tell, on_line: Tell) -> Any:
        """Wait for the function and return its result.

        - `on_stage`: Called with the messages of the function.
        - `on_line`: Called with each line that the process writes.

        Raises AznasError: The exception of the function; :class:`EndedError` if the process ended before.
        Raises Bug: What the function raised that is no such error.
        """
        sources: list[Any] = [self._connection, self._output]
        while True:
            ready = wait([*sources, self._process.sentinel], _LOOK_AGAIN_S)
            if self._output in ready and not self._forward(on_line):
                sources.remove(self._output)
            message = self._receive(ready)
            if message is not None:
                kind, *content = message
                if kind == "stage":
                    on_stage(*content)
                    continue
                self._drain(on_line)
                return _outcome(kind, *content)
            if self._is_closed or not (self._process.is_alive() or self._connection.poll()):
                self._process.join(_FAREWELL_S)
                self._drain(on_line)
                raise EndedError(_ending(self._process.exitcode))

    def close(self) -> None:
        """End the process."""
        self._process.join(0 if self._process.is_alive() else _FAREWELL_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
        self._output.close()

    def _receive(self, ready: list[Any]) -> tuple[Any, ...] | None:
        if self._connection in ready or self._connection.poll():
            try:
                message: tuple[Any, ...] = self._connection.recv()
            except Exception:  # noqa: BLE001 - it is ending, perhaps in the middle of a message
                self._is_closed = True
            else:
                return message
        return None

    def _forward(self, on_line: Tell) -> bool:
        """Pass on the available lines; return whether more can follow."""
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self._output.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            on_line(line.decode(errors="backslashreplace"))
        return bool(data)

    def _drain(self, on_line: Tell) -> None:
        while wait([self._output], 0) and self._forward(on_line):
            pass
        if self._rest:
            on_line(self._rest.decode(errors="backslashreplace"))


@contextlib.contextmanager
def in_child_process(work: Callable[..., Any], *arguments: Any) -> Iterator[ChildProcess]:
    """Start a function in a child process, which ends with the context.

    - `work`: Called with the arguments, and with a function that reports the current stage, in words. It can be
      pickled, as can the arguments and what it returns.
    """
    context: Any = multiprocessing.get_context("fork" if _can_fork() else "spawn")
    results, to_results = context.Pipe(duplex=False)
    output, to_output = context.Pipe(duplex=False)
    process = context.Process(
        target=_run, args=(to_results, to_output, work, arguments, CUSTOM_OPERATORS.files), daemon=True
    )
    with interrupts_ignored():  # inherited: Ctrl-C reaches both, and this process decides
        process.start()
    to_results.close()
    to_output.close()
    child = ChildProcess(process, results, output)
    try:
        yield child
    finally:
        child.close()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn termination signals into :class:`StoppedError`, so that the command reports its end."""

    def end(number: int, _: FrameType | None) -> None:
        raise StoppedError(f"the command was ended by {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _can_fork() -> bool:
    return (
        sys.platform.startswith("linux")
        and threading.active_count() == 1
        and not any(name in sys.modules for name in _UNFORKABLE)
    )


def _run(
    results: Connection,
    output: Connection,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    operator_files: Sequence[str],
) -> None:
    """Call the function in the new process, and send what becomes of it."""
    for name in ("SIGTERM", "SIGHUP"):  # a copy has the handlers of its origin
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    end_with_parent()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE, encoding="ascii")
    _limit_memory()
    if os.name == "posix":  # elsewhere a connection is not a file, and the process shares the output of this one
        _write_to(output)
    results.send(_called(work, arguments, operator_files, lambda stage: results.send(("stage", stage))))
    os._exit(0)  # clean-up of libraries takes time and can crash


def _write_to(output: Connection) -> None:
    """Send the output of this process and its libraries to stdout and stderr through a connection."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True, errors="backslashreplace")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True, errors="backslashreplace")


def _limit_memory() -> None:
    """Let an allocation fail that exceeds the memory of the machine or container, before the kernel kills a process.

    GPU drivers reserve addresses that they never use, so there is no limit with a GPU.
    """
    room = None if any(Path(driver).exists() for driver in _DRIVERS) else available_bytes()
    if room is not None:
        _limit("RLIMIT_DATA", room)


def limit_processor_time(seconds: float | None) -> None:
    """Let the kernel end this process after so much more of it: a library may compute without an end; None for any."""
    _limit("RLIMIT_CPU", None if seconds is None else int(time.process_time() + seconds) + 1)


def _limit(name: str, most: int | None) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    kind = getattr(resource, name)
    highest = resource.getrlimit(kind)[1]
    if most is None or (most > highest != resource.RLIM_INFINITY):
        most = highest
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (most, highest))


def _called(
    work: Callable[..., Any], arguments: tuple[Any, ...], operator_files: Sequence[str], tell: Tell
) -> tuple[Any, ...]:
    try:
        CUSTOM_OPERATORS.load(*operator_files)
        return "result", work(*arguments, tell)
    except AznasError as error:
        return "error", str(error)
    except SystemExit as error:
        return "error", f"a Python file that the gate executed ended its process (SystemExit: {error.code})"
    except MemoryError:
        return "error", "there is not enough memory to read and score the files"
    except BaseException as error:  # noqa: BLE001 - the parent process reports it
        return "bug", f"{type(error).__name__}: {error}", traceback.format_exc()


def _outcome(kind: str, *content: Any) -> Any:
    if kind == "result":
        return content[0]
    raise AznasError(*content) if kind == "error" else Bug(*content)


def _ending(status: int | None) -> str:
    """Return how a process ended, in words."""
    if status is None:
        return "the process that reads and scores the files closed its connection"
    if status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            why = _WHY.get(name, "a crash in a library?")
            return f"the process that reads and scores the files was ended by {name} ({why})"
    return f"the process that reads and scores the files ended with status {status} and no decision"
