from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aznas_onnx.calibration import (
    NETWORK_TRAITS,
    Calibration,
    compare,
    design_distance,
    estimate,
    find_calibration,
    has_same_parts,
    outside,
    traits_of,
)
from aznas_onnx.errors import SettingsError
from aznas_onnx.results import ProxyScores
from tests.calibration.samples import scored


@pytest.fixture(scope="module")
def small() -> ProxyScores:
    return scored("mbv2")


def test_the_bundled_calibration_is_what_the_documentation_says(imagenet: Calibration) -> None:
    assert len({one.name for one in imagenet.networks}) >= 250
    assert len({one.family for one in imagenet.networks}) >= 40
    assert 1 < imagenet.interval_scale < 2
    assert all(len(one.traits) == len(NETWORK_TRAITS) for one in imagenet.networks)
    plain = dict(zip((one.name for one in imagenet.networks), imagenet.plain_values, strict=True))
    assert plain["torchvision:resnet50"] == pytest.approx(76.1, abs=2)
    assert plain["torchvision:resnet18"] < plain["torchvision:resnet34"] < plain["torchvision:resnet50"]


def test_an_estimate_has_its_interval_its_terms_and_its_neighbours(imagenet: Calibration, small: ProxyScores) -> None:
    assert outside(small, imagenet) == ""
    found = estimate(small, imagenet)
    assert found.low < found.value < found.high
    assert found.average + sum(found.terms.values()) == pytest.approx(found.value)
    assert len({one.name for one in found.neighbours}) == 5
    assert 0 <= found.percentile <= 100
    assert estimate(small, imagenet) == found


def test_what_is_no_classifier_of_images_has_no_estimate(imagenet: Calibration, small: ProxyScores) -> None:
    def reason(**design: float) -> str:
        return outside(replace(small, design={**small.design, **design}), imagenet)

    assert reason(image_channels=0.0) == "its input is no image of three channels"
    assert "it is no classifier" in reason(classes=0.0)
    assert "its input is 32 pixels wide" in reason(input_positions=2 * 3.4657)
    assert outside(replace(small, macs=10**12), imagenet).startswith("it has 1,000,000,000,000 MACs")


def test_the_last_layer_does_not_count(imagenet: Calibration, small: ProxyScores) -> None:
    few = scored("mbv2", num_classes=10)
    assert small.params is not None
    assert few.params is not None
    assert few.params < small.params
    assert estimate(few, imagenet).value == pytest.approx(estimate(small, imagenet).value, abs=0.3)


def test_a_network_does_not_differ_from_itself(imagenet: Calibration, small: ProxyScores) -> None:
    found = compare(small, small, imagenet)
    assert (found.difference, found.is_same_design) == (0, True)
    assert found.deviation == pytest.approx(0, abs=1e-6)
    assert design_distance(small.design, small.design, imagenet) == 0


def test_both_directions_of_a_comparison_agree(imagenet: Calibration, small: ProxyScores) -> None:
    other = scored("mnasnet")
    there, back = compare(small, other, imagenet), compare(other, small, imagenet)
    assert there.difference == pytest.approx(-back.difference)
    assert there.deviation == pytest.approx(back.deviation)


def test_parts_tell_kinds_of_networks_and_not_their_size(small: ProxyScores) -> None:
    assert has_same_parts(small.design, scored("mbv2", resolution=96).design)
    assert not has_same_parts(small.design, scored("vit").design)


def test_a_score_without_the_proxies_is_refused(small: ProxyScores) -> None:
    lacking = {name: value for name, value in small.proxies.items() if name != "depth"}
    with pytest.raises(SettingsError, match="was scored without depth, which an estimate needs"):
        traits_of(replace(small, proxies=lacking))


def test_a_file_is_read_back(imagenet: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    imagenet.write(path)
    again = find_calibration(path)
    assert again == imagenet
    document = json.loads(path.read_text())
    document["networks"][3]["value"] = "high"
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match=r"own\.json is damaged"):
        find_calibration(path)
    path.write_text("{}")
    assert find_calibration(path) is None


def test_too_few_networks_are_refused(imagenet: Calibration) -> None:
    with pytest.raises(SettingsError, match="has 3 networks; 8 or more are needed"):
        replace(imagenet, networks=imagenet.networks[:3])
