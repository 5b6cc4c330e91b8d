"""Fourier transforms. A complex tensor has a last axis of two, a real one of one."""

from __future__ import annotations

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def _as_complex(x: Tensor) -> Tensor:
    """Drop the last axis: real numbers stay real."""
    return x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _as_pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj())


def dft(node: Node, context: Context) -> Call:
    """Take the axis from an attribute before version 20 and from an input from it on."""
    rank = context.rank(node, node.inputs[0])
    if node.version >= 20:
        axis = (context.ints(node, 2, "the axis") or (-2,))[0] if node.input(2) else -2
    else:
        axis = integer(node, "axis", 1)
    axis %= rank
    lengths = context.ints(node, 1, "the length")
    length = lengths[0] if lengths else None
    inverse, onesided = bool(integer(node, "inverse", 0)), bool(integer(node, "onesided", 0))

    def run(x: Tensor) -> Tensor:
        signal = _as_complex(x)
        if inverse and onesided:
            real: Tensor = torch.fft.irfft(signal, length, axis)
            return real.unsqueeze(-1)
        if inverse:
            return _as_pairs(torch.fft.ifft(signal, length, axis))
        if onesided:
            return _as_pairs(torch.fft.rfft(signal, length, axis))
        return _as_pairs(torch.fft.fft(signal, length, axis))

    return Call(run, node.inputs[:1])


def stft(node: Node, context: Context) -> Call:
    steps, lengths = context.ints(node, 1, "the step"), context.ints(node, 3, "the frame length")
    step, onesided = (steps or (1,))[0], bool(integer(node, "onesided", 1))

    def run(x: Tensor, window: Tensor | None = None) -> Tensor:
        length = lengths[0] if lengths else x.shape[1] if window is None else window.shape[0]
        frames = _as_complex(x).unfold(1, length, step)
        frames = frames if window is None else frames * window
        transform = torch.fft.rfft if onesided and not frames.is_complex() else torch.fft.fft
        return _as_pairs(transform(frames))

    return Call(run, (node.inputs[0], node.input(2)))
