"""Selection of boxes, which detectors end with."""

from __future__ import annotations

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def non_max_suppression(node: Node, context: Context) -> Call:
    """Return (batch, class, box) of the boxes kept; how many depends on data, so this waits for the device."""
    from torchvision.ops import nms

    centred = bool(integer(node, "center_point_box", 0))
    limits = context.ints(node, 2, "the number of boxes")
    limit = int(limits[0]) if limits else 0
    iou_limit = context.scalar(node.input(3)) or 0.0
    score_limit = context.scalar(node.input(4)) if node.input(4) else None

    def run(boxes: Tensor, scores: Tensor) -> Tensor:
        if centred:
            middle, half = boxes[..., :2], boxes[..., 2:] / 2
            corners = torch.cat((middle - half, middle + half), dim=-1)
        else:  # any two opposite corners
            first, second = boxes[..., :2], boxes[..., 2:]
            corners = torch.cat((torch.minimum(first, second), torch.maximum(first, second)), dim=-1)
        kept = []
        for batch in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                own = scores[batch, label]
                candidates = torch.arange(own.shape[0], device=own.device)
                if score_limit is not None:
                    candidates = torch.nonzero(own > score_limit).squeeze(1)
                best = candidates[nms(corners[batch, candidates], own[candidates], iou_limit)][:limit]
                place = best.new_tensor([batch, label]).expand(best.shape[0], 2)
                kept.append(torch.cat((place, best[:, None]), dim=1))
        return torch.cat(kept)

    return Call(run, node.inputs[:2])
