"""Average precision by class on photos whose labels are partial: a class is judged where all its objects are boxed.

Matching and the rule are pycocotools' own. Ignored regions are COCO's crowds: what is found in them counts for nothing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from photos import Photo
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge_sdk.detections import Detections

_RESAMPLES = 300


@dataclass(frozen=True)
class Judged:
    """How well one class is found.

    Args:
        ap50, ap: At IoU 0.50, and the mean of 0.50 to 0.95; 0 to 1.
        interval: 95 % interval of `ap50`: 1.96 standard errors either way, by a bootstrap over photos.
        small, medium, large: `ap50` of objects whose box is smaller than 32 x 32 px of the photo, than 96 x 96, and
            larger; None without any.
        photos, objects: How many there were to judge by.
    """

    ap50: float
    ap: float
    interval: tuple[float, float]
    small: float | None
    medium: float | None
    large: float | None
    photos: int
    objects: int


def judge(
    photos: Sequence[Photo], found: Sequence[Detections], classes: Sequence[str], *, resamples: int = _RESAMPLES
) -> Mapping[str, Judged]:
    """Each class that has objects, over the photos in which it is labelled.

    Args:
        photos: The photos.
        found: What the detector found in each; class ids are places in `classes`.
        classes: Names.
        resamples: Of the bootstrap; 0 for no interval: it is the value itself.
    """
    judged = {}
    for label, name in enumerate(classes):
        rows = [i for i, photo in enumerate(photos) if photo.labelled[label]]
        objects = sum(int((photos[i].labels == label).sum()) for i in rows)
        if objects:
            judged[name] = _one([photos[i] for i in rows], [found[i] for i in rows], label, objects, resamples)
    return judged


def _one(photos: Sequence[Photo], found: Sequence[Detections], label: int, objects: int, resamples: int) -> Judged:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(photos, found, label)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # [ious, recalls, classes, areas, limits]
    by_area = [precision[0, :, 0, area, -1] for area in range(4)]
    small, medium, large = (float(row.mean()) if (row >= 0).any() else None for row in by_area[1:])
    ap50 = float(by_area[0].mean())
    spread = 0.0
    if resamples:
        # As in edge_sdk.measure.accuracy, and for its reason: the draws' percentiles lie above the figure.
        matches = evaluation.evalImgs[: len(photos)]
        random = np.random.default_rng(0)
        draws = [_ap50(matches, random.integers(0, len(photos), len(photos))) for _ in range(resamples)]
        spread = 1.96 * float(np.nanstd(draws))
    low, high = max(0.0, ap50 - spread), min(1.0, ap50 + spread)
    ap = float(precision[:, :, 0, 0, -1].mean())
    return Judged(ap50, ap, (float(low), float(high)), small, medium, large, len(photos), objects)


def _ap50(matches: Sequence[Mapping[str, np.ndarray] | None], rows: np.ndarray) -> float:
    """AP at IoU 0.50 over some of the photos, by COCO's 101 points of recall."""
    chosen = [match for match in (matches[row] for row in rows) if match is not None]
    objects = sum(int((np.asarray(match["gtIgnore"]) == 0).sum()) for match in chosen)
    if not objects:
        return float("nan")
    scores = np.concatenate([match["dtScores"] for match in chosen])
    right = np.concatenate([match["dtMatches"][0] > 0 for match in chosen])
    counted = np.concatenate([match["dtIgnore"][0] == 0 for match in chosen])
    order = np.argsort(-scores, kind="stable")
    order = order[counted[order]]
    hits = right[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / objects, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _evaluation(photos: Sequence[Photo], found: Sequence[Detections], label: int) -> COCOeval:
    truth, boxes = COCO(), COCO()
    things: list[dict[str, object]] = []
    seen: list[dict[str, object]] = []
    for i, (photo, detections) in enumerate(zip(photos, found, strict=True), start=1):
        for box in photo.boxes[photo.labels == label]:
            things.append({"image_id": i, "iscrowd": 0, **_box(box)})
        for box in photo.ignored[photo.ignored_labels == label]:
            things.append({"image_id": i, "iscrowd": 1, **_box(box)})
        for box, score in zip(
            detections.xyxy[detections.class_id == label],
            detections.confidence[detections.class_id == label],
            strict=True,
        ):
            seen.append({"image_id": i, "score": float(score), **_box(box)})
    for table, rows in ((truth, things), (boxes, seen)):
        numbered = [{"id": number, "category_id": 1, **row} for number, row in enumerate(rows, start=1)]
        table.dataset = {
            "images": [{"id": i} for i in range(1, len(photos) + 1)],
            "categories": [{"id": 1}],
            "annotations": numbered,
        }
        table.createIndex()
    return COCOeval(truth, boxes, "bbox")


def _box(box: np.ndarray) -> dict[str, object]:
    left, top, right, bottom = (float(v) for v in box)
    return {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
