"""How long a network takes in ONNX Runtime on this machine. Never imports torch."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from aznas_onnx.errors import ModelError
from aznas_onnx.runtime import onnxruntime

__all__ = ["Stopwatch", "measure_ms"]

_WARM_UP = 2
_FEWEST, _MOST, _ENOUGH_S = 5, 50, 0.25
_DTYPES = {
    f"tensor({name})": np.dtype(name) for name in ("float16", "double", "bool", "int32", "int64", "uint8", "int8")
}
_DTYPES["tensor(float)"] = np.dtype(np.float32)


def measure_ms(model: onnx.ModelProto) -> float:
    """Return the milliseconds that one sample takes: the median of 5 to 50 runs on one thread of the CPU.

    Weights do not matter to it; a symbolic batch is taken as 1.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot run the model.
    """
    return Stopwatch(model).measure_ms()


class Stopwatch:
    """Measures one network as often as it is asked to; several are compared fairly by measuring them in turns.

    Parameters
    ----------
    model
        Path of a file, or a ModelProto.
    shapes
        Of inputs whose dimensions the model leaves open; what is open still is taken as 1.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot load or run the model.
    """

    def __init__(
        self, model: onnx.ModelProto | str | os.PathLike[str], shapes: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
        try:
            self._session: Any = runtime.InferenceSession(content, options, ["CPUExecutionProvider"])
            self._feeds = {
                entry.name: _feed(entry, (shapes or {}).get(entry.name)) for entry in self._session.get_inputs()
            }
            for _ in range(_WARM_UP):
                self._session.run(None, self._feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"ONNX Runtime cannot run the network: {str(error).splitlines()[0]}") from error

    def measure_ms(self) -> float:
        """Return the milliseconds of one run: the median of 5 to 50 runs, as many as a quarter of a second holds."""
        taken: list[float] = []
        while len(taken) < _FEWEST or (len(taken) < _MOST and sum(taken) < _ENOUGH_S):
            began = time.perf_counter()
            self._session.run(None, self._feeds)
            taken.append(time.perf_counter() - began)
        return 1000 * statistics.median(taken)


def _feed(entry: Any, shape: Sequence[int] | None) -> np.ndarray[Any, Any]:
    """Return noise for an input of floating point, ones for any other."""
    sizes = [size if isinstance(size, int) else 1 for size in (shape or entry.shape)]
    dtype = _DTYPES[entry.type]
    if dtype.kind != "f":
        return np.ones(sizes, dtype)
    return np.random.default_rng(0).standard_normal(sizes).astype(dtype)
