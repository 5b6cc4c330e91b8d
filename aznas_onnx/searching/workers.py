"""Score in several processes on one machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from aznas_onnx.child_processes import end_with_parent, interrupts_ignored
from aznas_onnx.errors import SettingsError
from aznas_onnx.operators import CUSTOM_OPERATORS
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching.executors import Executor, InlineExecutor, Scorer, TrialOutcome, evaluate

__all__ = ["ProcessExecutor", "local_executor"]

_ATTEMPTS = 2  # a candidate whose worker dies (out of memory) gets a second worker, then counts as failed
_FAREWELL_S = 5.0


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: tuple[int, str] | None = None


def local_executor(scorer: Scorer, workers: int) -> Executor:
    """Return the executor of this machine: this process for one worker, else child processes."""
    return InlineExecutor(scorer) if workers == 1 else ProcessExecutor(scorer, workers)


class ProcessExecutor:
    """Scores in `workers` processes, each with its share of the processor's threads.

    A pool of :mod:`concurrent.futures` fails as a whole when one process dies; here the candidate is scored again by a
    new process, and counts as failed if that dies too.

    - `scorer`: Pickled to each process.
    - `workers`: Number of processes.

    Raises SettingsError if the scorer cannot be pickled.
    """

    def __init__(self, scorer: Scorer, workers: int) -> None:
        if workers < 1:
            raise SettingsError(f"{workers} workers cannot score anything; at least 1 is needed")
        try:
            pickle.dumps(scorer)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SettingsError(
                f"this space or scorer cannot be sent to another process ({error}); use 1 worker"
            ) from error
        self.slots = workers
        self._scorer = scorer
        self._threads = max(1, _cores() // workers)
        # Fork would copy the locks of torch's and SQLite's threads in any state.
        self._context = multiprocessing.get_context("spawn")
        self._waiting: deque[tuple[int, str]] = deque()
        self._attempts: dict[int, int] = {}
        self._workers: list[_Worker] = []

    def submit(self, number: int, genotype: str) -> None:
        """Send a candidate to an idle process, or queue it until there is one."""
        self._waiting.append((number, genotype))
        self._attempts[number] = 0
        self._hand_out()

    def collect(self) -> TrialOutcome:
        """Wait for the next result of any process."""
        while True:
            busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                outcome = self._receive(busy[connection])
                self._hand_out()
                if outcome is not None:
                    del self._attempts[outcome.number]
                    return outcome

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the processes for as long as the context lasts, where the system can."""
        stopped = [worker.process.pid for worker in self._workers if hasattr(signal, "SIGSTOP")]
        try:
            for number in stopped:
                _signal(number, "SIGSTOP")
            yield
        finally:
            for number in stopped:
                _signal(number, "SIGCONT")

    def close(self) -> None:
        """End the processes; candidates in progress are abandoned."""
        for worker in self._workers:
            worker.connection.close()  # an idle process ends by itself when it sees this
            if worker.task is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_FAREWELL_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers.clear()
        self._waiting.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.task is None), None)
            if worker is None:
                if len(self._workers) == self.slots:
                    return
                worker = self._start_worker()
            task = self._waiting.popleft()
            worker.task = task
            self._attempts[task[0]] += 1
            with contextlib.suppress(OSError):  # it died while idle: receiving notices
                worker.connection.send(task)

    def _receive(self, worker: _Worker) -> TrialOutcome | None:
        """Take a worker's result; where it died, put its candidate back in front and return None."""
        assert worker.task is not None
        number, genotype = worker.task
        try:
            scores = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            if self._attempts[number] < _ATTEMPTS:
                self._waiting.appendleft((number, genotype))
                return None
            reason = f"the process that scored it died {_ATTEMPTS} times (out of memory?)"
            scores = ProxyScores(model=genotype, status=Status.FAILED, reason=reason)
        worker.task = None
        return TrialOutcome(number=number, scores=scores)

    def _start_worker(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._scorer, self._threads, CUSTOM_OPERATORS.files), daemon=True
        )
        with interrupts_ignored():  # inherited: a process that still loads its modules would end with a traceback
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        worker.process.close()


def _signal(number: int | None, name: str) -> None:
    """Send a signal to a process of ours; one that died meanwhile is noticed where its result is awaited."""
    if number is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, getattr(signal, name))


def _cores() -> int:
    """Return the number of cores that this process can use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(connection: Connection, scorer: Scorer, threads: int, operator_files: Sequence[str]) -> None:
    """Score the candidates from the pipe until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    end_with_parent()
    # The numeric libraries read this when they are loaded, which is later.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    CUSTOM_OPERATORS.load(*operator_files)
    scorer.prepare(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            _, genotype = connection.recv()
            connection.send(evaluate(scorer, genotype))
