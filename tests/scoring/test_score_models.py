from __future__ import annotations

import json
import math
import re

import numpy as np
import onnx
import pytest
import torch

from aznas_onnx.errors import ModelError, SettingsError, UnknownNameError
from aznas_onnx.results import Status
from aznas_onnx.scoring import ScoreSettings, resolve_device, score, score_many
from tests.graph.builders import network, save, weights

# A stem, a residual block and one that halves the resolution, with normalisation.
BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0)
    b = BatchNormalization (a, s0, z0, z0, s0)
    stem = Relu (b)
    c = Conv <pads = [1, 1, 1, 1]> (stem, w1)
    d = BatchNormalization (c, s0, z0, z0, s0)
    e = Add (d, stem)
    one = Relu (e)
    f = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (one, w2)
    g = BatchNormalization (f, s1, z1, z1, s1)
    h = Conv <strides = [2, 2]> (one, w3)
    i = BatchNormalization (h, s1, z1, z1, s1)
    j = Add (g, i)
    two = Relu (j)
    k = GlobalAveragePool (two)
    l = Flatten (k)
    y = Gemm (l, w4, b4)
"""
CONSTANTS = {
    "w0": weights(8, 3, 3, 3),
    "w1": weights(8, 8, 3, 3),
    "w2": weights(16, 8, 3, 3),
    "w3": weights(16, 8, 1, 1),
    "w4": weights(16, 10),
    "b4": weights(10),
    "s0": np.ones(8, np.float32),
    "z0": np.zeros(8, np.float32),
    "s1": np.ones(16, np.float32),
    "z1": np.zeros(16, np.float32),
}
DECLARED = {"aznas.blocks": json.dumps(["stem", "one", "two"])}


def residual(name: str = "", **changes) -> onnx.ModelProto:
    model = network(BODY, {"x": ("n", 3, 16, 16)}, {**CONSTANTS, **changes}, metadata=DECLARED)
    model.graph.name = name or "residual"
    return model


def means(scores) -> dict[str, float | None]:
    return {name: value.mean for name, value in scores.proxies.items()}


# ---- one model ----------------------------------------------------------------------------------------------------
def test_gives_four_finite_proxies():
    scores = score(residual(), batch_size=8, seeds=3, device="cpu")
    assert scores.status is Status.OK
    assert list(scores.proxies) == ["expressivity", "progressivity", "trainability", "macs"]
    assert all(value.mean is not None and len(value.per_seed) == 3 for value in scores.proxies.values())
    assert scores.blocks == 3
    assert scores.proxies["macs"].mean == scores.macs
    assert scores.elapsed_s > 0


def test_means_and_standard_errors_are_over_seeds():
    value = score(residual(), batch_size=8, seeds=4, device="cpu").proxies["trainability"]
    assert value.mean == pytest.approx(np.mean(value.per_seed))
    assert value.stderr == pytest.approx(np.std(value.per_seed, ddof=1) / 2)


def test_one_seed_and_an_exact_proxy_have_no_standard_error():
    assert score(residual(), batch_size=8, device="cpu").proxies["trainability"].stderr is None
    assert score(residual(), batch_size=8, seeds=2, device="cpu").proxies["macs"].stderr is None


def test_seeds_count_up_from_the_first():
    many = score(residual(), batch_size=8, seeds=3, seed=5, device="cpu")
    one = score(residual(), batch_size=8, seeds=1, seed=7, device="cpu")
    assert many.proxies["expressivity"].per_seed[2] == one.proxies["expressivity"].mean


def test_the_same_seed_gives_the_same_scores_and_another_does_not():
    first, second = (score(residual(), batch_size=8, seed=3, device="cpu") for _ in range(2))
    assert means(first) == means(second)
    assert means(score(residual(), batch_size=8, seed=4, device="cpu")) != means(first)


def test_the_effort_is_the_default_number_of_samples():
    assert [ScoreSettings.of(effort=effort).batch_size for effort in ("paper", "balanced", "fast")] == [64, 16, 4]
    assert ScoreSettings.of(effort="fast", batch_size=7).batch_size == 7
    assert ScoreSettings.of().effort == "paper"


def test_the_automatic_effort_goes_by_the_device(monkeypatch):
    assert ScoreSettings.of(effort="auto", device="cpu").effort == "balanced"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert ScoreSettings.of(effort="auto", device="cuda").effort == "paper"


def test_cheaper_efforts_come_nearer_to_many_samples():
    many = score(residual(), batch_size=256, seeds=4, device="cpu").proxies["trainability"].mean
    few = score(residual(), batch_size=4, seeds=8, device="cpu").proxies["trainability"].mean
    fast = score(residual(), effort="fast", seeds=8, device="cpu").proxies["trainability"].mean
    assert abs(fast - many) < 0.5 * abs(few - many)


def test_a_profile_says_where_the_time_went():
    scores = score(residual(), batch_size=8, device="cpu", profile=True)
    assert {"read and canonicalise", "convert", "forward", "backward", "second moments", "spectra"} <= set(
        scores.profile_s
    )
    assert 0.5 * scores.elapsed_s < sum(scores.profile_s.values()) <= scores.elapsed_s
    assert not score(residual(), batch_size=8, device="cpu").profile_s


def test_the_weights_of_the_file_do_not_matter():
    other = residual(w0=weights(8, 3, 3, 3, seed=9), w4=np.zeros((16, 10), np.float32))
    assert means(score(other, batch_size=8, device="cpu")) == means(score(residual(), batch_size=8, device="cpu"))


def test_names_of_tensors_do_not_matter():
    renamed = residual()
    names = {name: f"t{index}" for index, name in enumerate(sorted({"a", "c", "d", *CONSTANTS}, reverse=True))}
    for node in renamed.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in renamed.graph.initializer:
        tensor.name = names[tensor.name]
    assert means(score(renamed, batch_size=8, device="cpu")) == means(score(residual(), batch_size=8, device="cpu"))


def test_a_path_and_a_model_in_memory_score_alike(tmp_path):
    path = save(residual(), tmp_path / "network.onnx")
    from_file = score(path, batch_size=8, device="cpu")
    assert means(from_file) == means(score(residual(), batch_size=8, device="cpu"))
    assert from_file.model == str(path)


def test_only_the_requested_proxies_are_computed():
    scores = score(residual(), batch_size=8, proxies=["expressivity", "complexity"], device="cpu")
    assert list(scores.proxies) == ["expressivity", "macs"]
    assert means(scores)["expressivity"] == means(score(residual(), batch_size=8, device="cpu"))["expressivity"]


def test_complexity_alone_needs_no_pass(monkeypatch):
    monkeypatch.setattr("aznas_onnx.scoring.session.BlockPass", None)
    assert score(residual(), proxies=["macs"], device="cpu").proxies["macs"].mean > 0


def test_a_proxy_that_is_not_finite_has_a_reason_instead_of_a_mean():
    model = network(
        "stem = Conv (x, w) one = Mul (stem, zero) y = Relu (one)",
        {"x": ("n", 3, 8, 8)},
        {"w": weights(8, 3, 1, 1), "zero": np.zeros(1, np.float32)},
        metadata={"aznas.blocks": json.dumps(["stem", "one"])},
    )
    scores = score(model, batch_size=8, seeds=2, device="cpu")
    value = scores.proxies["expressivity"]
    assert value.mean is None
    assert "constant" in value.reason
    assert value.per_seed == (-math.inf, -math.inf)
    assert scores.proxies["trainability"].mean == pytest.approx(-999_998.0)


def test_an_identity_block_is_a_status():
    model = network(
        "stem = Conv (x, w) zero = Mul (stem, nothing) one = Add (stem, zero)",
        {"x": ("n", 3, 8, 8)},
        {"w": weights(8, 3, 1, 1), "nothing": np.zeros(1, np.float32)},
        outputs=["one"],
        metadata={"aznas.blocks": json.dumps(["stem", "one"])},
    )
    value = score(model, batch_size=8, device="cpu").proxies["trainability"]
    assert value.mean is None
    assert "unchanged" in value.reason


def test_a_declared_block_that_the_output_does_not_depend_on_is_measured():
    model = residual()
    aside = onnx.helper.make_node("Relu", ["two"], ["aside"])
    model.graph.node.append(aside)
    model.metadata_props[0].value = json.dumps(["stem", "one", "aside"])
    scores = score(model, batch_size=8, device="cpu")
    assert scores.blocks == 3
    assert scores.proxies["trainability"].mean is not None


def test_a_recurrent_layer_whose_sequence_is_not_read_is_scored():
    body = """
        t = Transpose <perm = [1, 0, 2]> (x)
        s, h, c = LSTM <hidden_size = 8> (t, w, r)
        q = Squeeze (h, zero)
        y = Gemm (q, k)
    """
    constants = {"w": weights(1, 32, 4), "r": weights(1, 32, 8), "k": weights(8, 3), "zero": np.array([0])}
    scores = score(network(body, {"x": ("n", 5, 4)}, constants), batch_size=8, device="cpu")
    assert scores.status is Status.OK


def test_further_inputs_of_the_batch_are_fed_too():
    model = network(
        "h = Conv (x, w) r = Relu (h) y = Add (r, z)",
        {"x": ("n", 3, 8, 8), "z": ("n", 8, 1, 1)},
        {"w": weights(8, 3, 1, 1)},
        metadata={"aznas.blocks": json.dumps(["h", "r", "y"])},
    )
    scores = score(model, batch_size=8, device="cpu")
    assert scores.proxies["expressivity"].mean is not None
    assert any("'z'" in warning for warning in scores.warnings)


def test_a_file_that_works_at_one_batch_size_only_is_scored_there_with_a_warning():
    model = network(
        "stem = Conv (x, w) one = Relu (stem) y = Add (one, rows)",
        {"x": (6, 3, 8, 8)},
        {"w": weights(8, 3, 1, 1), "rows": weights(6, 8, 8, 8)},
        metadata={"aznas.blocks": json.dumps(["stem", "one"])},
    )
    scores = score(model, batch_size=8, device="cpu")
    assert any("scored at batch size 6" in warning for warning in scores.warnings)
    assert means(scores) == means(score(model, batch_size=6, device="cpu"))


# ---- many models --------------------------------------------------------------------------------------------------
def test_one_broken_model_does_not_stop_the_others(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf at all")
    seen: list[object] = []
    sources = [residual("first"), broken, residual("last")]
    results = score_many(sources, batch_size=4, device="cpu", on_result=seen.append)
    assert [result.status for result in results] == [Status.OK, Status.FAILED, Status.OK]
    assert results == seen
    assert "broken.onnx" in results[1].reason
    assert "\n" not in results[1].reason
    assert results[1].proxies == {}


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    ],
)
def test_running_out_of_memory_is_a_failure_with_a_remedy(monkeypatch, failure):
    def fail(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr("aznas_onnx.proxies.engine.blockpass.BlockPass.measure", fail)
    (result,) = score_many([residual()], batch_size=4, device="cpu")
    assert result.status is Status.FAILED
    assert "smaller --batch-size" in result.reason


def test_a_bug_is_recorded_as_such(monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyError("oops")

    monkeypatch.setattr("aznas_onnx.proxies.engine.blockpass.BlockPass.measure", fail)
    (result,) = score_many([residual()], batch_size=4, device="cpu")
    assert "internal error (KeyError: 'oops')" in result.reason
    with pytest.raises(KeyError):
        score(residual(), batch_size=4, device="cpu")


def test_being_interrupted_is_no_failure(monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("aznas_onnx.proxies.engine.blockpass.BlockPass.measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        score_many([residual()], batch_size=4, device="cpu")


def test_a_node_that_cannot_be_run_is_named(monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("shapes differ\nsecond line")

    monkeypatch.setattr("torch.batch_norm", fail)
    with pytest.raises(ModelError, match=r"node '.*' cannot be computed: shapes differ$"):
        score(residual(), batch_size=4, device="cpu")


# ---- settings -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch size is 0"),
        ({"seeds": 0}, "number of seeds is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"device": "cuda:x"}, "no device 'cuda:x'"),
        ({"device": "cpu:1"}, "no device 'cpu:1'"),
    ],
)
def test_wrong_settings_are_refused_before_any_model_is_read(arguments, message):
    with pytest.raises(SettingsError, match=message):
        score_many(["missing.onnx"], **arguments)


def test_an_unknown_effort_is_refused_and_only_that_of_the_paper_is_as_published():
    with pytest.raises(SettingsError, match="effort 'most' is not one of paper, balanced, fast, auto"):
        score(residual(), effort="most")
    with pytest.raises(SettingsError, match="effort paper only, not with fast"):
        score(residual(), effort="fast", as_published=True)


def test_an_unknown_proxy_is_refused():
    with pytest.raises(UnknownNameError, match="expresivity"):
        score_many([], proxies=["expresivity"])


def test_settings_are_values():
    settings = ScoreSettings.of(input_shapes={"x": [1, 3, 8, 8]}, proxies=["az"], batch_size=8)
    assert settings == ScoreSettings.of(input_shapes={"x": (1, 3, 8, 8)}, batch_size=8)
    assert hash(settings) == hash(ScoreSettings.of(input_shapes={"x": (1, 3, 8, 8)}, batch_size=8))
    assert json.loads(json.dumps(settings.as_json())) == settings.as_json()
    assert settings.loaded().as_json()["proxies"] == ["expressivity", "progressivity", "trainability", "macs"]


# ---- devices ------------------------------------------------------------------------------------------------------
def test_auto_takes_the_best_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SettingsError, match=r"'cuda:2' is not available.*there are 2"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="'mps' is not available"):
        resolve_device("mps")


# ---- a bug in a proxy of one's own --------------------------------------------------------------------------------

BUGGY = """
from aznas_onnx.proxies import Direction, NetworkStatistic, Need, Outcome, Proxy, value

def divides(evidence):
    return Outcome(value=1 / 0)

def indexes(instance):
    return [][3]

COMMON = dict(description="", equation="", direction=Direction.HIGHER_IS_BETTER, needs=Need.GRAPH)
DIVIDES = Proxy(name="divides", evaluate=divides, **COMMON)
BUG = NetworkStatistic(name="bug", run=indexes)
INDEXES = Proxy(name="indexes", evaluate=value("bug", "x"), measurement=BUG, **COMMON)
NUMBER = Proxy(name="gives_a_number", evaluate=lambda evidence: 3.0, **COMMON)
TABLE = NetworkStatistic(name="table", run=lambda instance: {"x": 1.0})
DICT = Proxy(name="gives_a_dict", evaluate=value("table", "x"), measurement=TABLE, **COMMON)
DEPTH = Proxy(name="deep", evaluate=lambda evidence: Outcome(value=evidence.structure.depth), **COMMON)
"""


@pytest.mark.parametrize(
    ("attribute", "name", "message"),
    [
        ("DIVIDES", "divides", r"proxy 'divides' fails: ZeroDivisionError: division by zero \(.*mine\.py, line 5\)"),
        ("INDEXES", "indexes", r"proxy 'indexes' fails: IndexError: list index out of range \(.*mine\.py, line 8\)"),
        ("NUMBER", "gives_a_number", r"evaluate\(\) gives a float; an Outcome of a float is needed"),
        ("DICT", "gives_a_dict", r"proxy 'gives_a_dict': run\(\) gives a dict; a StatisticResult is needed"),
        ("DEPTH", "deep", r"no attribute 'depth' \(.*\); set uses_structure=True"),
    ],
)
def test_a_bug_in_a_proxy_of_ones_own_loses_its_value_only(tmp_path, attribute, name, message):
    file = tmp_path / "mine.py"
    file.write_text(BUGGY)
    [found] = score_many([residual()], proxies=["macs", f"{file}:{attribute}"], batch_size=2, device="cpu")
    assert found.status is Status.OK
    assert found.proxies["macs"].mean is not None
    assert found.proxies[name].mean is None
    assert found.proxies[name].applies
    assert re.search(message, found.proxies[name].reason)
