"""Operators that ONNX does not have, from a user's file or by onnx2torch, through every layer."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import aznas_onnx as az
from aznas_onnx.cli.main import run
from aznas_onnx.costs import Costs
from aznas_onnx.errors import ModelError, SettingsError, UnsupportedOperatorError
from aznas_onnx.operators import (
    CUSTOM_OPERATORS,
    OPERATORS,
    CustomOperator,
    CustomOperators,
    OperatorCatalogue,
)
from aznas_onnx.operators.standard import STANDARD
from aznas_onnx.results import ProxyScores, Status

DOMAIN = "my.domain"
CHANNELS = (3, 16, 16, 32)


@pytest.fixture(scope="module")
def example(repository: Path) -> str:
    return str(repository / "examples" / "own_operator.py")


@pytest.fixture
def loaded(example: str) -> None:
    CUSTOM_OPERATORS.load(example)


def network(
    act: tuple[str, str] = (DOMAIN, "Squareplus"), mix: tuple[str, str] = (DOMAIN, "ChannelMix")
) -> onnx.ModelProto:
    """Three convolutions, each with an activation and a mixing of channels behind."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "x"
    for i, (given, made) in enumerate(itertools.pairwise(CHANNELS)):
        kernel = rng.standard_normal((made, given, 3, 3)).astype(np.float32)
        mixing = rng.standard_normal((made, made) if mix[0] else (made, made, 1, 1)).astype(np.float32)
        weights += [numpy_helper.from_array(kernel, f"k{i}"), numpy_helper.from_array(mixing, f"m{i}")]
        nodes += [
            helper.make_node("Conv", [x, f"k{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4, strides=[2, 2]),
            helper.make_node(act[1], [f"c{i}"], [f"a{i}"], f"act{i}", domain=act[0]),
            helper.make_node(mix[1], [f"a{i}", f"m{i}"], [f"x{i}"], f"mix{i}", domain=mix[0]),
        ]
        x = f"x{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["y"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", 1, ["N", CHANNELS[-1], 1, 1])],
        weights,
    )
    domains = sorted({"", act[0], mix[0]})
    versions = [helper.make_opsetid(domain, 1 if domain else 20) for domain in domains]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


def score(model: onnx.ModelProto) -> ProxyScores:
    return az.score(model, effort="fast", proxies=["az", "synflow"])


def test_without_its_file_an_operator_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"'act0' has operator other\.domain::Squareplus, which is not"):
        score(network(act=("other.domain", "Squareplus")))


def test_the_refusal_of_an_operator_names_the_option_and_no_converter_that_does_not_exist() -> None:
    import onnx2torch.node_converters.registry  # noqa: F401  # loaded, without a converter for the domain

    warnings = " ".join(az.inspect(network(act=("other.domain", "A"), mix=("other.domain", "B"))).warnings)
    assert "other.domain::A, which is not known here; add it with --operators FILE.py (docs/operators.md)" in warnings
    assert "onnx2torch" not in warnings


@pytest.mark.usefixtures("loaded")
def test_the_example_scores_as_the_same_network_of_standard_operators() -> None:
    mixed, plain = score(network(act=("", "Relu"))), score(network(act=("", "Relu"), mix=("", "Conv")))
    assert mixed.status is Status.OK
    assert (mixed.macs, mixed.params, mixed.blocks) == (plain.macs, plain.params, plain.blocks)
    for name, value in plain.proxies.items():
        assert mixed.proxies[name].mean == pytest.approx(value.mean, rel=1e-3), name


@pytest.mark.usefixtures("loaded")
def test_the_example_is_read_counted_and_named() -> None:
    found = az.inspect(network())
    counts = {name: (costs.macs, costs.params) for name, costs in found.costs.by_operator().items()}
    assert counts["my.domain::Squareplus"] == (0, 0)
    sizes = zip(CHANNELS[1:], (16, 8, 4), strict=True)
    assert counts["my.domain::ChannelMix"] == (
        sum(channels**2 * size**2 for channels, size in sizes),
        sum(channels**2 for channels in CHANNELS[1:]),
    )
    assert found.costs.unsupported == {}
    assert all("Squareplus" not in warning for warning in found.warnings)


def test_every_command_that_reads_models_takes_the_file(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    assert run(["inspect", str(path), "--operators", example, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] > 0
    assert run(["score", str(path), "--operators", example, "--effort", "fast"]) == 0
    assert run(["gate", str(path), "--operators", example, "--max-params", "1M"]) == 0


def test_a_file_is_executed_only_where_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.py"
    path.write_text("raise ValueError('a bug')", encoding="utf-8")
    assert run(["inspect", "any.onnx", "--operators", str(path)]) == 2
    assert "bad.py fails to load: ValueError: a bug" in capsys.readouterr().err


def operator(name: str = "Mine", convert: Any = None) -> CustomOperator:
    record = replace(OPERATORS["Relu"], name=name, domain="test.domain")
    return CustomOperator(record=record, convert=convert or (lambda node, context: torch.relu))


def test_an_operator_is_registered_once_and_never_in_place_of_another() -> None:
    operators = CustomOperators(OperatorCatalogue(OPERATORS))
    first = operator()
    operators.add(first)
    operators.add(first)
    with pytest.raises(SettingsError, match=r"test\.domain::Mine is registered already"):
        operators.add(operator())
    relu = replace(OPERATORS["Relu"], elementwise=True)
    with pytest.raises(SettingsError, match="Relu is registered already"):
        operators.add(replace(first, record=relu))


def test_a_file_without_an_operator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match="defines no operator"):
        CustomOperators(OperatorCatalogue(OPERATORS)).load(path)
    path = tmp_path / "converters.py"
    path.write_text("from onnx2torch.node_converters.registry import add_converter", encoding="utf-8")
    operators = CustomOperators(OperatorCatalogue(OPERATORS))
    operators.load(path)
    assert operators.files == (str(path),)


_FAILS = r"'act0': the converter of test\.domain::Failing fails: ZeroDivisionError: a bug \(.*test_custom\.py, line"


def test_a_converter_that_fails_is_named_with_its_node() -> None:
    def convert(node: Any, context: Any) -> Any:
        raise ZeroDivisionError("a bug")

    failing = operator("Failing", convert)
    CUSTOM_OPERATORS.add(failing)
    with pytest.raises(ModelError, match=_FAILS):
        score(network(act=("test.domain", "Failing")))


def test_a_mac_rule_that_fails_is_named_with_its_node() -> None:
    given = operator("Uncounted")

    def macs(node: Any, shapes: Any) -> int:
        raise IndexError("a bug")

    CUSTOM_OPERATORS.add(replace(given, record=replace(given.record, macs=macs)))
    with pytest.raises(ModelError, match=r"'act0': the MAC rule of test\.domain::Uncounted fails: IndexError"):
        az.inspect(network(act=("test.domain", "Uncounted"), mix=("", "Conv")))


def test_the_units_of_a_switch_have_activation_patterns() -> None:
    CUSTOM_OPERATORS.add(operator("Switch"))
    model = network(act=("test.domain", "Switch"), mix=("", "Conv"))
    plain = network(act=("", "Relu"), mix=("", "Conv"))
    found, wanted = (az.score(one, effort="fast", proxies=["naswot"]).proxies["naswot"] for one in (model, plain))
    assert found.mean == wanted.mean


@pytest.mark.parametrize("given", ["a", -5, 2.5, True])
def test_a_mac_rule_gives_a_whole_number(given: Any) -> None:
    name = f"Gives{type(given).__name__}"
    with pytest.raises(
        ModelError, match=rf"'act0': the MAC rule of .*::{name} gives {given!r}; a whole number of 0 or"
    ):
        count_with(name, lambda node, shapes: given)


def test_a_mac_rule_can_give_an_integer_of_numpy() -> None:
    costs = count_with("Whole", lambda node, shapes: np.prod(shapes.shape(node.outputs[0])))
    macs = costs.by_operator()["test.domain::Whole"].macs
    assert (type(macs), macs) == (int, 16 * 16 * 16 + 16 * 8 * 8 + 32 * 4 * 4)


def test_a_mac_rule_that_gives_none_leaves_its_operator_out_of_the_counts() -> None:
    assert count_with("Unknown", lambda node, shapes: None).unsupported == {"test.domain::Unknown": 3}


def count_with(name: str, macs: Any) -> Costs:
    given = operator(name)
    CUSTOM_OPERATORS.add(replace(given, record=replace(given.record, macs=macs)))
    return az.inspect(network(act=("test.domain", name), mix=("", "Conv"))).costs


@pytest.mark.parametrize("command", [az.inspect, score])
def test_a_record_that_ends_before_a_weight_is_refused(command: Any) -> None:
    CUSTOM_OPERATORS.add(MIXING)
    with pytest.raises(
        ModelError, match=r"'mix0' .* has 2 inputs, the record describes 1; input 1 is the constant 'm0'"
    ):
        command(network(act=("", "Relu"), mix=("test.domain", "Mixing")))


MIXING = operator("Mixing", lambda node, context: lambda x, weight: torch.einsum("nchw,oc->nohw", x, weight))


def test_an_operator_of_two_files_is_refused_with_the_name_of_the_first(example: str, tmp_path: Path) -> None:
    second = tmp_path / "second.py"
    second.write_text(Path(example).read_text(encoding="utf-8"), encoding="utf-8")
    operators = CustomOperators(OperatorCatalogue(STANDARD))
    operators.load(example)
    with pytest.raises(SettingsError, match=r"::Squareplus is registered already by .*own_operator\.py; give"):
        operators.load(second)


# ---- onnx2torch ---------------------------------------------------------------------------------------------------
class Mixing(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,oc->nohw", x, self.weight)


def convert_by_onnx2torch(registry: Any, domain: str, make_mixing: Any = Mixing) -> None:
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult, get_const_value, onnx_mapping_from_node

    @registry.add_converter("Squareplus", 1, domain)
    def _(node: Any, graph: Any) -> Any:
        return OperationConverterResult(nn.ReLU(), onnx_mapping_from_node(node))

    @registry.add_converter("ChannelMix", 1, domain)
    def _(node: Any, graph: Any) -> Any:
        inputs = node.input_values
        module = make_mixing(get_const_value(inputs[1], graph))
        return OperationConverterResult(module, OnnxMapping(inputs[:1], node.output_values))


def test_a_converter_of_onnx2torch_for_a_custom_domain_is_used_and_its_weights_initialised(
    onnx2torch_registry: Any,
) -> None:
    convert_by_onnx2torch(onnx2torch_registry, "their.domain")
    model = network(act=("their.domain", "Squareplus"), mix=("their.domain", "ChannelMix"))
    found, plain = score(model), score(network(act=("", "Relu"), mix=("", "Conv")))
    assert found.params == plain.params
    assert found.proxies["synflow"].mean == pytest.approx(plain.proxies["synflow"].mean, rel=1e-3)
    unknown = [warning for warning in found.warnings if "are unknown and left out of macs" in warning]
    assert len(unknown) == 2
    note = "is converted by onnx2torch; ONNX Runtime does not run it, so its result is not checked"
    names = [f"operator their.domain::{name}" for name in ("Squareplus", "ChannelMix")]
    assert {f"{name} {note}" for name in names} <= {*found.warnings}
    assert {f"{name} is converted by onnx2torch, which gives its shapes" for name in names} <= {
        *az.inspect(model).warnings
    }
    for weight in model.graph.initializer:  # the file's own values do not matter
        values = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(values * 3, weight.name))
    assert score(model).proxies == found.proxies


def test_a_module_that_computes_with_a_weight_while_it_is_made_is_refused(onnx2torch_registry: Any) -> None:
    convert_by_onnx2torch(onnx2torch_registry, "far.domain", lambda weight: Mixing(weight * 2))
    with pytest.raises(UnsupportedOperatorError, match=r"far\.domain::ChannelMix-1 .* computes with the weight 'm2'"):
        score(network(mix=("far.domain", "ChannelMix"), act=("", "Relu")))
