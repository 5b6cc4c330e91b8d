"""Torchvision's networks have the blocks that their definitions speak of."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.blocks import find_blocks
from aznas_onnx.graph import prepare
from tests.blocks.sketch import kinds

pytest.importorskip("onnxscript", reason="torch exports by its default exporter through onnxscript")

STEM_AND_HEAD = {"stem": 1, "head": 1}
EXPECTED: dict[str, dict[str, int]] = {
    "resnet18": {"stem": 1, "residual": 8},
    "resnet50": {"stem": 1, "residual": 16},
    "mobilenet_v2": {**STEM_AND_HEAD, "inverted residual": 17},
    "efficientnet_b0": {**STEM_AND_HEAD, "inverted residual": 16},
    # The separable convolution of its stem is an inverted residual that does not expand, as the first of MobileNetV2.
    "mnasnet0_5": {**STEM_AND_HEAD, "inverted residual": 17},
    "shufflenet_v2_x0_5": {**STEM_AND_HEAD, "inception": 3, "residual": 13},
    "convnext_tiny": {"stem": 1, "residual": 18, "transition": 3},
    "swin_t": {"stem": 1, "attention": 12, "mlp": 12, "transition": 3},
    "squeezenet1_1": {"stem": 1, "inception": 8},
    "googlenet": {"stem": 1, "inception": 9},
    "densenet121": {"stem": 1, "dense": 58, "transition": 3},
    "vgg11": {"conv": 8},
}
BY_DEFAULT_EXPORTER = ("resnet18", "mobilenet_v2", "squeezenet1_1")  # the others by TorchScript's, which takes a fifth
TRANSFORMERS = ("swin_t", "vit")


def export(network: Any, path: Path, *, dynamo: bool, size: int = 224) -> Path:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"verbose": False} if dynamo else {"dynamo": False, "opset_version": 17}
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, size, size),), str(path), **options)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("keep_graph", [False, True])
def test_blocks_of_torchvision(name: str, keep_graph: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = exported(name, tmp_path_factory.getbasetemp())
    result = find_blocks(prepare(path, keep_graph=keep_graph))
    assert kinds(result) == EXPECTED[name]
    assert result.is_transformer == (name in TRANSFORMERS)
    assert not result.warnings


def exported(name: str, folder: Path) -> Path:
    import torch
    import torchvision

    path = folder / f"{name}.onnx"
    if not path.exists():
        options: dict[str, Any] = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        network = torchvision.models.get_model(name, weights=None, **options)
        if name == "vgg11":
            network.classifier = torch.nn.Linear(25088, 10)  # its own takes half a gigabyte
        export(network, path, dynamo=name in BY_DEFAULT_EXPORTER)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
def test_blocks_of_a_small_vision_transformer(dynamo: bool, tmp_path: Path) -> None:
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        image_size=32, patch_size=8, num_layers=12, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    result = find_blocks(prepare(export(network, tmp_path / "vit.onnx", dynamo=dynamo, size=32)))
    assert kinds(result) == {"stem": 1, "attention": 12, "mlp": 12}
    assert result.is_transformer
