"""The inputs of a network: equal for equal seeds, whatever ran on them before."""

from __future__ import annotations

import pytest
import torch

import aznas_onnx as az
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.engine import feeds
from aznas_onnx.proxies.engine.feeds import FeedSource


def test_scoring_leaves_the_remembered_input_as_it_was() -> None:
    """Nodes that could overwrite their operand read the input itself."""
    net = GraphBuilder("on the input")
    image = net.image_input(3, 16)
    x = net.add(net.node("Sigmoid", image, name="squashed"), net.relu(image, "kept"), "sum")
    x = net.node("Mul", x, net.constant("factor", 0.5), name="scaled")
    for at, channels in enumerate((8, 12)):
        x = net.relu(net.conv_bn(x, f"layer{at}", 3 if at == 0 else 8, channels, kernel=3), f"relu{at}")
    model = net.model(net.classifier(x, "head", 12, num_classes=10))
    source = FeedSource(specialise(prepare(model), 16), torch.device("cpu"))
    for proxy in sorted(PROXIES):
        remembered = source.draw(0)["input"]
        assert remembered.data_ptr() == source.draw(0)["input"].data_ptr()
        before = remembered.clone()
        az.score(model, proxies=[proxy], device="cpu", batch_size=16)
        assert torch.equal(remembered, before), proxy
        assert not remembered.requires_grad, proxy


def test_a_large_input_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    net = GraphBuilder("large")
    x = net.relu(net.conv_bn(net.image_input(3, 8), "layer", 3, 4, kernel=3), "relu")
    sized = specialise(prepare(net.model(net.classifier(x, "head", 4, num_classes=3))), 2)
    small = FeedSource(sized, torch.device("cpu"))
    first, second = (small.draw(1)["input"] for _ in range(2))
    assert first.data_ptr() == second.data_ptr()
    monkeypatch.setattr(feeds, "_MOST_CACHED", 8)
    third = small.draw(1)["input"]
    assert third.data_ptr() != first.data_ptr()
    assert torch.equal(third, first)
