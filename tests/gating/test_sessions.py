"""How often a whole gate reads and compiles each file, whatever it scores and however often it looks."""

from __future__ import annotations

import gc
import importlib
import json
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import aznas_onnx as az
from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare
from aznas_onnx.references.build import build_from_models
from aznas_onnx.scoring import ScoreSettings, Session
from tests.gating.networks import residual
from tests.graph.builders import network, weights

LOOKS: dict[str, Any] = {
    "min_seeds": 2,
    "max_seeds": 8,
    "confidence": 0.999,
    "tolerance": 1e-6,
}  # nothing is decided early


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter[str]:
    """Two networks on disk, and how often files are read, specialised and compiled."""
    monkeypatch.chdir(tmp_path)
    residual(tmp_path / "new.onnx", width=8)
    residual(tmp_path / "shipped.onnx", width=10)
    residual(tmp_path / "other.onnx", width=12)
    calls = Counter[str]()

    def count(path: str, name: str, what: str) -> None:
        module = importlib.import_module(f"aznas_onnx.{path}")
        real: Callable[..., Any] = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            calls[what] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count("graph.pipeline", "load", "read")
    count("proxies.engine.compiled_network", "specialise", "specialised")
    count("proxies.engine.compiled_network", "plan_weights", "planned")
    count("proxies.engine.compiled_network", "compile_program", "compiled")
    return calls


def test_a_gate_reads_and_compiles_each_file_once(counted: Counter[str]) -> None:
    proxies = ("az", "grad_norm", "naswot", "near")
    result = az.gate(
        "new.onnx", baseline=["shipped.onnx", "other.onnx"], proxies=proxies, effort="fast", device="cpu", **LOOKS
    )
    assert result.seeds > 2, result.reasons
    assert counted == {"read": 3, "specialised": 3, "planned": 3, "compiled": 3}


def test_a_score_by_blocks_and_by_the_whole_network_is_of_one_program(counted: Counter[str]) -> None:
    az.score("new.onnx", proxies=["az", "snip", "best"], effort="fast", device="cpu", seeds=2)
    assert counted == {"read": 1, "specialised": 1, "planned": 1, "compiled": 1}


def test_seeds_in_several_calls_are_those_of_one(counted: Counter[str]) -> None:
    settings = ScoreSettings.of(proxies=["az", "synflow"], effort="fast", device="cpu", seed=3, seeds=4)
    whole = Session(prepare("new.onnx"), settings).scores()
    session = Session(prepare("new.onnx"), settings)
    parts = [session.scores(range(3, 5)), session.scores((5,)), session.scores((6,))]
    for name, value in whole.proxies.items():
        assert value.per_seed == tuple(one for part in parts for one in part.proxies[name].per_seed), name
    # synflow is of one sample in double precision: another program of the same graph and plan
    assert counted == {"read": 2, "specialised": 2, "planned": 2, "compiled": 2 * 2}


def test_a_gate_with_synflow_compiles_a_second_program_of_each_file(counted: Counter[str]) -> None:
    result = az.gate(
        "new.onnx", baseline="shipped.onnx", proxies=("az", "synflow"), effort="fast", device="cpu", **LOOKS
    )
    assert result.seeds > 2, result.reasons
    assert counted == {"read": 2, "specialised": 2, "planned": 2, "compiled": 2 * 2}


def test_a_graph_that_contains_the_batch_is_specialised_for_each_program(counted: Counter[str]) -> None:
    body = """stem = Conv (x, w)  sizes = Shape (stem)  n = Slice (sizes, zero, one)
        shape = Concat <axis = 0> (n, token_sizes)  tokens = Expand (token, shape)
        joined = Concat <axis = 1> (stem, tokens)  flat = Flatten (joined)  y = Gemm (flat, u)"""
    constants = {
        "w": weights(4, 3, 1, 1),
        "u": weights(20, 5),
        "token": weights(1, 1, 2, 2),
        "zero": np.array([0]),
        "one": np.array([1]),
        "token_sizes": np.array([1, 2, 2]),
    }
    declared = {"aznas.blocks": json.dumps(["stem"])}
    onnx.save(network(body, {"x": ("n", 3, 2, 2)}, constants, metadata=declared), "tokens.onnx")
    az.score("tokens.onnx", proxies=["az", "synflow"], effort="fast", device="cpu")
    assert counted == {"read": 1, "specialised": 2, "planned": 2, "compiled": 2}


def test_a_reference_set_reads_each_file_once(counted: Counter[str], tmp_path: Path) -> None:
    files = ["new.onnx", "shipped.onnx", "other.onnx"]
    proxies = ["az", "synflow"]
    build_from_models(files[1:], name="ours", proxies=proxies, effort="fast", device="cpu").write("ours.json")
    assert counted == {"read": 2, "specialised": 2, "planned": 2, "compiled": 2 * 2}
    counted.clear()
    result = az.gate("new.onnx", reference="ours.json", device="cpu", min_seeds=2, max_seeds=8, confidence=0.999)
    assert "synflow" in result.settings["proxies"]
    assert {key: result.settings[key] for key in ("seed", "cut_at", "values", "device")} == {
        "seed": 0,
        "cut_at": [],
        "values": {},
        "device": "cpu",
    }
    assert counted == {"read": 1, "specialised": 1, "planned": 1, "compiled": 2}


def test_a_session_that_has_scored_holds_no_data_of_the_file() -> None:
    body = "stem = Conv (x, w) one = Conv (stem, v) flat = Flatten (one) y = Gemm (flat, u)"
    constants = {"w": weights(4, 3, 1, 1), "v": weights(4, 4, 1, 1), "u": weights(4 * 4, 5)}
    declared = {"aznas.blocks": json.dumps(["stem", "one"])}
    model = prepare(network(body, {"x": ("n", 3, 2, 2)}, constants, metadata=declared))
    data = [weakref.ref(constant.read) for constant in model.graph.constants.values() if constant.read is not None]
    session = Session(model, ScoreSettings.of(effort="fast", device="cpu", proxies=["az", "grad_norm"]))
    first = session.scores((0,))
    del model
    gc.collect()
    assert len(data) == 3
    assert [one() for one in data] == [None] * 3
    assert session.scores((0,)).proxies == first.proxies


def test_a_failure_at_a_later_look_is_a_sentence(counted: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Session.scores

    def failing(self: Session, seeds: range) -> Any:
        if seeds[0] > 0:
            raise KeyError("oops")
        return real(self, seeds)

    monkeypatch.setattr(Session, "scores", failing)
    with pytest.raises(ModelError, match=r"new\.onnx: internal error \(KeyError: 'oops'\); please report it"):
        az.gate("new.onnx", baseline=["shipped.onnx"], effort="fast", device="cpu", **LOOKS)
