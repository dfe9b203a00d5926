"""What the detector is taught: scores, boxes, sides, and what the teacher sees.

Weights are those of PP-YOLOE (arXiv:2203.16250) for scores, boxes and sides. All parts are divided by the sum of the
target scores of the batch, as in TOOD: every object counts alike, however many places answer for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from assign import assign, iou
from gelan import BINS, decode
from torch import Tensor
from torch.nn import functional

SCORES, BOXES, SIDES = 1.0, 2.5, 0.5


@dataclass(frozen=True)
class Truth:
    """The labels of a batch.

    Args:
        boxes, labels, real: float32 [b, m, 4] xyxy in pixels, int64 [b, m], and bool [b, m], False for padding.
        weights: float32 [b, n, classes], how far each place and class counts where no box is.
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Truth:
        """The same on another device."""
        return Truth(self.boxes.to(device), self.labels.to(device), self.real.to(device), self.weights.to(device))


@dataclass(frozen=True)
class Losses:
    """The parts, unweighted; `total` is what is minimised."""

    scores: Tensor
    boxes: Tensor
    sides: Tensor

    @property
    def total(self) -> Tensor:
        return SCORES * self.scores + BOXES * self.boxes + SIDES * self.sides


def detection_loss(logits: Tensor, bins: Tensor, centres: Tensor, strides: Tensor, truth: Truth) -> Losses:
    """Holds a head's output against the labels.

    Args:
        logits, bins: [b, n, classes] and [b, n, 4, BINS], as `gelan.Head` gives them.
        centres, strides: [n, 2] and [n, 1], of `gelan.anchors`.
    """
    boxes = decode(bins, centres, strides)
    given = assign(logits.detach().sigmoid(), boxes.detach(), centres, truth.boxes, truth.labels, truth.real)
    target = functional.one_hot(given.labels, logits.shape[2]) * given.quality[..., None]
    mass = given.quality.sum().clamp(min=1.0)
    # An answer for a box counts in full, whatever the photo knows of the class.
    weights = torch.where(target > 0, torch.ones_like(target), truth.weights)
    scores = (functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weights).sum() / mass
    chosen = given.positive
    if not chosen.any():
        return Losses(scores, bins.sum() * 0.0, bins.sum() * 0.0)
    quality = given.quality[chosen]
    away = (1.0 - complete_iou(boxes[chosen], given.boxes[chosen])) * quality
    centre, stride = centres.expand(len(logits), -1, -1)[chosen], strides.expand(len(logits), -1, -1)[chosen]
    wanted = torch.cat([centre - given.boxes[chosen][:, :2], given.boxes[chosen][:, 2:] - centre], dim=1) / stride
    spread = distribution_focal(bins[chosen], wanted).mean(dim=1) * quality
    return Losses(scores, away.sum() / mass, spread.sum() / mass)


def teaching_loss(logits: Tensor, seen: Tensor, weights: Tensor) -> Tensor:
    """Holds class logits [b, n, c] against a teacher's scores of the same places: quality focal loss, exponent 2.

    Divided by the sum of the teacher's scores. (Li et al., arXiv:2006.04388, equation 3.) Ignored places and classes,
    those whose weight is 0, count for nothing.
    """
    apart = (logits.sigmoid() - seen).abs() ** 2 * (weights > 0)
    entropy = functional.binary_cross_entropy_with_logits(logits, seen, reduction="none")
    return (apart * entropy).sum() / seen.sum().clamp(min=1.0)


def complete_iou(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Complete IoU of boxes [k, 4], pair by pair: at most 1 (Zheng et al., arXiv:1911.08287)."""
    overlap = iou(boxes, wanted)
    around = torch.maximum(boxes[:, 2:], wanted[:, 2:]) - torch.minimum(boxes[:, :2], wanted[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - wanted[:, :2] - wanted[:, 2:]) / 2
    distance = (apart**2).sum(dim=1) / ((around**2).sum(dim=1) + 1e-9)
    shape = (4 / math.pi**2) * (_angle(wanted) - _angle(boxes)) ** 2
    with torch.no_grad():
        weight = shape / (1 - overlap + shape + 1e-9)
    return overlap - distance - weight * shape


def distribution_focal(bins: Tensor, sides: Tensor) -> Tensor:
    """Cross entropy against the two bins beside each side; [k, 4, BINS] and [k, 4] in strides to [k, 4]."""
    sides = sides.clamp(0, BINS - 1 - 0.01)
    below = sides.floor()
    logs = bins.log_softmax(dim=2)
    left = logs.gather(2, below.long()[..., None])[..., 0]
    right = logs.gather(2, below.long()[..., None] + 1)[..., 0]
    return -(left * (below + 1 - sides) + right * (sides - below))


def _angle(boxes: Tensor) -> Tensor:
    return torch.atan((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]).clamp(min=1e-6))
