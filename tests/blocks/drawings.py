"""Small networks of the main families, for properties that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable

from aznas_onnx.graph import Model
from tests.blocks.sketch import Sketch

__all__ = ["DRAWINGS"]


def resnet() -> Model:
    net = Sketch()
    x = net.pool(net.conv(net.input, 8))
    for width, stride in ((8, 1), (8, 1), (16, 2), (16, 1)):
        x = net.residual(x, width, stride)
    return net.classify(x)


def mobilenet() -> Model:
    net = Sketch()
    x = net.inverted(net.conv(net.input, 8, s=2), 8, expand=1, skip=False)
    x = net.inverted(x, 12, s=2, skip=False)
    for _ in range(2):
        x = net.add(x, net.conv(net.squeeze_excite(net.depthwise(net.conv(x, 48, 1))), 12, 1, act=False))
    return net.classify(net.conv(x, 32, 1))


def densenet() -> Model:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(2):
        features = [x]
        for _ in range(3):
            stacked = net.concat(*features) if len(features) > 1 else x
            features.append(net.conv(net.conv(net.relu(net.bn(stacked)), 16, 1), 4, act=False, bn=False))
        x = net.pool(net.conv(net.relu(net.bn(net.concat(*features))), 10, 1, act=False, bn=False), "AveragePool")
    return net.classify(x)


def nasnet() -> Model:
    net = Sketch()
    before = x = net.conv(net.input, 8)
    for _ in range(4):
        near, far = net.conv(x, 8, 1), net.conv(before, 8, 1)
        sums = [net.add(net.conv(net.conv(near, 8), 8), net.conv(net.conv(far, 8), 8)), net.add(near, net.conv(far, 8))]
        before, x = x, net.concat(*sums)
    return net.classify(x)


def inception() -> Model:
    net = Sketch()
    x = net.conv(net.input, 8)
    for _ in range(3):
        pooled = net.op("MaxPool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
        x = net.concat(net.conv(x, 4, 1), net.conv(net.conv(x, 4, 1), 8), net.conv(pooled, 4, 1))
    return net.classify(x)


def transformer() -> Model:
    net = Sketch()
    x = net.patches(16)
    for _ in range(3):
        x = net.encoder(x)
    return net.average_tokens(net.ln(x))


def hourglass() -> Model:
    net = Sketch()
    x = net.conv(net.input, 8)
    skips = []
    for _ in range(3):
        x = net.residual(net.residual(x))
        skips.append(x)
        x = net.pool(x)
    for skip in reversed(skips):
        x = net.residual(net.add(net.up(x), skip))
    return net.finish(net.conv(x, 2, 1, act=False, bn=False))


DRAWINGS: dict[str, Callable[[], Model]] = {
    make.__name__: make for make in (resnet, mobilenet, densenet, nasnet, inception, transformer, hourglass)
}
