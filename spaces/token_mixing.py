"""The six ways in which an encoder layer of FlexiBERT mixes tokens (Tuli et al., JAIR 2023).

Each takes and gives (batch, tokens, width), and is followed by a projection, a sum and a normalisation that are the
layer's. They are those of the code of NAS-Bench-BERT (Serianni and Kalita, ACL 2023), which the rows of the benchmark
were written for.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from aznas_onnx.caches import cached
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces.multi_head_attention import Heads

__all__ = ["Mixer", "TokenMixing"]

Array = npt.NDArray[Any]


class Mixer(Protocol):
    """A way to mix the tokens of a layer."""

    def params(self, heads: Heads) -> int:
        """Return the number of trainable parameters."""
        ...

    def macs(self, heads: Heads) -> int:
        """Return the multiply-adds for one sample."""
        ...

    def constants(self, heads: Heads) -> Mapping[str, Array]:
        """Return the tensors that :meth:`write` reads besides weights, by names that all layers share."""
        ...

    def write(self, net: GraphBuilder, x: str, name: str, heads: Heads) -> str:
        """Write the operation."""
        ...


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Scaled dot products; where it is weighted, queries are multiplied by one more matrix without bias."""

    is_weighted: bool

    def params(self, heads: Heads) -> int:
        return self._matrices * heads.width**2 + 3 * heads.width

    def macs(self, heads: Heads) -> int:
        return self._matrices * heads.tokens * heads.width**2 + heads.attention_macs

    def constants(self, heads: Heads) -> Mapping[str, Array]:
        return {}

    def write(self, net: GraphBuilder, x: str, name: str, heads: Heads) -> str:
        width = heads.width
        query, key, value = (net.linear(x, f"{name}.{part}", width, width) for part in ("query", "key", "value"))
        if self.is_weighted:
            query = net.node("MatMul", query, net.weight(f"{name}.weight", (width, width)), name=f"{name}.weighted")
        return heads.attend(net, query, key, value, name)

    @property
    def _matrices(self) -> int:
        return 4 if self.is_weighted else 3


@dataclass(frozen=True, slots=True)
class LinearTransform:
    """A projection, of which each head is transformed along its tokens and its features, without normalisation.

    The transform is the real part of the discrete Fourier transform, or the cosine transform DCT-II. Both are products
    with constant matrices here: C X c - S X s with cosines and sines, or D X d.
    """

    is_cosine: bool

    def params(self, heads: Heads) -> int:
        return heads.width**2 + heads.width

    def macs(self, heads: Heads) -> int:
        products = 1 if self.is_cosine else 2
        transforms = products * heads.tokens * heads.width * (heads.tokens + heads.part)
        return heads.tokens * heads.width**2 + transforms

    def constants(self, heads: Heads) -> Mapping[str, Array]:
        if self.is_cosine:
            return {"dct.tokens": _dct(heads.tokens), f"dct.{heads.part}": _dct(heads.part).T}
        return {"dft.tokens": _dft(heads.tokens, -1), f"dft.{heads.part}": _dft(heads.part, 1)}

    def write(self, net: GraphBuilder, x: str, name: str, heads: Heads) -> str:
        kind = "dct" if self.is_cosine else "dft"
        x = heads.divide(net, net.linear(x, f"{name}.input", heads.width, heads.width), f"{name}.heads")
        x = net.node("MatMul", x, f"{kind}.{heads.part}", name=f"{name}.along_features")
        if not self.is_cosine:
            parts = net.split(x, f"{name}.cosine_and_sine", 2, heads.part)
            x = net.node("Concat", *parts, name=f"{name}.stacked", axis=2)
        x = net.node("MatMul", f"{kind}.tokens", x, name=f"{name}.along_tokens")
        return heads.join(net, x, f"{name}.joined")


@dataclass(frozen=True, slots=True)
class DynamicSpan:
    """ConvBERT's mixed attention: half of the heads attend, half convolve with a kernel that each token computes.

    A kernel is the softmax of a projection of the query times a depthwise separable convolution of the input.
    """

    kernel: int

    def params(self, heads: Heads) -> int:
        half = _half(heads)
        convolution = self.kernel * heads.width
        kernels = (half.width + 1) * half.count * self.kernel
        return 5 * (heads.width + 1) * half.width + convolution + kernels

    def macs(self, heads: Heads) -> int:
        half = _half(heads)
        convolution = self.kernel * heads.width
        kernels = half.width * half.count * self.kernel
        weighted = self.kernel * half.width
        return heads.tokens * (5 * heads.width * half.width + convolution + kernels + weighted) + half.attention_macs

    def constants(self, heads: Heads) -> Mapping[str, Array]:
        return {f"windows.{self.kernel}": np.add.outer(np.arange(heads.tokens), np.arange(self.kernel))}

    def write(self, net: GraphBuilder, x: str, name: str, heads: Heads) -> str:
        half = _half(heads)
        query, key, value = (
            net.linear(x, f"{name}.{part}", heads.width, half.width) for part in ("query", "key", "value")
        )
        attended = half.attend(net, query, key, value, name)
        convolved = self._convolve(net, x, self._kernels(net, x, query, name, heads), name, heads)
        return net.node("Concat", attended, convolved, name=f"{name}.both", axis=2)

    def _kernels(self, net: GraphBuilder, x: str, query: str, name: str, heads: Heads) -> str:
        """Write a kernel for each token and head: (batch, tokens, heads, 1, kernel)."""
        half, layer = _half(heads), f"{name}.key_conv_attn_layer"
        weight = net.weight(f"{layer}.depthwise.weight", (heads.width, 1, self.kernel))
        sizes = {"kernel_shape": (self.kernel,), "pads": (self.kernel // 2,) * 2, "group": heads.width}
        y = net.node("Conv", net.transpose(x, f"{layer}.input", (0, 2, 1)), weight, name=f"{layer}.depthwise", **sizes)
        y = net.linear(net.transpose(y, f"{layer}.tokens", (0, 2, 1)), f"{layer}.pointwise", heads.width, half.width)
        y = net.node("Mul", y, query, name=f"{layer}.times_query")
        y = net.linear(y, f"{name}.conv_kernel_layer", half.width, half.count * self.kernel)
        y = net.reshape(y, f"{name}.kernels.parts", (0, heads.tokens, half.count, 1, self.kernel))
        return net.node("Softmax", y, name=f"{name}.kernels", axis=-1)

    def _convolve(self, net: GraphBuilder, x: str, kernels: str, name: str, heads: Heads) -> str:
        half, layer = _half(heads), f"{name}.conv_out_layer"
        y = net.linear(x, layer, heads.width, half.width)
        beside = self.kernel // 2
        y = net.node("Pad", y, net.constant(f"{layer}.pads", [0, beside, 0, 0, beside, 0]), name=f"{layer}.padded")
        y = net.node("Gather", y, f"windows.{self.kernel}", name=f"{layer}.windows", axis=1)
        y = net.reshape(y, f"{layer}.windows.parts", (0, heads.tokens, self.kernel, half.count, half.part))
        y = net.transpose(y, f"{layer}.windows.by_head", (0, 1, 3, 2, 4))
        y = net.node("MatMul", kernels, y, name=f"{name}.convolved.parts")
        return net.reshape(y, f"{name}.convolved", (0, heads.tokens, half.width))


class TokenMixing(enum.Enum):
    """How a layer mixes tokens: the type and the parameter of its operation in the notation."""

    DOT_PRODUCT = ("SA", "SDP")
    WEIGHTED_PRODUCT = ("SA", "WMA")
    FOURIER = ("LT", "DFT")
    COSINE = ("LT", "DCT")
    DYNAMIC_SPAN_5 = ("DSC", 5)
    DYNAMIC_SPAN_9 = ("DSC", 9)

    @property
    def mixer(self) -> Mixer:
        """The operation."""
        return _MIXERS[self]


_MIXERS: Mapping[TokenMixing, Mixer] = MappingProxyType(
    {
        TokenMixing.DOT_PRODUCT: SelfAttention(is_weighted=False),
        TokenMixing.WEIGHTED_PRODUCT: SelfAttention(is_weighted=True),
        TokenMixing.FOURIER: LinearTransform(is_cosine=False),
        TokenMixing.COSINE: LinearTransform(is_cosine=True),
        TokenMixing.DYNAMIC_SPAN_5: DynamicSpan(5),
        TokenMixing.DYNAMIC_SPAN_9: DynamicSpan(9),
    }
)


def _half(heads: Heads) -> Heads:
    """Return half of the heads; their width stays."""
    return replace(heads, count=heads.count // 2, width=heads.width // 2)


@cached(16, "few sizes are transformed")
def _dft(size: int, sign: int) -> npt.NDArray[np.float32]:
    """Return cosines beside sines times `sign` of 2 pi k n / size: (size, 2 x size)."""
    steps = np.outer(np.arange(size), np.arange(size)) % size
    angles = 2 * np.pi * steps / size
    return np.concatenate([np.cos(angles), sign * np.sin(angles)], axis=1).astype(np.float32)


@cached(16, "few sizes are transformed")
def _dct(size: int) -> npt.NDArray[np.float32]:
    """Return 2 cos(pi k (2 n + 1) / 2 size), by k and n."""
    steps = np.outer(np.arange(size), 2 * np.arange(size) + 1) % (4 * size)
    return (2 * np.cos(np.pi * steps / (2 * size))).astype(np.float32)
