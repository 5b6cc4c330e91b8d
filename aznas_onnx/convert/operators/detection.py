"""Selection of boxes, at the end of detectors."""

from __future__ import annotations

import torch

from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.context import Call, Context, Converter, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def non_max_suppression(node: Node, context: Context) -> Call:
    """Return (batch, class, box) of the selected boxes; their number depends on data, so this waits for the device."""
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


def roi_align(*, half_pixel: bool) -> Converter:
    """Average pooling of boxes; `half_pixel` is whether the coordinates are moved by half a pixel by default."""

    def convert(node: Node, context: Context) -> Call:
        from torchvision.ops import roi_align as pool

        mode = text(node, "mode", "avg")
        if mode != "avg":
            raise unsupported(node, f"has mode {mode!r}", "'avg' is supported")
        size = (integer(node, "output_height", 1), integer(node, "output_width", 1))
        ratio, scale = integer(node, "sampling_ratio", 0), number(node, "spatial_scale", 1.0)
        default = "half_pixel" if half_pixel else "output_half_pixel"
        aligned = text(node, "coordinate_transformation_mode", default) == "half_pixel"

        def run(x: Tensor, boxes: Tensor, samples: Tensor) -> Tensor:
            boxes = torch.cat((samples[:, None].to(boxes.dtype), boxes), dim=1)
            result: Tensor = pool(x, boxes, size, scale, ratio, aligned)
            return result

        return Call(run, node.inputs)

    return convert
