"""Small networks for tests of the gate, drawn without a framework."""

from __future__ import annotations

from pathlib import Path

import onnx

from aznas_onnx.graph.builder import GraphBuilder


def residual(path: Path, *, width: int = 8, depth: int = 4, skips: bool = True, resolution: int = 16) -> Path:
    """Write a residual network of some blocks; layers on its longest path: 2 * depth + 2."""
    net = GraphBuilder("net")
    x = net.relu(net.conv_bn(net.image_input(3, resolution), "stem", 3, width, kernel=3, stride=2), "stem.relu")
    for index in range(depth):
        name = f"blocks.{index}"
        y = net.relu(net.conv_bn(x, f"{name}.a", width, width, kernel=3), f"{name}.a.relu")
        y = net.conv_bn(y, f"{name}.b", width, width, kernel=3)
        x = net.relu(net.add(x, y, f"{name}.add") if skips else y, f"{name}.relu")
    onnx.save(net.model(net.classifier(x, "head", width, num_classes=4)), path)
    return path
