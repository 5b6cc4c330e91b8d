"""ONNX files as a space."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.evaluation import Bootstrap, bench, read_scores
from aznas_onnx.evaluation.report.page import write_report
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces import GenotypeError, NetworkFiles

WIDTHS = (4, 6, 8, 12)


def write_network(path: Path, width: int) -> Path:
    """Write a small convolutional network."""
    net = GraphBuilder("small")
    x = net.relu(net.conv_bn(net.image_input(3, 16), "stem", 3, width, kernel=3), "stem.relu")
    x = net.relu(net.conv_bn(x, "body", width, width, kernel=3), "body.relu")
    onnx.save(net.model(net.classifier(x, "head", width, num_classes=5)), str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_network(tmp_path / f"net.w{width}.onnx", width) for width in WIDTHS]


def write_truth(path: Path, title: str = "model") -> Path:
    path.write_text(f"{title},top1\n" + "".join(f"net.w{width},{width}\n" for width in WIDTHS))
    return path


def test_a_network_is_called_as_its_file(files: list[Path]) -> None:
    space = NetworkFiles.of(files)
    assert space.names == tuple(f"net.w{width}" for width in WIDTHS)
    assert space.parse(" net.w4 ") == space.format("net.w4") == "net.w4"
    assert space.source("net.w4") == files[0]
    assert len(space.build("net.w4").graph.node) > 3
    rng = np.random.default_rng(0)
    assert space.mutate("net.w4", rng) != "net.w4"
    assert space.sample(rng) in space.names
    with pytest.raises(GenotypeError, match=r"there is no file of network 'other'; there is 'net\.w4'"):
        space.parse("other")
    assert pickle.loads(pickle.dumps(space)).names == space.names


def test_names_are_distinct_and_there_is_one(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    same = write_network(tmp_path / "sub" / files[0].name, 4)
    with pytest.raises(SettingsError, match=r"have the same name 'net\.w4'"):
        NetworkFiles.of([*files, same])
    assert len(NetworkFiles.of([files[0], files[0]]).names) == 1
    with pytest.raises(SettingsError, match="no network is given"):
        NetworkFiles.of([])


def test_a_file_that_is_not_there_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read: No such file"):
        NetworkFiles.of([tmp_path / "gone.onnx"]).digest("gone")


@pytest.mark.parametrize("title", ["model", "arch"])
def test_files_are_scored_and_compared(files: list[Path], tmp_path: Path, title: str) -> None:
    truth, scores = write_truth(tmp_path / "truth.csv", title), tmp_path / "scores.jsonl"
    found = bench(files, truth, effort="fast", device="cpu", scores=scores, bootstrap=Bootstrap(resamples=0))
    assert found.n == len(WIDTHS)
    params = next(one for one in found.baselines if one.proxies == ("params",))
    assert params.kendall["top1"].value == pytest.approx(1)
    assert set(read_scores(scores).records) == {f"net.w{width}" for width in WIDTHS}
    page, *_ = write_report([scores], truth, tmp_path / "page.md", with_plots=False)
    assert "aznas bench '*.onnx' --truth truth.csv" in page.read_text()


def test_a_file_that_has_changed_is_scored_again(files: list[Path], tmp_path: Path) -> None:
    truth, scores = write_truth(tmp_path / "truth.csv"), tmp_path / "scores.jsonl"

    def run() -> dict[str, float | None]:
        bench(files, truth, effort="fast", device="cpu", scores=scores, bootstrap=Bootstrap(resamples=0))
        return {name: record.proxies["macs"].mean for name, record in read_scores(scores).records.items()}

    before, lines = run(), len(scores.read_text().splitlines())
    assert run() == before
    assert len(scores.read_text().splitlines()) == lines == len(WIDTHS)
    write_network(files[1], 10)
    after = run()
    assert {name for name in after if after[name] != before[name]} == {"net.w6"}
    assert len(scores.read_text().splitlines()) == lines + 1


def test_what_has_no_measurement_is_left_out_and_told(files: list[Path], tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("arch,top1\nnet.w4,1\nnet.w12,2\nabsent,3\n")
    found = bench(files, truth, effort="fast", device="cpu", bootstrap=Bootstrap(resamples=0))
    assert found.n == 2
    assert found.warnings[0] == "left out, because they are not measured (2 of 4 files): net.w6, net.w8"
    truth.write_text("arch,top1\nabsent,3\n")
    with pytest.raises(SettingsError, match=r"no network is measured: the files are called 'net\.w4' and so on"):
        bench(files, truth)


def test_options_of_a_space_and_folders_are_refused(files: list[Path], tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.csv")
    with pytest.raises(SettingsError, match="resolution is an option of a space; an ONNX file has its own"):
        bench(files, truth, space_options={"resolution": 32})
    with pytest.raises(SettingsError, match="is a folder; give the files in it, such as"):
        bench(tmp_path, truth)
