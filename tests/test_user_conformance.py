"""Every registered proxy through the checks that a user's own is run through, and proxies that fail each of them."""

from __future__ import annotations

import math

import onnx
import pytest
import torch

from aznas_onnx.proxies import PROXIES, Direction, Need, NetworkStatistic, Outcome, Proxy, StatisticResult, value
from aznas_onnx.proxies.user_proxies import load_proxy
from aznas_onnx.user_conformance import CHECKS, ConformanceError, check_proxy, sample_networks


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", PROXIES)
def test_every_registered_proxy_conforms(name, check):
    CHECKS[check](PROXIES[name])


@pytest.mark.parametrize("name", ["WIDENING", "SPREAD"])
def test_the_example_of_the_documentation_conforms(name, repository):
    check_proxy(load_proxy(f"{repository}/examples/own_proxy.py:{name}"))


def proxy(measure) -> Proxy:
    return Proxy(
        name="mine",
        description="of a test",
        equation="none",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRAPH,
        measurement=NetworkStatistic(name="mine", run=measure),
        evaluate=value("mine", "mine"),
    )


def of_logits(instance, change=lambda logits: logits) -> StatisticResult:
    compiled = instance.network.at()
    with torch.no_grad():
        logits = instance.logits(compiled, instance.weights(compiled), instance.feeds(compiled))
    return StatisticResult(values={"mine": change(logits).std().item()})


def raises(instance) -> StatisticResult:
    raise ValueError("a bug")


def is_random(instance) -> StatisticResult:
    return of_logits(instance, lambda logits: logits + torch.rand(len(logits), 1))


def reads_names(instance) -> StatisticResult:
    return StatisticResult(values={"mine": float(sum(map(len, instance.network.at().plan), start=1))})


def uses_the_default_device(instance) -> StatisticResult:
    return of_logits(instance, lambda logits: logits * torch.ones(1))


def leaves_a_trace(instance) -> StatisticResult:
    torch.manual_seed(7)
    return of_logits(instance)


def test_a_proxy_that_keeps_to_the_rules_passes():
    check_proxy(proxy(of_logits))
    assert "mine" not in PROXIES


@pytest.mark.parametrize(
    ("measure", "check"),
    [
        (raises, "a number or a status"),
        (is_random, "deterministic"),
        (reads_names, "names and order"),
        (uses_the_default_device, "device"),
        (leaves_a_trace, "no trace"),
    ],
)
def test_a_proxy_that_breaks_a_rule_fails_its_check(measure, check):
    with pytest.raises(ConformanceError, match="mine: "):
        CHECKS[check](proxy(measure))


def test_a_proxy_that_does_not_say_why_it_has_no_value_still_gets_a_reason():
    without = Proxy(
        name="mine",
        description="of a test",
        equation="none",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRAPH,
        evaluate=lambda evidence: Outcome(value=math.nan),
    )
    CHECKS["a number or a status"](without)


def test_a_proxy_whose_own_sum_raises_fails_though_scoring_goes_on():
    broken = Proxy(
        name="mine",
        description="of a test",
        equation="none",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRAPH,
        evaluate=lambda evidence: Outcome(value=1 / 0),
    )
    with pytest.raises(ConformanceError, match=r"mine: .*: it raises ZeroDivisionError"):
        CHECKS["a number or a status"](broken)


def test_a_caller_that_records_no_gradients_is_no_fault_of_the_proxy():
    with torch.no_grad():
        CHECKS["no trace"](PROXIES["macs"])


def test_the_networks_differ_in_what_they_lack():
    networks = sample_networks()
    operators = {name: {node.op_type for node in model.graph.node} for name, model in networks.items()}
    assert "Relu" in operators["a convolutional network"]
    assert "Conv" in operators["a convolutional network"]
    assert "Relu" not in operators["a transformer's layer"]
    assert "LayerNormalization" in operators["a transformer's layer"]
    assert "Gemm" in operators["a convolutional network"]
    assert "Gemm" not in operators["a network without classes"]
    assert not {value.data_type for value in networks["a network without weights"].graph.initializer} & {
        onnx.TensorProto.FLOAT
    }
    assert "Conv" not in operators["a perceptron"]
