"""Normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, number
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


class NormaliseByBatch:
    """Normalisation by the statistics of the batch: the function of a step of ``(x, scale, bias)``."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon

    def __call__(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the normalised (batch, channels, ...) tensor."""
        return torch.batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, True)


def batch_normalization(node: Node, context: Context) -> Call:
    """Statistics of the batch where the program trains or the file has training mode; running ones otherwise.

    Training mode is `training_mode` from version 14 on, and more than one output before; version 6 has `is_test`.
    """
    if not integer(node, "spatial", 1):
        raise unsupported(node, "has spatial=0", "normalisation per channel (spatial=1) is supported")
    epsilon, momentum = number(node, "epsilon", 1e-5), number(node, "momentum", 0.9)
    if node.version < 7:
        requested = not integer(node, "is_test", 0)
    else:
        requested = bool(integer(node, "training_mode", 0)) if node.version >= 14 else any(node.outputs[1:])
    if not (context.training or requested):
        return Call(
            lambda x, scale, bias, mean, var: torch.batch_norm(x, scale, bias, mean, var, False, 0.0, epsilon, True),
            node.inputs,
        )
    if not any(context.is_read(name) for name in node.outputs[1:]):
        return Call(NormaliseByBatch(epsilon), node.inputs[:3])

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        batch_var, batch_mean = torch.var_mean(x, axes, correction=0)
        result = torch.batch_norm(x, scale, bias, None, None, True, 0.0, epsilon, True)
        running_mean = mean * momentum + batch_mean * (1 - momentum)
        running_var = var * momentum + batch_var * (1 - momentum)
        return result, running_mean, running_var, batch_mean, batch_var

    return Call(run, node.inputs)


def instance_normalization(node: Node, context: Context) -> Call:
    epsilon = number(node, "epsilon", 1e-5)
    return Call(
        lambda x, scale, bias: torch.instance_norm(x, scale, bias, None, None, True, 0.0, epsilon, True), node.inputs
    )


def group_normalization(node: Node, context: Context) -> Call:
    """Scale and bias are one a channel from version 21 on, one a group in version 18."""
    groups, epsilon = integer(node, "num_groups", 1), number(node, "epsilon", 1e-5)
    channels = context.shape(node, node.inputs[0])[1]
    if context.shape(node, node.inputs[1]) == (channels,):
        return Call(lambda x, scale, bias: torch.group_norm(x, groups, scale, bias, epsilon), node.inputs)
    repeat = channels // groups

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return torch.group_norm(x, groups, scale.repeat_interleave(repeat), bias.repeat_interleave(repeat), epsilon)

    return Call(run, node.inputs)


def layer_normalization(node: Node, context: Context) -> Call:
    shape = context.shape(node, node.inputs[0])
    axis, epsilon = integer(node, "axis", -1), number(node, "epsilon", 1e-5)
    normalized = list(shape[axis % len(shape) :])
    plain = all(not name or list(context.known_shape(name) or ()) == normalized for name in node.inputs[1:])
    with_statistics = any(context.is_read(name) for name in node.outputs[1:])
    if plain and not with_statistics:
        return Call(lambda x, scale=None, bias=None: torch.layer_norm(x, normalized, scale, bias, epsilon), node.inputs)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        result, mean, inverse_std = torch.native_layer_norm(x, normalized, None, None, epsilon)
        result = result * scale
        return (result if bias is None else result + bias), mean, inverse_std

    return Call(run, node.inputs)


def rms_normalization(node: Node, context: Context) -> Call:
    shape = context.shape(node, node.inputs[0])
    axis, epsilon = integer(node, "axis", -1), number(node, "epsilon", 1e-5)
    axes = tuple(range(axis % len(shape), len(shape)))

    def run(x: Tensor, scale: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale

    return Call(run, node.inputs)


def mean_variance_normalization(node: Node, context: Context) -> Call:
    axes = integers(node, "axes") or (0, 2, 3)

    def run(x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / (std + 1e-9)  # the constant of the operator's definition

    return Call(run, node.inputs)


def lp_normalization(node: Node, context: Context) -> Call:
    axis, p = integer(node, "axis", -1), number(node, "p", 2)
    return Call(lambda x: F.normalize(x, p=p, dim=axis), node.inputs)


def local_response_normalization(node: Node, context: Context) -> Call:
    size = integer(node, "size", 1)
    alpha, beta, bias = number(node, "alpha", 1e-4), number(node, "beta", 0.75), number(node, "bias", 1.0)
    if size % 2 == 1:
        return Call(lambda x: F.local_response_norm(x, size, alpha, beta, bias), node.inputs)
    # Torch puts the odd one out of an even window before the channel, ONNX after it.
    pads = ((size - 1) // 2, size // 2)

    def run(x: Tensor) -> Tensor:
        squares = F.pad(x.square().movedim(1, -1), pads)
        total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return x / (bias + alpha / size * total) ** beta

    return Call(run, node.inputs)
