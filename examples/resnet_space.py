"""A user space in one file: residual networks of three stages for small images.

aznas spaces sample examples/resnet_space.py
aznas search --space examples/resnet_space.py --params 1M --iterations 100 --db resnet.db
"""

# ruff: noqa: D102  (the contract of the methods stands on Space)

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import onnx

from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces import GenotypeError, Space, choose, quote

WIDTHS = (16, 24, 32, 48, 64, 96, 128)
DEPTHS = (1, 2, 3, 4)


@dataclass(frozen=True)
class ResNet:
    """A genotype: width and number of residual blocks of each stage."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]


class ResNetSpace(Space[ResNet]):
    """Residual networks, written as width x depth of each stage: 16x2-32x2-64x2."""

    name = "resnet-like"
    default_resolution = 32
    default_num_classes = 10

    def sample(self, rng: np.random.Generator) -> ResNet:
        return ResNet(tuple(choose(WIDTHS, rng) for _ in range(3)), tuple(choose(DEPTHS, rng) for _ in range(3)))

    def mutate(self, genotype: ResNet, rng: np.random.Generator, changes: int = 1) -> ResNet:
        for _ in range(changes):
            stage, drawn = int(rng.integers(3)), self.sample(rng)
            field = choose(("widths", "depths"), rng)
            values = list(getattr(genotype, field))
            values[stage] = getattr(drawn, field)[stage]
            genotype = replace(genotype, **{field: tuple(values)})
        return genotype

    def parse(self, text: str) -> ResNet:
        stages = [re.fullmatch(r"(\d{1,4})x(\d{1,2})", stage) for stage in text.strip().split("-")]
        matches = [match for match in stages if match]
        if len(matches) != len(stages):
            raise GenotypeError(f"{quote(text)} is not width x depth of each stage, such as 16x2-32x2-64x2")
        genotype = ResNet(tuple(int(match[1]) for match in matches), tuple(int(match[2]) for match in matches))
        self.validate(genotype)
        return genotype

    def format(self, genotype: ResNet) -> str:
        return "-".join(f"{width}x{depth}" for width, depth in zip(genotype.widths, genotype.depths, strict=True))

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, ResNet) or (len(genotype.widths), len(genotype.depths)) != (3, 3):
            raise GenotypeError(f"{genotype!r} is not a ResNet of three stages")
        if not set(genotype.widths) <= set(WIDTHS) or not set(genotype.depths) <= set(DEPTHS):
            raise GenotypeError(f"{self.format(genotype)} is outside the space: widths {WIDTHS}, depths {DEPTHS}")

    def build(self, genotype: ResNet) -> onnx.ModelProto:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        x, channels = net.image_input(3, self.resolution), 16
        x = net.relu(net.conv_bn(x, "stem", 3, channels, kernel=3), "stem.relu")
        net.declare_block(x)
        for stage, (width, depth) in enumerate(zip(genotype.widths, genotype.depths, strict=True)):
            for index in range(depth):
                name, stride = f"stages.{stage}.{index}", 2 if stage > 0 and index == 0 else 1
                y = net.relu(net.conv_bn(x, f"{name}.a", channels, width, kernel=3, stride=stride), f"{name}.a.relu")
                y = net.conv_bn(y, f"{name}.b", width, width, kernel=3)
                if stride > 1 or channels != width:
                    x = net.conv_bn(x, f"{name}.shortcut", channels, width, kernel=1, stride=stride)
                x, channels = net.relu(net.add(x, y, f"{name}.add"), f"{name}.relu"), width
                net.declare_block(x)  # the blocks that are scored
        return net.model(net.classifier(x, "head", channels, num_classes=self.num_classes))


SPACE = ResNetSpace  # what aznas looks for
