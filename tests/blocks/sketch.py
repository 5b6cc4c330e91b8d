"""Networks for the block finder's tests, drawn in a line or two each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from aznas_onnx.blocks import Block, Blocks, find_blocks
from aznas_onnx.graph import Model, prepare
from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["Sketch", "found", "kinds"]


class Sketch:
    """A network on (batch, channels, 32, 32) whose widths look after themselves.

    Methods take and return tensor names; a name given by the caller is kept, others are made up.
    """

    def __init__(self, channels: int = 3, resolution: int = 32) -> None:
        self.net = GraphBuilder("sketch", opset=20)
        self.input = self.net.image_input(channels, resolution)
        self.width = {self.input: channels}
        self._count = 0

    def _name(self, name: str | None, what: str) -> str:
        self._count += 1
        return name or f"{what}_{self._count}"

    def op(
        self, op_type: str, *inputs: str, name: str | None = None, width: int | None = None, **attributes: object
    ) -> str:
        """Add any operator; the width is that of the first input unless given."""
        made = self.net.node(op_type, *inputs, name=self._name(name, op_type.lower()), **attributes)
        self.width[made] = self.width[inputs[0]] if width is None else width
        return made

    def conv(
        self,
        x: str,
        out: int,
        k: int = 3,
        s: int = 1,
        groups: int = 1,
        act: bool = True,
        bn: bool = True,
        name: str | None = None,
    ) -> str:
        """Convolution, normalisation, ReLU."""
        name = self._name(name, "conv")
        make = self.net.conv_bn if bn else self.net.conv
        made = make(x, name, self.width[x], out, kernel=k, stride=s, groups=groups)
        self.width[made] = out
        return self.op("Relu", made, name=f"{name}.act") if act else made

    def depthwise(self, x: str, k: int = 3, s: int = 1, act: bool = True) -> str:
        return self.conv(x, self.width[x], k, s, groups=self.width[x], act=act)

    def bn(self, x: str) -> str:
        made = self.net.batch_norm(x, self._name(None, "bn"), self.width[x])
        self.width[made] = self.width[x]
        return made

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def add(self, *inputs: str, name: str | None = None) -> str:
        return self.op("Add" if len(inputs) == 2 else "Sum", *inputs, name=name)

    def concat(self, *inputs: str, name: str | None = None) -> str:
        return self.op("Concat", *inputs, axis=1, width=sum(self.width[x] for x in inputs), name=name)

    def pool(self, x: str, kind: str = "MaxPool") -> str:
        return self.op(kind, x, kernel_shape=(2, 2), strides=(2, 2))

    def up(self, x: str) -> str:
        if "scales" not in self.width:
            self.net.constant("scales", np.array([1, 1, 2, 2], dtype=np.float32))
            self.width["scales"] = 0
        return self.op("Resize", x, "", "scales", mode="nearest")

    def squeeze_excite(self, x: str) -> str:
        pooled = self.op("GlobalAveragePool", x)
        gate = self.conv(
            self.conv(pooled, max(self.width[x] // 4, 1), 1, bn=False), self.width[x], 1, bn=False, act=False
        )
        return self.op("Mul", x, self.op("Sigmoid", gate))

    def inverted(self, x: str, out: int, expand: int = 4, s: int = 1, skip: bool = True) -> str:
        wide = self.conv(x, self.width[x] * expand, 1) if expand > 1 else x
        narrow = self.conv(self.depthwise(wide, s=s), out, 1, act=False)
        return self.add(x, narrow) if skip else narrow

    def residual(self, x: str, out: int | None = None, s: int = 1, name: str | None = None) -> str:
        """A ResNet basic block after its ReLU."""
        out = out or self.width[x]
        branch = self.conv(self.conv(x, out, s=s), out, act=False)
        skip = x if out == self.width[x] and s == 1 else self.conv(x, out, 1, s, act=False)
        return self.op("Relu", self.add(branch, skip), name=name)

    # -- tokens

    def patches(self, out: int, size: int = 4) -> str:
        """Embed patches of the input as tokens."""
        weight = self.net.weight("patches.weight", (out, self.width[self.input], size, size))
        return self.tokens(self.op("Conv", self.input, weight, width=out, strides=(size, size)))

    def tokens(self, x: str) -> str:
        """(batch, channels, height, width) to (batch, positions, channels)."""
        flat = self.net.reshape(x, self._name(None, "flat"), (0, self.width[x], -1))
        self.width[flat] = self.width[x]
        return self.op("Transpose", flat, perm=(0, 2, 1))

    def linear(self, x: str, out: int, name: str | None = None) -> str:
        made = self.net.linear(x, self._name(name, "linear"), self.width[x], out)
        self.width[made] = out
        return made

    def ln(self, x: str) -> str:
        made = self.net.layer_norm(x, self._name(None, "ln"), self.width[x])
        self.width[made] = self.width[x]
        return made

    def attention(self, x: str) -> str:
        """Scaled dot-product attention with one head."""
        query, key, value = (self.linear(x, self.width[x]) for _ in range(3))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=(0, 2, 1)))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value, width=self.width[x])
        return self.linear(mixed, self.width[x])

    def encoder(self, x: str) -> str:
        """A pre-norm transformer layer."""
        x = self.add(x, self.attention(self.ln(x)))
        hidden = self.op("Gelu", self.linear(self.ln(x), 2 * self.width[x]))
        return self.add(x, self.linear(hidden, self.width[x]))

    # -- the end

    def classify(self, x: str) -> Model:
        return prepare(self.net.model(self.net.classifier(x, "head", self.width[x], num_classes=10)), keep_graph=True)

    def finish(self, x: str) -> Model:
        """Return the model as it is, its output a feature map."""
        proto = self.net.model(x)
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        return prepare(proto, keep_graph=True)

    def average_tokens(self, x: str) -> Model:
        """Average the tokens and classify."""
        self.net.constant("token_axis", np.array([1], dtype=np.int64))
        mean = self.net.node("ReduceMean", x, "token_axis", name="mean", keepdims=0)
        return prepare(self.net.model(self.net.gemm(mean, "head", self.width[x], 10)), keep_graph=True)


def found(model: Model, patterns: Sequence[str] = ()) -> tuple[Block, ...]:
    return find_blocks(model, patterns).blocks


def kinds(blocks: Blocks | Sequence[Block]) -> dict[str, int]:
    listed = blocks.blocks if isinstance(blocks, Blocks) else blocks
    return dict(Counter(block.kind.value for block in listed))
