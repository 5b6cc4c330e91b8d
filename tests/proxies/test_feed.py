"""What networks are fed: three kinds, and a file of the user's own that is checked before anything is scored."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aznas_onnx as az
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.evaluation import prepare_run
from aznas_onnx.graph import prepare
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.proxies.sample_file import GivenSamples
from aznas_onnx.references.build import add_models, build_from_models, check_comparable
from aznas_onnx.scoring import ScoreSettings
from tests.evaluation.samples import truth_of
from tests.graph.builders import network, weights
from tests.scoring.test_score_models import residual

CELL = "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
SHAPE = (3, 32, 32)


def write(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def batch(count: int = 8, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def test_a_feed_is_a_name_or_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", samples=batch(), labels=np.arange(8))
    assert ScoreSettings().feed == Feed.of("noise") == Feed()
    feed = Feed.of(Path(path))
    assert (feed.kind, feed.text, len(feed.sha256)) == ("file", path, 64)
    assert Feed.of(feed) is feed
    for one in (feed, Feed.of("natural"), Feed()):
        assert Feed.from_json(json.loads(json.dumps(one.as_json()))) == one
    moved = tmp_path / "moved.npz"
    moved.write_bytes(Path(path).read_bytes())
    assert Feed.of(moved) == feed
    assert Feed.of(write(tmp_path / "other.npz", samples=batch(seed=1))) != feed


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": batch(2), "y": np.arange(2)}, "has the arrays 'x', 'y'; 'samples' is needed, and 'labels' is accepted"),
        ({"samples": batch(2), "y": np.arange(2)}, "has the arrays 'samples', 'y'; 'samples' is needed"),
        ({}, "has the arrays none; 'samples' is needed"),
        ({"samples": np.zeros((2, 3, 4, 4), np.uint8)}, "samples is of uint8; floats are accepted, scaled as the"),
        ({"samples": np.float32(3)}, "samples is a single number; one or more samples, counted by the first axis"),
        ({"samples": batch(0)}, "samples is 0x3x32x32; one or more samples"),
        ({"samples": np.full((1, 3), 1e300)}, "samples has numbers that are not finite in float32"),
        ({"samples": batch(2), "labels": np.arange(3)}, "labels is 3 of int64; a whole number for each of 2 samples"),
        ({"samples": batch(2), "labels": np.zeros(2)}, "labels is 2 of float64; a whole number for each of 2 samples"),
        ({"samples": batch(2), "labels": np.array([0, -1])}, "labels go from -1 to 0; classes count from 0"),
    ],
)
def test_what_a_file_must_hold(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", **arrays)
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        ScoreSettings.of(feed=path)
    assert str(caught.value).startswith(f"feed {path}")


class Executed:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("kind", ["objects", "pickle", "text", "cut"])
def test_nothing_in_a_file_is_executed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    if kind == "objects":
        np.savez(path, samples=np.array([Executed()], dtype=object))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Executed()))
    elif kind == "text":
        path.write_text("samples")
    else:
        path.write_bytes(Path(write(tmp_path / "whole.npz", samples=batch())).read_bytes()[:-300])
    with pytest.raises(SettingsError, match=r"is no \.npz file of plain arrays"):
        Feed.of(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("naturl", "the feed is 'naturl'; noise, natural, or the path of an .npz file is accepted"),
        (3, "the feed is 3; noise, natural"),
        ("none.npz", "feed none.npz cannot be read: No such file"),
    ],
)
def test_what_is_no_feed_is_a_sentence(given: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        ScoreSettings.of(feed=given)


def test_each_seed_chooses_its_samples_and_no_batch_repeats_one() -> None:
    given = GivenSamples(values=batch(10, (1,)))
    first, second = given.choice(3, 4), given.choice(3, 4, number=1)
    assert first.tolist() == sorted(first.tolist()) == given.choice(3, 4).tolist()
    assert not set(first.tolist()) & set(second.tolist())
    assert first.tolist() != given.choice(4, 4).tolist()
    assert given.choice(3, 10).tolist() == list(range(10))  # a file of one batch is that batch
    assert len(given.choice(3, 4, number=2)) == 2


def test_a_network_must_take_the_samples(tmp_path: Path) -> None:
    model = prepare(residual())
    size = model.inputs.sample_shape
    other = Feed.of(write(tmp_path / "other.npz", samples=batch(4, (3, 7, 7))))
    with pytest.raises(ModelError, match="other.npz has samples of 3x7x7, and .* takes " + "x".join(map(str, size))):
        other.check(model, 4)
    few = write(tmp_path / "few.npz", samples=batch(3, size))
    Feed.of(few).check(model, 3)
    with pytest.raises(SettingsError, match=r"few.npz has 3 samples, and .* is scored at batch size 4; give more"):
        az.score(residual(), feed=few, batch_size=4, device="cpu")
    assert az.score(residual(), feed=few, batch_size=4, device="cpu", proxies=["macs"]).macs  # nothing is fed


def test_natural_samples_are_images() -> None:
    flat = network(
        "a = MatMul (x, w0) b = Relu (a) y = MatMul (b, w1)",
        {"x": ("n", 5)},
        {"w0": weights(5, 7), "w1": weights(7, 3)},
    )
    with pytest.raises(ModelError, match=r"natural samples are images, and .* takes 5; feed it noise or a file"):
        az.score(flat, feed="natural", device="cpu", proxies=["synflow"])


def test_the_feed_is_in_the_settings_of_a_score(tmp_path: Path) -> None:
    assert "feed" not in ScoreSettings().as_json()
    assert ScoreSettings.of(feed="natural").as_json()["feed"] == "natural"
    path = write(tmp_path / "own.npz", samples=batch())
    settings = ScoreSettings.of(feed=path)
    assert settings.as_json()["feed"] == {"file": path, "sha256": settings.feed.sha256}
    assert ScoreSettings.of(**settings.options()) == settings
    with pytest.raises(SettingsError, match="feed is given twice"):
        ScoreSettings.of(settings, feed="natural")


def test_a_file_that_changes_between_settings_and_score_is_refused(tmp_path: Path) -> None:
    size = prepare(residual()).inputs.sample_shape
    path = write(tmp_path / "own.npz", samples=batch(4, size))
    settings = ScoreSettings.of(feed=path, batch_size=4, device="cpu")
    write(tmp_path / "own.npz", samples=batch(4, size, seed=1))
    with pytest.raises(SettingsError, match="is no longer the file that it was"):
        az.score(residual(), settings=settings)


def test_a_scores_file_is_continued_with_its_feed_alone(tmp_path: Path) -> None:
    truth, scores = truth_of(tmp_path, {CELL: 1.0}), tmp_path / "scores.jsonl"
    path = write(tmp_path / "own.npz", samples=batch(2))

    def run(feed: str) -> None:
        settings = ScoreSettings.of(feed=feed, batch_size=2, device="cpu", proxies=["expressivity"])
        prepare_run("nb201", truth, scores=scores, settings=settings).score()

    run(path)
    moved = tmp_path / "moved.npz"
    moved.write_bytes(Path(path).read_bytes())
    run(str(moved))
    for other in ("noise", "natural"):
        with pytest.raises(SettingsError, match=rf"scoring\.feed is 'SHA-256 \w+' there and '{other}' here"):
            run(other)


def test_a_reference_set_places_what_was_fed_as_its_networks_were(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.onnx").write_bytes(residual().SerializeToString())
        paths.append(tmp_path / f"{name}.onnx")
    options: Any = {"batch_size": 2, "device": "cpu", "proxies": ["expressivity"]}
    built = build_from_models(paths[:2], name="ours", feed="natural", **options)
    built.write(tmp_path / "ours.json")
    read = type(built).read(tmp_path / "ours.json")
    assert read.settings == built.settings
    assert read.as_json()["settings"]["feed"] == "natural"
    _, (added,) = add_models(read, paths[2:], device="cpu")
    assert added.proxies["expressivity"].mean == pytest.approx(read.members[0].values["expressivity"], rel=1e-6)
    with pytest.raises(SettingsError, match="it has feed noise and not natural; leave these options out"):
        check_comparable(read, paths[2:], ScoreSettings.of(**options))
    noise = build_from_models(paths[:2], name="ours", **options)
    assert "feed" not in noise.as_json()["settings"]
    own = Feed(kind="file", path="Own.npz", sha256="ab" * 32)
    with pytest.raises(SettingsError, match=r"feed Own\.npz \(SHA-256 abababababab\.\.\.\) and not noise"):
        noise.settings.refuse_others(replace(noise.settings, feed=own), name="o", of="n")
