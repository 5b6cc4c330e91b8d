"""Counts against numbers that no one here wrote: PyTorch's own of a network, and those that torchvision publishes.

The benchmark ``torchvision_counts.py`` does the same for every classification model of torchvision.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnxscript", reason="the default exporter needs it")

SMALL: dict[str, Callable[[], Any]] = {
    "resnet": lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=7),
    "mobilenet_v2": lambda: torchvision.models.MobileNetV2(num_classes=7, width_mult=0.25),
    "densenet": lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=7),
    "vit": lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=7),
    "swin": lambda: torchvision.models.SwinTransformer([4, 4], 12, [2, 2], [2, 4], [4, 4], num_classes=7),
    "convnext": lambda: torchvision.models.ConvNeXt(
        [torchvision.models.convnext.CNBlockConfig(16, 32, 2), torchvision.models.convnext.CNBlockConfig(32, None, 1)],
        num_classes=7,
    ),
}


def benchmark(repository: Path) -> ModuleType:
    path = repository / "benchmarks" / "torchvision_counts.py"
    spec = importlib.util.spec_from_file_location("torchvision_counts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def export(network: Any, path: Path, *, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.randn(1, 3, 64, 64),), path, verbose=False, dynamo=dynamo)


def pytorch_macs(network: Any) -> int:
    """Return what PyTorch's own counter says: it counts two operations for each multiply-add."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    torch.backends.mha.set_fastpath_enabled(False)  # the counter sees neither into it nor into fused attention
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            network(torch.randn(1, 3, 64, 64))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    total: int = counter.get_total_flops()
    return total // 2


def check(name: str, path: Path, repository: Path, *, dynamo: bool, trained: bool) -> None:
    torch.manual_seed(0)
    network = SMALL[name]().eval()
    if trained:
        benchmark(repository).vary(network)
    export(network, path, dynamo=dynamo)
    costs = count(prepare(path))
    assert costs.params == sum(parameter.numel() for parameter in network.parameters())
    assert costs.macs == pytorch_macs(network)
    assert not costs.unsupported


@pytest.mark.parametrize("name", SMALL)
def test_networks_from_the_torchscript_exporter(name: str, tmp_path: Path, repository: Path) -> None:
    check(name, tmp_path / "net.onnx", repository, dynamo=False, trained=True)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("name", SMALL)
def test_networks_from_the_default_exporter(name: str, trained: bool, tmp_path: Path, repository: Path) -> None:
    check(name, tmp_path / "net.onnx", repository, dynamo=True, trained=trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "squeezenet1_1", "densenet121", "vit_b_32"]
)
def test_what_torchvision_publishes(name: str, tmp_path: Path, repository: Path) -> None:
    module = benchmark(repository)
    path = tmp_path / "net.onnx"
    module.export(name, path, trained=False)
    row = module.examine(name, path)
    assert row.params == row.params_published
    assert row.gigamacs == pytest.approx(row.gigamacs_published, rel=0.01)
