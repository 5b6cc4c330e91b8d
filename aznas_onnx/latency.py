"""How long a network takes in ONNX Runtime on this machine. Never imports torch."""

from __future__ import annotations

import statistics
import time

import numpy as np
import onnx

from aznas_onnx.errors import ModelError

__all__ = ["measure_ms"]

_WARM_UP = 2
_FEWEST, _MOST, _ENOUGH_S = 5, 50, 0.25


def measure_ms(model: onnx.ModelProto) -> float:
    """Return the milliseconds that one sample takes: the median of 5 to 50 runs on one thread of the CPU.

    Weights do not matter to it; a symbolic batch is taken as 1.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot run the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        feeds = {
            entry.name: rng.standard_normal([n if isinstance(n, int) else 1 for n in entry.shape]).astype(np.float32)
            for entry in session.get_inputs()
        }
        for _ in range(_WARM_UP):
            session.run(None, feeds)
        taken: list[float] = []
        while len(taken) < _FEWEST or (len(taken) < _MOST and sum(taken) < _ENOUGH_S):
            began = time.perf_counter()
            session.run(None, feeds)
            taken.append(time.perf_counter() - began)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot run the network: {str(error).splitlines()[0]}") from error
    return 1000 * statistics.median(taken)
