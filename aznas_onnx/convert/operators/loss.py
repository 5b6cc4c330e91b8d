"""Losses, at the end of training graphs."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, text
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def negative_log_likelihood(node: Node, context: Context) -> Call:
    reduction, ignored = text(node, "reduction", "mean"), integer(node, "ignore_index", -100)

    def run(x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.nll_loss(x, target.long(), weight, ignore_index=ignored, reduction=reduction)

    return Call(run, node.inputs)


def softmax_cross_entropy(node: Node, context: Context) -> Call:
    reduction, ignored = text(node, "reduction", "mean"), integer(node, "ignore_index", -100)

    def run(x: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logarithms = torch.log_softmax(x, dim=1)
        loss = F.nll_loss(logarithms, target.long(), weight, ignore_index=ignored, reduction=reduction)
        return loss, logarithms

    return Call(run, node.inputs)
