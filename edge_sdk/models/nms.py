"""From raw scores to kept boxes: candidates, then non-maximum suppression within each class."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array

# Candidates that enter suppression, best first. The evaluation rule of the design.
MAX_CANDIDATES = 3000
MAX_DETECTIONS = 300

# OpenCV's own bound of an area that is none, and the side of a square that is larger.
_NO_AREA = float(np.finfo(np.float64).eps)
_LEAST_SIDE = 1e-7

# Below this many boxes the number of NumPy calls costs more than what they compute.
_FEW = 512


def candidates(
    scores: Array, confidence: float, *, multi_label: bool
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]:
    """The boxes whose class scores pass the threshold.

    Args:
        scores: float [n, c], or its transpose as a view of [c, n] memory: whichever the model wrote.
        confidence: The least score, 0..1; a candidate is above it.
        multi_label: Every class above the threshold makes a candidate of its box; otherwise the best one.

    Returns:
        Row of `scores` [m], class id [m] and score [m] of each candidate, in no order.
    """
    if len(scores) <= _FEW or scores.strides[0] < scores.strides[1]:
        # Few boxes, or a class's scores lie together, where the maximum over classes is vectorised.
        best = scores.max(axis=1)
        rows = np.flatnonzero(best > confidence)
        if not multi_label:
            return rows, scores[rows].argmax(axis=1).astype(np.int32), best[rows].astype(np.float32, copy=False)
    else:  # a box's scores lie together: comparing all of them is twice as fast as the maximum of each row
        hits = np.flatnonzero(scores > confidence) // scores.shape[1]
        rows = hits[np.diff(hits, prepend=-1) > 0]  # each row once; they come sorted
    survivors = scores[rows]
    if multi_label:
        index, classes = np.nonzero(survivors > confidence)
    else:
        index, classes = np.arange(len(rows)), survivors.argmax(axis=1)
    return rows[index], classes.astype(np.int32), survivors[index, classes].astype(np.float32)


def suppress(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_id: NDArray[np.int32],
    iou: float,
    *,
    limit: int = MAX_DETECTIONS,
) -> NDArray[np.intp]:
    """Class-aware greedy non-maximum suppression.

    Args:
        boxes_xyxy: float32 [n, 4], finite; one without an area is no box and is not kept.
        scores: float32 [n].
        class_id: int32 [n]; boxes of different classes never suppress each other.
        iou: Intersection over union 0..1 above which the lower-scored box goes.
        limit: The most boxes kept.

    Returns:
        Indices of the kept boxes, best score first.
    """
    if len(scores) > MAX_CANDIDATES:
        best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        return best[suppress(boxes_xyxy[best], scores[best], class_id[best], iou, limit=limit)]
    boxes = boxes_xyxy.astype(np.float64)
    corners, sizes = boxes[:, :2], boxes[:, 2:]
    sizes -= corners
    rows = None
    # OpenCV takes two boxes without an area for the same one, wherever they are and of whatever class.
    if len(boxes) and sizes.min() < _LEAST_SIDE:
        rows = np.flatnonzero((sizes > 0).all(axis=1) & (sizes[:, 0] * sizes[:, 1] > _NO_AREA))
        boxes, scores, class_id = boxes[rows], scores[rows], class_id[rows]
        corners = boxes[:, :2]
    if len(boxes) < 2:
        return np.arange(len(boxes))[:limit] if rows is None else rows[:limit]
    # OpenCV keeps classes apart by moving each one's boxes to the right by the largest coordinate,
    # which takes boxes that start left of 0 into their neighbour's place: start all of them at 0.
    corners -= corners.min()
    batched: Any = cv2.dnn.NMSBoxesBatched  # its stub asks for lists, which are slower
    best_first = batched(boxes, scores, class_id, -1.0, float(iou), top_k=0)
    kept = np.asarray(best_first, np.intp).reshape(-1)[:limit]
    return kept if rows is None else rows[kept]
