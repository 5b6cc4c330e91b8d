from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx import memory
from aznas_onnx.blocks import find_blocks
from aznas_onnx.costs import count
from aznas_onnx.demand import Demand, check_copies, demand_of
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.limits import within
from aznas_onnx.scoring import score
from tests.fuzz import directed
from tests.graph.builders import network, weights


def demand(model: onnx.ModelProto, batch_size: int = 2, *, gradients: bool = True) -> Demand:
    prepared = prepare(model)
    return demand_of(prepared, find_blocks(prepared), count(prepared), batch_size=batch_size, gradients=gradients)


def small() -> onnx.ModelProto:
    return network("a = Conv (x, w)  b = Relu (a)  y = Conv (b, v)", {"x": ("N", 4, 64, 64)},
                   {"w": weights(64, 4, 3, 3), "v": weights(64, 64, 3, 3)})  # fmt: skip


def test_time_and_memory_grow_with_the_batch() -> None:
    two, eight = demand(small(), 2), demand(small(), 8)
    assert eight.seconds == pytest.approx(4 * two.seconds, rel=0.2)
    assert two.size_bytes < eight.size_bytes
    assert demand(small(), 8, gradients=False).seconds < eight.seconds
    assert "(Conv)" in two.slowest


def test_a_pool_costs_its_window() -> None:
    narrow, wide = directed.large_pool(3), directed.large_pool(301)
    assert demand(wide).seconds > 1000 * demand(narrow).seconds
    assert "(MaxPool)" in demand(wide).slowest


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_steps_follow_each_other(operator: str) -> None:
    found = demand(directed.long_sequence(1000, operator))
    assert found.steps == 1000
    assert found.seconds > 0.1


def test_what_takes_longer_than_its_limit_is_refused_before_it_starts() -> None:
    found = demand(directed.large_pool(4001), 64)
    with pytest.raises(
        SettingsError, match=r"takes an estimated .* above the limit of 60 minutes.*--time-limit SECONDS"
    ):
        found.check("m", 64, None, on_cpu=True)
    with pytest.raises(SettingsError, match=r"above the limit of 5 s, most of it in node 'MaxPool_0' \(MaxPool\)"):
        score(directed.large_pool(2001), device="cpu", limits=within(5.0))


def test_two_million_steps_are_not_begun() -> None:
    with pytest.raises(SettingsError, match=r"runs 2,000,000 steps one after the other, in node .* \(LSTM\)"):
        score(directed.long_sequence(), device="cpu")


def test_what_needs_more_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 10**8)
    with pytest.raises(
        SettingsError, match=r"at batch size 64 takes about .* of memory, and 200 MB are available; most of"
    ):
        score(small(), device="cpu", batch_size=64)
    assert score(small(), device="cpu", batch_size=2, limits=Limits(scoring_s=60.0)).blocks
    demand(small(), 64).check("m", 64, None, on_cpu=False)  # of the processor's memory


def test_weights_that_do_not_fit_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("w = ConstantOfShape (s)  y = MatMul (x, w)", {"x": ("N", 8)}, {"s": np.array([8, 2**23])})
    graph = prepare(model).graph
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    check_copies(graph, 3, "reading")
    with pytest.raises(SettingsError, match=r"m: comparing takes about 1.6 GB of memory, and 1.0 GB are available"):
        check_copies(graph, 6, "m: comparing")
