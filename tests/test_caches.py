from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import aznas_onnx
from aznas_onnx import spaces
from aznas_onnx.caches import CACHES, cached, clear_caches
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

# They remember what happens once in a process: a user's file is executed, a library is loaded, a kernel looked up.
ONCE = {"user_modules.py", "allocator.py", "linear_layers.py"}


def test_a_call_is_computed_once_until_caches_are_cleared() -> None:
    calls = []

    @cached(2, "a test")
    def double(value: int) -> int:
        calls.append(value)
        return 2 * value

    name = next(name for name in CACHES if name.endswith("double"))
    try:
        assert [double(3), double(3)] == [6, 6]
        assert (calls, CACHES[name].size(), CACHES[name].bound) == ([3], 1, 2)
        aznas_onnx.clear_caches()
        assert CACHES[name].size() == 0
        assert double(3) == 6
        assert calls == [3, 3]
    finally:
        del CACHES[name]


def test_every_cache_is_listed(repository: Path) -> None:
    folders = ("aznas_onnx", "cli", "spaces")
    files = [path for folder in folders for path in (repository / folder).rglob("*.py") if path.name not in ONCE]
    direct = re.compile(r"^@(functools\.)?(lru_cache|cache)\b", re.MULTILINE)
    assert [path.name for path in files if direct.search(path.read_text())] == []


def test_a_graph_is_the_same_after_caches_are_cleared() -> None:
    model = network("c = Conv (x, w)  r = Relu (c)  y = Sigmoid (r)", constants={"w": weights(4, 3, 3, 3)})
    before = prepare(model)
    genotype = spaces.get("nb201").sample(np.random.default_rng(0))
    macs = spaces.get("nb201").macs(genotype)
    assert any(cache.size() for cache in CACHES.values())
    clear_caches()
    assert not any(cache.size() for cache in CACHES.values())
    after = prepare(model)
    assert [node.operator for node in after.graph.nodes] == [node.operator for node in before.graph.nodes]
    assert dict(after.infos.items()).keys() == dict(before.infos.items()).keys()
    assert spaces.get("nb201").macs(genotype) == macs
