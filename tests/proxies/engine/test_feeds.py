"""The inputs of a network: equal for equal seeds, whatever ran on them before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import aznas_onnx as az
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.engine import feeds
from aznas_onnx.proxies.engine.compiled_network import RandomNetwork
from aznas_onnx.proxies.engine.feeds import FeedSource
from aznas_onnx.proxies.engine.natural_images import natural_images
from aznas_onnx.proxies.engine.seeded_network import InapplicableError, SeededNetwork
from aznas_onnx.proxies.feed import Feed


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


def small(size: int = 8) -> onnx.ModelProto:
    net = GraphBuilder("small")
    x = net.relu(net.conv_bn(net.image_input(3, size), "layer", 3, 4, kernel=3), "relu")
    return net.model(net.classifier(x, "head", 4, num_classes=3))


def drawn(feed: Feed, batch_size: int, size: int = 32, seed: int = 0, number: int = 0) -> torch.Tensor:
    source = FeedSource(specialise(prepare(small(size)), batch_size), torch.device("cpu"), feed=feed)
    return source.draw(seed, number)["input"]


def test_noise_is_what_it_was_before_there_was_a_choice() -> None:
    first = drawn(Feed.of("noise"), 2, 8)
    assert first[0, 0, 0, :3].tolist() == pytest.approx([-0.32701299, -1.22016382, -0.26222327], abs=1e-7)
    source = FeedSource(specialise(prepare(small()), 2), torch.device("cpu"), feed=Feed.of("natural"))
    assert torch.equal(source.draw(0, noise=True)["input"], first)
    assert bool((source.draw(0, ones=True)["input"] == 1).all())


def test_natural_images_have_the_spectrum_and_the_greyness_of_photographs() -> None:
    images = drawn(Feed.of("natural"), 512).double()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.std().item() == pytest.approx(1.0, abs=1e-6)
    amplitudes = torch.fft.fft2(images).abs().square().mean(dim=(0, 1)).sqrt()
    frequency = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32)[None, :])
    constant = amplitudes * frequency.clamp_min(1 / 32)
    assert (constant.max() / constant.min()).item() < 1.25  # 1/f up to the noise of 512 images
    # Channel c is 1.5 m + 0.5 own_c, m the mean of three: variances and covariances in units of that of a field.
    channels = torch.corrcoef(images.transpose(0, 1).flatten(1))
    variance, covariance = 2.25 / 3 + 1.5 / 3 + 0.25, 2.25 / 3 + 1.5 / 3
    assert channels[0, 1].item() == pytest.approx(covariance / variance, abs=0.02)


def test_natural_images_follow_from_the_seed() -> None:
    natural = Feed.of("natural")
    assert torch.equal(drawn(natural, 2), drawn(natural, 2))
    assert not torch.equal(drawn(natural, 2), drawn(natural, 2, seed=1))
    assert not torch.equal(drawn(natural, 2), drawn(natural, 2, number=1))


def test_channels_on_the_last_axis_are_channels() -> None:
    noise = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = natural_images(noise)
    torch.testing.assert_close(natural_images(noise.movedim(1, 3)), expected.movedim(1, 3))


def test_own_samples_and_labels_are_those_of_the_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples, labels = rng.standard_normal((7, 3, 8, 8)), rng.integers(3, size=7)
    np.savez(tmp_path / "own.npz", samples=samples, labels=labels)
    feed = Feed.of(tmp_path / "own.npz")
    network = RandomNetwork(prepare(small()), is_transformer=False, batch_size=3, device=torch.device("cpu"), feed=feed)
    instance = SeededNetwork(network, 5)
    seen: list[int] = []
    for number in range(2):
        chosen = np.random.default_rng(5).permutation(7)[3 * number : 3 * number + 3]
        chosen.sort()
        fed = instance.feeds(network.at(), number)["input"]
        assert fed.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(fed.numpy(), samples[chosen].astype(np.float32))
        assert instance.labels(3, 3, number).tolist() == labels[chosen].tolist()
        seen += chosen.tolist()
    assert len(set(seen)) == 6
    with pytest.raises(az.AznasError, match=r"own\.npz has 7 samples, and 3 batches of 3 are needed"):
        instance.feeds(network.at(), 2)
    with pytest.raises(InapplicableError, match=r"the labels of .*own\.npz go to 2, and the network has 2 classes"):
        instance.labels(2, 3)


def test_a_proxy_that_takes_two_batches_has_a_reason_where_there_is_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", samples=np.random.default_rng(0).standard_normal((4, 3, 8, 8)))
    feed = tmp_path / "own.npz"
    found = az.score(small(), feed=feed, batch_size=4, device="cpu", proxies=["zico", "snip", "zen"]).proxies
    assert found["zico"].mean is None
    assert "4 samples, and 2 batches of 4 are needed" in str(found["zico"].reason)
    assert found["snip"].mean is not None
    assert found["zen"].mean is not None  # its perturbation is noise


def test_each_feed_gives_other_scores_and_the_same_again() -> None:
    options: Any = {"device": "cpu", "batch_size": 4, "proxies": ["snip", "naswot", "synflow"]}
    noise, natural, again = (az.score(small(16), feed=feed, **options) for feed in ("noise", "natural", "natural"))
    values = [{name: one.mean for name, one in found.proxies.items()} for found in (noise, natural, again)]
    assert values[1] == values[2]
    assert values[0]["snip"] != values[1]["snip"]
    assert values[0]["naswot"] != values[1]["naswot"]
    assert values[0]["synflow"] == values[1]["synflow"]  # ones, whatever the feed
