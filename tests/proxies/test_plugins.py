from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.proxies import AZ, PROXIES, ProxyRegistry

SOURCE = """
from aznas_onnx.proxies import Direction, Need, Outcome, Proxy

SIZE = Proxy(
    name="size",
    description="parameters and multiply-adds",
    equation="none",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.GRAPH,
    evaluate=lambda evidence: Outcome(value=float(evidence.params + evidence.macs)),
)
NOT_ONE = 3
"""


@pytest.fixture
def registry() -> ProxyRegistry:
    return ProxyRegistry(AZ, groups={})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_name_with_a_file_loads_and_registers(registry, file):
    assert [proxy.name for proxy in registry.load_all(["macs", f"{file}:SIZE"])] == ["macs", "size"]
    assert registry["size"].description == "parameters and multiply-adds"


def test_a_proxy_that_says_nothing_of_its_fidelity_claims_none(registry, file):
    assert registry.load(f"{file}:SIZE").fidelity == ""
    assert {PROXIES[name].fidelity for name in PROXIES.groups["az"]} == {"as published"}
    assert all(proxy.fidelity for proxy in PROXIES.values() if PROXIES.is_built_in(proxy.name))


def test_loading_again_is_no_conflict(registry, file):
    first = registry.load(f"{file}:SIZE")
    assert registry.load(f"{file}:SIZE") is first


def test_one_file_may_be_spelled_in_two_ways(registry, file, monkeypatch):
    first = registry.load(f"{file}:SIZE")
    monkeypatch.chdir(file.parent)
    assert registry.load("mine.py:SIZE") is first
    assert registry.load("./mine.py:SIZE") is first
    assert registry.reference("size") == f"{file.resolve()}:SIZE"


def test_a_member_of_a_group_may_weigh_nothing():
    registry = ProxyRegistry(AZ, groups={"some": ("macs:0", "trainability:2")})
    assert registry.weights(["some"]) == {"macs": 0.0, "trainability": 2.0}
    assert registry.weights(["some:3"]) == {"macs": 0.0, "trainability": 6.0}


def test_a_changed_file_replaces_what_it_gave(registry, file):
    registry.load(f"{file}:SIZE")
    file.write_text(SOURCE.replace("parameters and", "of both,"))
    assert registry.load(f"{file}:SIZE").description == "of both, multiply-adds"


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        (SOURCE, "NOT_ONE", "is a int; it has SIZE"),
        (SOURCE, "ABSENT", r"proxy file .*py has no ABSENT; it has SIZE"),
        ("SIZE = 1", "SIZE", "is a int; an aznas_onnx.proxies.Proxy is needed"),
        ("1 / 0", "SIZE", "fails to load: ZeroDivisionError"),
        (SOURCE.replace('"size"', '"macs"'), "SIZE", "there is one of that name already"),
    ],
)
def test_what_is_no_proxy_is_a_sentence(registry, file, text, attribute, message):
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        registry.load(f"{file}:{attribute}")


@pytest.mark.parametrize("attribute", ["NAN", "INF"])
def test_the_first_field_after_a_file_is_a_name(registry, file, attribute):
    file.write_text(SOURCE.replace("SIZE =", f"{attribute} ="))
    assert [proxy.name for proxy in registry.load_all([f"{file}:{attribute}"])] == ["size"]
    assert registry.weights([f"{file}:{attribute}:0.5"]) == {"size": 0.5}


def test_one_text_lists_proxies_with_commas(registry):
    assert [proxy.name for proxy in registry.resolve("macs, trainability")] == ["macs", "trainability"]
    with pytest.raises(SettingsError, match="proxies is 3; a list of names is needed"):
        registry.resolve(3)


def test_a_weight_that_is_no_number_is_named(registry):
    with pytest.raises(UnknownNameError, match="the weight 'x' of macs is no number"):
        registry.resolve(["macs:x"])


def test_a_file_without_a_name_says_how_to_write_it(registry, file):
    with pytest.raises(SettingsError, match="needs the name of its proxy; write"):
        registry.load_all([str(file)])


def test_a_missing_file_is_a_sentence(registry):
    with pytest.raises(SettingsError, match="cannot be read"):
        registry.load_all(["absent.py:SIZE"])


def test_a_proxy_is_cached_for_a_while_only(registry, file):
    from aznas_onnx.proxies.user_proxies import load_proxy

    with registry.holding(load_proxy(f"{file}:SIZE")):
        assert "size" in registry
    assert "size" not in registry


def test_listing_proxies_loads_no_torch():
    code = (
        "import sys; from aznas_onnx.proxies import PROXIES; assert 'synflow' in PROXIES and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scoring_the_proxies_of_az_loads_no_others():
    code = (
        "import sys; import aznas_onnx as az; s = az.spaces.get('nb201', resolution=8)\n"
        "import random, numpy as np\n"
        "model = s.build(s.sample(np.random.default_rng(0)))\n"
        "az.score(model, batch_size=2, device='cpu')\n"
        "literature = [name for name in sys.modules if name.startswith('aznas_onnx.proxies.literature.')]\n"
        "assert literature == ['aznas_onnx.proxies.literature.records']\n"
        "unused = {'aznas_onnx.proxies.engine.seeded_network'}\n"
        "assert not unused & set(sys.modules)\n"
        "assert 'sympy' not in sys.modules"  # half a second, which torch.autograd.grad takes with an output gradient
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
