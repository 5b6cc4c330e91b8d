"""The inverted bottleneck (MBConv) of MobileNetV2 and MnasNet, as a piece of a network and as formulas.

In mbv2 it is another one: ReLU after the sum, and a shortcut with a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["InvertedBottleneck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedBottleneck:
    """A 1x1 expansion, a depthwise convolution, squeeze-and-excitation, and a 1x1 projection.

    Every convolution is followed by a BatchNorm, the first two by a ReLU as well; the projection is linear. The input
    is added to the output where their shapes agree. At expansion 1 there is no expansion convolution. Squeeze-and-
    excitation has two 1x1 convolutions with bias, a ReLU between them and a hard sigmoid after them.

    Attributes
    ----------
    squeeze_channels
        Width between the two convolutions of squeeze-and-excitation; 0 leaves it out.
    """

    in_channels: int
    out_channels: int
    expansion: int
    kernel: int
    stride: int = 1
    squeeze_channels: int = 0

    @property
    def hidden(self) -> int:
        """Width of the depthwise convolution."""
        return self.in_channels * self.expansion

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        hidden, squeezed = self.hidden, self.squeeze_channels
        expand = (self.in_channels + 2) * hidden if self.expansion > 1 else 0
        excite = (2 * hidden + 1) * squeezed + hidden if squeezed else 0
        return expand + (self.kernel**2 + 2) * hidden + excite + (hidden + 2) * self.out_channels

    def size_after(self, size: int) -> int:
        """Return the resolution of the output for one of the input."""
        return -(-size // self.stride)

    def macs(self, size: int) -> int:
        """Return the multiply-adds at a resolution of the input."""
        expand = self.in_channels * self.hidden if self.expansion > 1 else 0
        after = (self.kernel**2 + self.out_channels) * self.hidden
        return expand * size**2 + after * self.size_after(size) ** 2 + 2 * self.hidden * self.squeeze_channels

    def normalised(self, size: int) -> int:
        """Return the number of output elements of its BatchNorms at a resolution of the input."""
        expand = self.hidden if self.expansion > 1 else 0
        return expand * size**2 + (self.hidden + self.out_channels) * self.size_after(size) ** 2

    def write(self, net: GraphBuilder, x: str, name: str) -> str:
        """Add it to a network, and return its output."""
        hidden, y = self.hidden, x
        if self.expansion > 1:
            y = net.conv_bn(y, f"{name}.expand", self.in_channels, hidden, kernel=1)
            y = net.relu(y, f"{name}.expand.relu")
        depthwise = f"{name}.depthwise"
        y = net.conv_bn(y, depthwise, hidden, hidden, kernel=self.kernel, stride=self.stride, groups=hidden)
        y = net.relu(y, f"{depthwise}.relu")
        if self.squeeze_channels:
            y = _squeeze_excitation(net, y, f"{name}.se", hidden, self.squeeze_channels)
        y = net.conv_bn(y, f"{name}.project", hidden, self.out_channels, kernel=1)
        if self.stride == 1 and self.in_channels == self.out_channels:
            y = net.add(y, x, f"{name}.add")
        return y


def _squeeze_excitation(net: GraphBuilder, x: str, name: str, channels: int, squeezed: int) -> str:
    gate = net.node("GlobalAveragePool", x, name=f"{name}.pool")
    gate = net.relu(net.conv(gate, f"{name}.fc1", channels, squeezed, kernel=1, bias=True), f"{name}.relu")
    gate = net.conv(gate, f"{name}.fc2", squeezed, channels, kernel=1, bias=True)
    gate = net.node("HardSigmoid", gate, name=f"{name}.gate", alpha=1 / 6, beta=0.5)
    return net.node("Mul", x, gate, name=name)
