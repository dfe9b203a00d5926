"""Runs a detector of PyTorch on photos as the SDK would: letterboxed, decoded, suppressed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from augment import centred
from gelan import Detector, anchors, decode
from photos import Photo
from training import as_input

from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.heads.yolo_nas import HEAD
from edge_sdk.sources.files import read_photo

CONFIDENCE = 0.01
IOU = HEAD.default_iou
_BATCH = 16


@torch.no_grad()
def look(detector: Detector, photos: Sequence[Photo], height: int, width: int) -> list[Detections]:
    """What the detector finds in each photo, in the photo's own pixels."""
    detector.eval()
    device = next(detector.parameters()).device
    centres, strides = (places.to(device) for places in anchors(height, width))
    found = []
    for first in range(0, len(photos), _BATCH):
        some = photos[first : first + _BATCH]
        pixels = [read_photo(photo.path) for photo in some]
        pictures = np.stack([centred(p, x, height, width).picture for p, x in zip(some, pixels, strict=True)])
        logits, bins = detector(as_input(torch.from_numpy(pictures).to(device)))
        boxes, scores = decode(bins, centres, strides).cpu().numpy(), logits.sigmoid().cpu().numpy()
        for row, picture in enumerate(pixels):
            index, classes, confidence = nms.candidates(scores[row], CONFIDENCE, multi_label=True)
            kept = nms.suppress(boxes[row][index], confidence, classes, IOU, limit=100)
            scale = min(height / picture.shape[0], width / picture.shape[1])
            margin = (np.array([width, height]) - np.array(picture.shape[1::-1]) * scale) / 2
            xyxy = (boxes[row][index][kept] - np.tile(margin, 2)) / scale
            limits = np.array([*picture.shape[1::-1], *picture.shape[1::-1]])
            found.append(Detections(xyxy.clip(0, limits).astype(np.float32), confidence[kept], classes[kept]))
    return found
