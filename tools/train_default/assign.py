"""Which places of the head answer for which box: task-aligned assignment (TOOD, Feng et al., arXiv:2108.07755).

A place is the better for a box, the better it already scores the box's class *and* hits the box:
alignment = score ** ALPHA * IoU ** BETA. The `PLACES` best places inside a box answer for it; their target is not 1 but
the alignment, scaled so that the best one's target is the largest IoU among them. So the score learns how well a box is
placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA, BETA, PLACES = 0.5, 6.0, 10  # YOLOv8's and YOLOv9's values; the paper's are 1, 6, 13
_LEAST_SIDE = 12.0  # pixels: a smaller box may hold no place at all, and is taken to be this large for the choice


@dataclass(frozen=True)
class Assigned:
    """For each place: whether it answers for a box, which class, which box (xyxy, pixels), and its target score."""

    positive: Tensor
    labels: Tensor
    boxes: Tensor
    quality: Tensor


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, centres: Tensor, true_boxes: Tensor, true_labels: Tensor, real: Tensor
) -> Assigned:
    """Assigns places to boxes.

    Args:
        scores: float32 [b, n, classes], 0 to 1.
        boxes: float32 [b, n, 4], as decoded.
        centres: float32 [n, 2] of the places.
        true_boxes, true_labels: float32 [b, m, 4] and int64 [b, m]; `real` bool [b, m] is False for the padding.

    Returns:
        Tensors of [b, n], boxes [b, n, 4].
    """
    if true_boxes.shape[1] == 0:
        nowhere = torch.zeros(scores.shape[:2], device=scores.device)
        return Assigned(nowhere.bool(), nowhere.long(), torch.zeros_like(boxes), nowhere)
    overlap = iou(true_boxes[:, :, None], boxes[:, None])  # [b, m, n]
    score = scores.transpose(1, 2).gather(1, true_labels[..., None].expand(-1, -1, scores.shape[1]))
    alignment = score**ALPHA * overlap**BETA * (_inside(centres, true_boxes) & real[..., None])
    best = alignment.topk(min(PLACES, alignment.shape[2]), dim=2)
    chosen = torch.zeros_like(alignment, dtype=torch.bool).scatter_(2, best.indices, best.values > 0)
    # A place between two boxes answers for the one it overlaps more.
    owner = (overlap * chosen).argmax(dim=1)  # [b, n]
    positive = chosen.any(dim=1)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    alignment, overlap = alignment * chosen, overlap * chosen
    scale = overlap.amax(dim=2, keepdim=True) / alignment.amax(dim=2, keepdim=True).clamp(min=1e-9)
    quality = (alignment * scale).amax(dim=1)
    return Assigned(
        positive,
        true_labels.gather(1, owner),
        true_boxes.gather(1, owner[..., None].expand(-1, -1, 4)),
        quality,
    )


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of xyxy boxes [..., 4], broadcast."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = sides.prod(dim=-1)
    return shared / (_area(a) + _area(b) - shared + 1e-9)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=_LEAST_SIDE / 2)
    away = (centres[None, None] - middle[:, :, None]).abs()
    return (away < half[:, :, None]).all(dim=-1)
