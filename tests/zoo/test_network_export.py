from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import aznas_onnx as az
from aznas_onnx.errors import ModelError, UnknownNameError
from aznas_onnx.zoo import ZooName
from aznas_onnx.zoo.network_export import build, check_known, export, own_size


@pytest.mark.parametrize(
    ("network", "size"), [("resnet50", 224), ("inception_v3", 299), ("efficientnet_b4", 380), ("vit_h_14", 224)]
)
def test_the_own_size_of_torchvision(network: str, size: int) -> None:
    assert own_size(ZooName("torchvision", network)) == (size, size)


@pytest.mark.parametrize(("network", "size"), [("vit_b_16", (32, 32)), ("maxvit_t", (448, 448))])
def test_a_size_reaches_networks_that_are_built_for_one(network: str, size: tuple[int, int]) -> None:
    built = build(ZooName("torchvision", network, size))
    assert not built.training
    with torch.no_grad():
        assert built(torch.zeros(1, 3, *size)).shape == (1, 1000)


def test_the_weights_follow_from_the_seed() -> None:
    first, second = (build(ZooName("torchvision", "squeezenet1_1")).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("network", ["fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "quantized_resnet50"])
def test_networks_that_fetch_a_backbone_or_classify_nothing_are_unknown(network: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{network} is no network of torchvision"):
        check_known(ZooName("torchvision", network))


CONNECTING = """
import socket, sys, torch
from aznas_onnx.zoo.network_export import block_network
block_network()
for connect in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: torch.hub.load_state_dict_from_url("http://127.0.0.1:9/w.pth", model_dir=sys.argv[1]),
):
    try:
        connect()
    except Exception as error:
        print(error)
"""


def test_connections_are_refused(tmp_path: object) -> None:
    command = [sys.executable, "-c", CONNECTING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("without access to the internet") == 3, done.stdout


def test_networks_of_timm() -> None:
    pytest.importorskip("timm")
    assert own_size(ZooName("timm", "test_vit")) == (160, 160)
    assert own_size(ZooName("timm", "vit_base_patch16_384")) == (384, 384)
    for network in ("test_vit", "test_resnet"):  # built for a size, and for any
        with torch.no_grad():
            assert build(ZooName("timm", network, (96, 96)))(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)
    check_known(ZooName("timm", "resnet50.a1_in1k"))
    with pytest.raises(UnknownNameError, match=r"did you mean torchvision:vit_b_16 or timm:"):
        check_known(ZooName("timm", "vit_b_16"))


def test_a_file_that_cannot_run_is_exported_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways, plain = [], torch.onnx.export

    def exporting(network: torch.nn.Module, inputs: Any, path: Path, *, dynamo: bool, **options: Any) -> None:
        ways.append(dynamo)
        plain(network, inputs, path, dynamo=dynamo, **options)
        if not dynamo:
            model = onnx.load(path)
            first = model.graph.node[0]
            first.CopyFrom(onnx.helper.make_node("Expand", [first.input[0], "shape"], first.output))
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7]), "shape"))
            onnx.save(model, path)

    monkeypatch.setattr(torch.onnx, "export", exporting)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = export(ZooName("torchvision", "squeezenet1_1", (64, 64)), path)
    assert ways == [False, True]
    assert str(name) == "torchvision:squeezenet1_1@64"
    assert az.inspect(path).costs.params == 1_235_496


def test_what_no_exporter_can_write_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object, dynamo: bool, **options: Any) -> None:
        raise RuntimeError("operator Fold, of which there is more to say\nmuch" if dynamo else "operator Fold\nmore")

    monkeypatch.setattr(torch.onnx, "export", failing)
    with pytest.raises(ModelError, match=r"^torchvision:squeezenet1_1@64 cannot be exported by .*: operator Fold$"):
        export(ZooName("torchvision", "squeezenet1_1", (64, 64)), tmp_path / "network.onnx")
