"""Small networks of the main families, for properties that hold for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from aznas_onnx.graph import Model
from tests.blocks.sketch import Sketch

__all__ = ["DRAWINGS", "random_network"]


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


def random_network(rng: random.Random) -> Model:
    """A network that no one would draw: operators between tensors of one shape, all loose ends summed up."""
    net = Sketch(4, 8)
    tensors, loose = [net.input], set[str]()
    for _ in range(rng.randrange(3, 30)):
        first, second = (rng.choice(tensors[-4:] if rng.random() < 0.8 else tensors) for _ in range(2))
        joins = first != second and rng.random() < 0.5
        made = _joined(net, rng.randrange(3), first, second) if joins else _changed(net, rng.randrange(5), first)
        loose -= {first, second} if joins else {first}
        loose.add(made)
        tensors.append(made)
    ends = sorted(loose, key=tensors.index)
    x = ends[0]
    for end in ends[1:]:
        x = net.add(x, end)
    return net.classify(x)


def _changed(net: Sketch, choice: int, x: str) -> str:
    makers = (net.relu, net.bn, net.depthwise, lambda x: net.conv(x, 4), lambda x: net.conv(x, 4, 1, act=False))
    return makers[choice](x)


def _joined(net: Sketch, choice: int, x: str, y: str) -> str:
    if choice == 0:
        return net.add(x, y)
    return net.op("Mul", x, net.op("Sigmoid", y)) if choice == 1 else net.conv(net.concat(x, y), 4, 1)
