"""Small networks for tests of the gate, drawn without a framework."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aznas_onnx.graph.building.builder import GraphBuilder


def residual(
    path: Path, *, width: int = 8, depth: int = 4, skips: bool = True, resolution: int = 16, classes: int = 4
) -> Path:
    """Write a residual network of some blocks; layers on its longest path: 2 * depth + 2."""
    net = GraphBuilder("net")
    x = net.relu(net.conv_bn(net.image_input(3, resolution), "stem", 3, width, kernel=3, stride=2), "stem.relu")
    for index in range(depth):
        name = f"blocks.{index}"
        y = net.relu(net.conv_bn(x, f"{name}.a", width, width, kernel=3), f"{name}.a.relu")
        y = net.conv_bn(y, f"{name}.b", width, width, kernel=3)
        x = net.relu(net.add(x, y, f"{name}.add") if skips else y, f"{name}.relu")
    onnx.save(net.model(net.classifier(x, "head", width, num_classes=classes)), path)
    return path


def move_weights_out(path: Path, location: str = "weights.data") -> Path:
    """Store the large constants of a network in a file beside it."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=64)
    return path


def quantise_activation(path: Path) -> Path:
    """Put a pair of QuantizeLinear and DequantizeLinear before the last layer of a network."""
    model = onnx.load(path)
    graph = model.graph
    last = graph.node[-1]
    graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    graph.initializer.append(numpy_helper.from_array(np.uint8(0), "zero"))
    stored = helper.make_node("QuantizeLinear", [last.input[0], "scale", "zero"], ["stored"], "quantise")
    floats = helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["floats"], "dequantise")
    last.input[0] = "floats"
    graph.node.remove(last)
    graph.node.extend((stored, floats, last))
    onnx.save(model, path)
    return path


def fix_batch(path: Path, batch_size: int) -> Path:
    """Make a network work at one batch size only: each of so many samples has another constant added to its output."""
    model = onnx.load(path)
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch_size
    (output,) = graph.output
    rows = np.arange(batch_size, dtype=np.float32).reshape(batch_size, 1)
    graph.initializer.append(numpy_helper.from_array(rows, "rows"))
    graph.node.append(helper.make_node("Add", [output.name, "rows"], ["moved"], "moved"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("moved", onnx.TensorProto.FLOAT, None))
    onnx.save(model, path)
    return path
