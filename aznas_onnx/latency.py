"""Measure the latency of a network in ONNX Runtime on this machine.

Search, gate, inspect and export all measure by :class:`Stopwatch`. A median over runs depends on other load: on a busy
machine it was 1.6 to 5 times that of an idle one. Processor time of one thread excludes work that ran in its place, and
a low quantile over short rounds excludes work beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from aznas_onnx.documents import JsonObject, finite, whole
from aznas_onnx.errors import ModelError, first_line
from aznas_onnx.runtime import onnxruntime
from aznas_onnx.zoo import file_of

__all__ = ["Latency", "Stopwatch", "measure"]

_WARM_UP = 2
_QUANTILE = 0.05
_ROUND_S = 0.02  # of processor time: other work then meets some rounds and not others
_FEWEST, _MOST = 8, 24  # rounds
_AGREEING, _AGREE = 3, 1.03  # so many rounds that differ by no more end the measurement
_WAITED, _SPREAD = 0.1, 0.25  # above these something else was at work
# A built network has equal numbers for all weights of a shape, so ONNX Runtime would merge equal branches, which
# trained networks do not have.
_MERGING = {"CommonSubexpressionElimination"}
_LOCK = "aznas-latency"
_PATIENCE_S, _LOOK_AGAIN_S = 30.0, 0.01
# Of this thread alone, so that what else runs in turns with it does not count. Windows counts in steps of 15 ms.
_is_fine = time.get_clock_info("thread_time").resolution <= 1e-6
_clock = time.thread_time if _is_fine else time.perf_counter
_DTYPES = {
    f"tensor({name})": np.dtype(name) for name in ("float16", "double", "bool", "int32", "int64", "uint8", "int8")
}
_DTYPES["tensor(float)"] = np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The latency of one run of a network on one CPU thread of this machine.

    Attributes
    ----------
    ms
        Milliseconds of processor time: a low quantile of many runs, close to that of an idle machine.
    quantile
        Which.
    spread
        Distance of the median of the runs from it, as a share of it.
    rounds
        Number of measured runs.
    waited
        The share of the time in which other work displaced the thread.
    """

    ms: float
    quantile: float
    spread: float
    rounds: int
    waited: float

    @property
    def is_loaded(self) -> bool:
        """Whether there was other load, so that the value can be too high."""
        return self.waited > _WAITED or self.spread > _SPREAD

    def divided(self, samples: int) -> Latency:
        """Return the time per sample of a run."""
        return replace(self, ms=self.ms / samples)

    def as_json(self) -> JsonObject:
        """Return it as plain values."""
        return {
            "ms": round(self.ms, 4),
            "quantile": self.quantile,
            "spread": round(self.spread, 3),
            "rounds": self.rounds,
            "waited": round(self.waited, 3),
            "is_loaded": self.is_loaded,
        }

    @classmethod
    def from_json(cls, fields: JsonObject) -> Latency:
        """Read back what :meth:`as_json` wrote; raise KeyError, TypeError or ValueError if it is something else."""
        numbers = {name: finite(fields[name]) for name in ("ms", "quantile", "spread", "waited")}
        return cls(**numbers, rounds=whole(fields["rounds"]))

    def __str__(self) -> str:
        load = f"; other work ran, and it waited {self.waited:.0%} of the time" if self.is_loaded else ""
        how = f"{self.quantile:.0%} quantile of {self.rounds} runs, median {self.spread:.0%} above"
        return f"{self.ms:.3g} ms ({how}{load})"


def measure(model: onnx.ModelProto) -> Latency:
    """Measure one sample; weights do not matter to it, and a symbolic batch is taken as 1.

    Raises ModelError if ONNX Runtime cannot run the model.
    """
    return Stopwatch(model).measure()


class Stopwatch:
    """Measures one network repeatedly; several are compared fairly by measuring them in turns.

    Parameters
    ----------
    model
        Path of a file, or a ModelProto.
    shapes
        Shapes of inputs with open dimensions; remaining open dimensions are 1.
    values
        Values of inputs that steer the network, by name.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot load or run the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto | str | os.PathLike[str],
        shapes: Mapping[str, Sequence[int]] | None = None,
        values: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(file_of(model))
        try:
            self._session: Any = runtime.InferenceSession(
                content, options, ["CPUExecutionProvider"], disabled_optimizers=_MERGING
            )
            self._feeds = {
                entry.name: _feed(entry, (shapes or {}).get(entry.name), (values or {}).get(entry.name))
                for entry in self._session.get_inputs()
            }
            for _ in range(_WARM_UP):
                self._session.run(None, self._feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"ONNX Runtime cannot run the network: {first_line(error)}") from error

    def measure(self, *, fewest: int = _FEWEST, most: int = _MOST) -> Latency:
        """Measure short rounds of runs until some agree with the fastest; no other process measures meanwhile.

        Parameters
        ----------
        fewest, most
            Rounds; more than the fewest where something disturbs them.
        """
        rounds: list[list[float]] = []
        with _alone():
            began_s, worked_s = time.perf_counter(), _clock()
            while len(rounds) < fewest or (len(rounds) < most and not _agree(rounds)):
                rounds.append(self._round())
            worked_s, took_s = _clock() - worked_s, time.perf_counter() - began_s
        runs = [taken for one in rounds for taken in one]
        low, median = (float(value) for value in np.quantile(runs, (_QUANTILE, 0.5)))
        return Latency(
            ms=1000 * low,
            quantile=_QUANTILE,
            spread=median / low - 1,
            rounds=len(runs),
            waited=max(0.0, 1 - worked_s / took_s),
        )

    def _round(self) -> list[float]:
        taken: list[float] = []
        while sum(taken) < _ROUND_S:
            began_s = _clock()
            self._session.run(None, self._feeds)
            taken.append(max(_clock() - began_s, 1e-9))
        return taken


def _agree(rounds: Sequence[Sequence[float]]) -> bool:
    """Whether some rounds are as fast as the fastest: it was no accident."""
    lowest = sorted(min(one) for one in rounds)
    return len(lowest) >= _AGREEING and lowest[_AGREEING - 1] <= _AGREE * lowest[0]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock that prevents other processes of this user from measuring at the same time, where locks work."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(tempfile.gettempdir()) / f"{_LOCK}-{os.getuid()}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # no place for it; what disturbs is seen in the measurement
        yield
        return
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)  # which ends the lock, as the end of the process does


def _feed(entry: Any, shape: Sequence[int] | None, value: Any) -> np.ndarray[Any, Any]:
    """Return a value that was given; else noise for an input of floating point, and ones for any other."""
    sizes = [size if isinstance(size, int) else 1 for size in (shape or entry.shape)]
    dtype = _DTYPES[entry.type]
    if value is not None:
        return np.array(np.broadcast_to(np.asarray(value, dtype), sizes))
    if dtype.kind != "f":
        return np.ones(sizes, dtype)
    return np.random.default_rng(0).standard_normal(sizes).astype(dtype)
