"""Conformance checks for proxies, built-in or your own, to run from a test.

from aznas_onnx.user_conformance import check_proxy
from my_proxies import SPREAD

def test_spread_conforms():
    check_proxy(SPREAD)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import onnx
import torch

from aznas_onnx.errors import AznasError
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.proxies import PROXIES, Evidence, Outcome, Proxy, StatisticResult
from aznas_onnx.proxies.engine.seeded_network import SeededNetwork
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring import score

__all__ = ["CHECKS", "ConformanceError", "check_proxy", "sample_networks"]

_BATCH = 8
_TOLERANCE = 1e-4  # of one network written in two ways: sums in another order


class ConformanceError(AssertionError):
    """A proxy violates the contract; the message has the check, the network and the failure."""


def check_proxy(proxy: Proxy) -> None:
    """Run all checks on a proxy, which need not be registered; docs/proxies.md describes them.

    Raises
    ------
    ConformanceError
        At the first check that fails.
    """
    for check in CHECKS.values():
        check(proxy)


def sample_networks() -> Mapping[str, onnx.ModelProto]:
    """Return the networks of the checks, by their kind."""
    return {
        "a convolutional network": _convolutional(),
        "a transformer's layer": _attention_free_mixer(),
        "a network without classes": _convolutional(with_classes=False),
        "a network without weights": _pooling(),
        "a perceptron": _perceptron(),
    }


def _number_or_status(proxy: Proxy) -> None:
    for name, model in sample_networks().items():
        check = f"a number or a status, {name}"
        value = _value(proxy, model, check)
        _require(value.mean is None or math.isfinite(value.mean), proxy, check, f"{value.mean}")
        has_reason = value.mean is not None or bool((value.reason or "").strip())
        _require(has_reason, proxy, check, "there is neither a number nor a reason")


def _deterministic(proxy: Proxy) -> None:
    model = _convolutional()
    first = _value(proxy, model, "deterministic")
    torch.rand(3)
    _value(proxy, _perceptron(), "deterministic")
    second = _value(proxy, model, "deterministic")
    _require(_same(first, second), proxy, "deterministic", f"{first.per_seed} at first and {second.per_seed} then")


def _names_and_order(proxy: Proxy) -> None:
    for name, model in sample_networks().items():
        plain = _value(proxy, model, name)
        for how, other in (("renamed", _renamed(model)), ("reordered", _reordered(model))):
            found = _value(proxy, other, name)
            _require(_close(plain, found), proxy, f"names and order, {name}", f"{plain} and, {how}, {found}")


def _batch_of_the_file(proxy: Proxy) -> None:
    model = _convolutional()
    free = _value(proxy, model, "batch of the file")
    fixed = _value(proxy, _with_batch(model, 3), "batch of the file")
    _require(_close(free, fixed), proxy, "batch of the file", f"{free} left open and {fixed} for a batch of 3")


def _device(proxy: Proxy) -> None:
    model = _convolutional()
    plain = _value(proxy, model, "device")
    before = torch.get_default_device()
    torch.set_default_device("meta")  # tensors on this device have no values
    try:
        found = _value(proxy, model, "device")
    finally:
        torch.set_default_device(None if before.type == "cpu" else before)
    _require(_same(plain, found), proxy, "device", f"{plain} and, where torch's default device is another, {found}")


def _no_trace(proxy: Proxy) -> None:
    model = _convolutional()
    before = score(model, batch_size=_BATCH, device="cpu").proxies
    random, precision = torch.random.get_rng_state(), torch.get_default_dtype()
    records = torch.is_grad_enabled()
    _value(proxy, model, "no trace")
    _require(bool((torch.random.get_rng_state() == random).all()), proxy, "no trace", "torch's random state changed")
    _require(torch.get_default_dtype() is precision, proxy, "no trace", "torch's default precision changed")
    _require(torch.is_grad_enabled() == records, proxy, "no trace", "torch's gradient mode changed")
    after = score(model, batch_size=_BATCH, device="cpu").proxies
    _require(
        all(_same(before[name], after[name]) for name in before), proxy, "no trace", "the proxies of AZ-NAS changed"
    )


CHECKS: Mapping[str, Callable[[Proxy], None]] = {
    "a number or a status": _number_or_status,
    "deterministic": _deterministic,
    "names and order": _names_and_order,
    "batch of the file": _batch_of_the_file,
    "device": _device,
    "no trace": _no_trace,
}
"""The checks by name."""


def _value(proxy: Proxy, model: onnx.ModelProto, check: str) -> ProxyValue:
    raised: list[Exception] = []
    with PROXIES.holding(_watched(proxy, raised)):
        try:
            result: ProxyScores = score(model, proxies=[proxy.name], batch_size=_BATCH, device="cpu", seed=1)
        except Exception as error:
            raise ConformanceError(f"{proxy.name}: {check}: it raises {type(error).__name__}: {error}") from error
    if raised:  # scoring takes it for a lost value
        first = raised[0]
        raise ConformanceError(f"{proxy.name}: {check}: it raises {type(first).__name__}: {first}") from first
    _require(result.status is Status.OK, proxy, check, str(result.reason))
    return result.proxies[proxy.name]


def _watched(proxy: Proxy, raised: list[Exception]) -> Proxy:
    """Return a proxy that records the exceptions of itself and its statistic, except reasons and torch's limits."""

    def evaluate(evidence: Evidence) -> Outcome:
        try:
            return proxy.evaluate(evidence)
        except Exception as error:
            raised.append(error)
            raise

    measurement = proxy.measurement
    if measurement is None or measurement.is_built_in:
        return replace(proxy, evaluate=evaluate)

    def run(instance: SeededNetwork) -> StatisticResult:
        try:
            return measurement.measure(instance)
        except (AznasError, RuntimeError):
            raise
        except Exception as error:
            raised.append(error)
            raise

    return replace(proxy, evaluate=evaluate, measurement=replace(measurement, run=run))


def _require(holds: bool, proxy: Proxy, check: str, found: str) -> None:
    if not holds:
        raise ConformanceError(f"{proxy.name}: {check}: {found}")


def _same(one: ProxyValue, other: ProxyValue) -> bool:
    return repr(one.per_seed) == repr(other.per_seed) and one.applies == other.applies


def _close(one: ProxyValue, other: ProxyValue) -> bool:
    if one.mean is None or other.mean is None:
        return one.mean is other.mean and one.applies == other.applies
    return math.isclose(one.mean, other.mean, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _convolutional(*, with_classes: bool = True) -> onnx.ModelProto:
    net = GraphBuilder("convolutional")
    x = net.image_input(3, 16)
    stem = net.relu(net.conv_bn(x, "stem", 3, 8, kernel=3), "stem.relu")
    net.declare_block(stem)
    inner = net.conv_bn(stem, "inner", 8, 8, kernel=3)
    side = net.conv_bn(stem, "side", 8, 8, kernel=1)
    first = net.relu(net.add(net.add(inner, side, "sum"), stem, "residual"), "first")
    net.declare_block(first)
    second = net.relu(net.conv_bn(first, "second", 8, 12, kernel=3, stride=2), "second.relu")
    net.declare_block(second)
    return net.model(net.classifier(second, "head", 12, num_classes=7) if with_classes else second)


def _perceptron() -> onnx.ModelProto:
    net = GraphBuilder("perceptron")
    x = net.node("Flatten", net.image_input(1, 6), name="flat")
    hidden = net.relu(net.linear(x, "hidden", 36, 20), "hidden.relu")
    net.declare_block(hidden)
    deeper = net.relu(net.linear(hidden, "deeper", 20, 20), "deeper.relu")
    net.declare_block(deeper)
    return net.model(net.linear(deeper, "head", 20, 5))


def _attention_free_mixer() -> onnx.ModelProto:
    net = GraphBuilder("mixer", opset=20)
    x = net.conv(net.image_input(3, 16), "patches", 3, 24, kernel=4, stride=4)
    tokens = net.transpose(net.reshape(x, "tokens", (0, 24, -1)), "last", (0, 2, 1))
    net.declare_block(tokens)
    normal = net.layer_norm(tokens, "norm", 24)
    hidden = net.node("Gelu", net.linear(normal, "wide", 24, 48), name="gelu")
    mixed = net.add(tokens, net.linear(hidden, "narrow", 48, 24), "mixed")
    net.declare_block(mixed)
    pooled = net.node("ReduceMean", mixed, net.constant("axis", [1]), name="pooled", keepdims=0)
    return net.model(net.linear(pooled, "head", 24, 6))


def _pooling() -> onnx.ModelProto:
    net = GraphBuilder("pooling")
    x = net.image_input(3, 16)
    once = net.node("AveragePool", x, name="once", kernel_shape=[2, 2], strides=[2, 2])
    net.declare_block(once)
    twice = net.node("AveragePool", once, name="twice", kernel_shape=[2, 2], strides=[2, 2])
    net.declare_block(twice)
    return net.model(twice)


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with other names, whose alphabetical order is the reverse."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    names = dict.fromkeys(name for node in model.graph.node for name in (*node.input, *node.output) if name)
    fresh = {name: f"t{len(names) - index:04d}" for index, name in enumerate(names)}
    for node in other.graph.node:
        node.name = ""
        node.input[:] = [fresh.get(name, "") for name in node.input]
        node.output[:] = [fresh.get(name, "") for name in node.output]
    for value in (*other.graph.input, *other.graph.output, *other.graph.initializer, *other.graph.value_info):
        value.name = fresh.get(value.name, value.name)
    for entry in other.metadata_props:
        if entry.key == "aznas.blocks":
            for name in sorted(fresh, key=len, reverse=True):
                entry.value = entry.value.replace(f'"{name}"', f'"{fresh[name]}"')
    return other


def _reordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with each node that reads no weight put off until it is needed."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = {value.name for value in model.graph.initializer}
    weights |= {name for name, node in makers.items() if all(source in weights for source in node.input)}
    done: set[str] = set()

    def needed(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if node.output[0] in done:
            return
        done.add(node.output[0])
        for name in node.input:
            if name in makers:
                yield from needed(makers[name])
        yield node

    heavy = [node for node in model.graph.node if any(name in weights for name in node.input)]
    order = [one for node in (*heavy, *model.graph.node) for one in needed(node)]
    del other.graph.node[:]
    other.graph.node.extend(order)
    return other


def _with_batch(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for value in (*other.graph.input, *other.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].Clear()
            value.type.tensor_type.shape.dim[0].dim_value = size
    return other
