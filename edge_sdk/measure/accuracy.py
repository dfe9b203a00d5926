"""Mean average precision by COCO's rule, with an interval that says what so few photos can tell.

Matching is pycocotools' own. Precision is accumulated here, so that resampling the photos for the interval does not
match them anew: COCO's rule of 101 recall points (cocodataset.org, "Detection Evaluation"), checked against
pycocotools' own result in the tests.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.datasets import Dataset
from edge_sdk.detector import Detector
from edge_sdk.errors import BadFrameError, DatasetError, MissingDependencyError, extra_hint
from edge_sdk.sources.files import read_photo

log = logging.getLogger("edge_sdk")

# The evaluation rule of the design: every class of a box above this is a candidate.
CONFIDENCE = 0.01
MAX_BOXES = 100
_RESAMPLES = 500
_MAX_VALUES = 1 << 22  # held at a time while resampling: 32 MiB an array
_RECALLS = np.linspace(0.0, 1.0, 101)
_IOUS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class _Matches:
    """All matches of one class, best score first: right and wrong [10, d] at each IoU, the photo of each detection [d],
    and the number of objects in each photo [photos]."""

    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    photo: NDArray[np.intp]
    objects: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matched:
    """A detector's boxes held against the labels, once; every figure is counted from it.

    Args:
        classes: Names of the labelled classes that the model knows.
        photos: Which of the dataset's photos could be read, in order.
        skipped: Names of the others.
        classes_not_in_model: Labelled classes that the model does not name; they are left out.
        by_class: The matches, one for each of `classes`.
    """

    classes: tuple[str, ...]
    photos: tuple[int, ...]
    skipped: tuple[str, ...]
    classes_not_in_model: tuple[str, ...]
    by_class: tuple[_Matches, ...]

    def map(self) -> float:
        """mAP50-95 over the photos, 0..1."""
        return _mean(_average_precision(self.by_class, np.ones(len(self.photos))))


@dataclass(frozen=True)
class Accuracy:
    """What `evaluate` found.

    Args:
        map: mAP50-95, 0..1.
        map50, map75: At IoU 0.50 and 0.75.
        per_class: AP50-95 by class name; only classes that the photos hold.
        images: Photos evaluated.
        skipped: Photos that could not be read, by name.
        interval: 95 % bootstrap interval of `map` over photos.
        classes_not_in_model: Labelled classes that the model does not name; they are left out.
    """

    map: float
    map50: float
    map75: float
    per_class: Mapping[str, float]
    images: int
    skipped: tuple[str, ...]
    interval: tuple[float, float]
    classes_not_in_model: tuple[str, ...]


def evaluate(
    detector: Detector, dataset: Dataset, *, progress: Callable[[int, int], None] | None = None, seed: int = 0
) -> Accuracy:
    """Measures a detector on labelled photos.

    Classes are matched by name, since ids differ between sets. The detector's own thresholds are set aside: every
    class of a box above 0.01 is a candidate, and the best 100 boxes of a photo count.

    Args:
        detector: Its `confidence` is set to 0.01 for the duration.
        dataset: Labelled photos.
        progress: Called with (photos done, photos in all).
        seed: Of the bootstrap.

    Raises:
        DatasetError: Model and labels share no class, or no photo could be read.
        MissingDependencyError: pycocotools is not installed.
    """
    return accuracy_of(match(detector, dataset, progress=progress), seed=seed)


def accuracy_of(matched: Matched, *, seed: int = 0) -> Accuracy:
    """The figures of what was matched.

    Args:
        matched: From `match`.
        seed: Of the bootstrap.
    """
    by_iou = _average_precision(matched.by_class, np.ones(len(matched.photos)))
    return Accuracy(
        map=_mean(by_iou),
        map50=_mean(by_iou[:, 0]),
        map75=_mean(by_iou[:, 5]),
        per_class={
            name: float(value)
            for name, value in zip(matched.classes, by_iou.mean(axis=1), strict=True)
            if not np.isnan(value)
        },
        images=len(matched.photos),
        skipped=matched.skipped,
        interval=_interval(matched, seed, _mean(by_iou)),
        classes_not_in_model=matched.classes_not_in_model,
    )


def match(detector: Detector, dataset: Dataset, *, progress: Callable[[int, int], None] | None = None) -> Matched:
    """Runs a detector on labelled photos, once each, and matches its boxes to theirs, as `evaluate` does.

    Args:
        detector: Its `confidence` is set to 0.01 for the duration.
        dataset: Labelled photos.
        progress: Called with (photos done, photos in all).

    Raises:
        DatasetError: Model and labels share no class, or no photo could be read.
        MissingDependencyError: pycocotools is not installed.
    """
    pycocotools = _pycocotools()
    names = {name.strip().lower(): index for index, name in enumerate(detector.class_names)}
    shared = [
        (label, names[name.strip().lower()])
        for label, name in enumerate(dataset.classes)
        if name.strip().lower() in names
    ]
    if not shared:
        raise DatasetError(
            f"the model's classes ({', '.join(detector.class_names[:5])}, ...) and the labels' "
            f"({', '.join(dataset.classes[:5])}, ...) have no name in common"
        )
    to_label = {model_id: label for label, model_id in shared}
    rows: list[list[float]] = []
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    skipped: list[str] = []
    wanted, detector.confidence = detector.confidence, CONFIDENCE
    try:
        for number, photo in enumerate(dataset.photos):
            if progress is not None and number > 0:
                progress(number, len(dataset.photos))
            try:
                picture = read_photo(photo.path)
            except BadFrameError as error:
                log.warning("%s", error)
                skipped.append(photo.path.name)
                continue
            images.append({"id": number})
            for xyxy, label, crowd, area in zip(photo.boxes_xyxy, photo.class_id, photo.crowd, photo.area, strict=True):
                width, height = xyxy[2:] - xyxy[:2]
                boxes.append({
                    "id": len(boxes) + 1, "image_id": number, "category_id": int(label), "iscrowd": int(crowd),
                    "area": float(area), "bbox": [float(xyxy[0]), float(xyxy[1]), float(width), float(height)],
                })  # fmt: skip
            rows += _best_rows(detector, picture, number, to_label)
    finally:
        detector.confidence = wanted
    if progress is not None:
        progress(len(dataset.photos), len(dataset.photos))
    if not images:
        raise DatasetError(
            f"none of the {len(dataset.photos)} photos could be read; is {dataset.photos[0].path} there?"
        )
    return Matched(
        classes=tuple(dataset.classes[label] for label, _ in shared),
        photos=tuple(image["id"] for image in images),
        skipped=tuple(skipped),
        classes_not_in_model=tuple(name for name in dataset.classes if name.strip().lower() not in names),
        by_class=tuple(_match(pycocotools, images, boxes, rows, [label for label, _ in shared])),
    )


def _best_rows(
    detector: Detector, picture: NDArray[np.uint8], number: int, to_label: Mapping[int, int]
) -> list[list[float]]:
    """The photo's best hundred boxes as pycocotools takes them: image, x, y, w, h, score, class."""
    with detector.lock:
        prepared = detector.prepare(picture, detector.own)
        found = detector.decode(detector.infer(prepared), prepared, multi_label=True, clip=False)
    found = found[np.isin(found.class_id, list(to_label))]  # what nobody labelled takes no place among the hundred
    best = found[np.argsort(-found.confidence, kind="stable")[:MAX_BOXES]]
    return [
        [number, xyxy[0], xyxy[1], xyxy[2] - xyxy[0], xyxy[3] - xyxy[1], score, to_label[class_id]]
        for xyxy, score, class_id in zip(
            best.xyxy.tolist(), best.confidence.tolist(), best.class_id.tolist(), strict=True
        )
    ]


def _match(
    pycocotools: tuple[Any, Any],
    images: list[dict[str, Any]],
    boxes: list[dict[str, Any]],
    rows: list[list[float]],
    labels: list[int],
) -> list[_Matches]:
    """pycocotools' matches, by class."""
    coco_type, eval_type = pycocotools
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = coco_type()
        truth.dataset = {
            "images": images,
            "annotations": boxes,
            "categories": [{"id": i, "name": str(i)} for i in labels],
        }
        truth.createIndex()
        found = truth.loadRes(np.array(rows, np.float64).reshape(-1, 7)) if rows else coco_type()
        if not rows:
            found.dataset = {"images": images, "annotations": [], "categories": truth.dataset["categories"]}
            found.createIndex()
        judge = eval_type(truth, found, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [judge.params.areaRng[0]], ["all"]
        judge.params.maxDets = [MAX_BOXES]
        judge.evaluate()
    count = len(images)
    return [_matches(judge.evalImgs[c * count : (c + 1) * count]) for c in range(len(judge.params.catIds))]


def _matches(photos: list[Mapping[str, Any] | None]) -> _Matches:
    """One class's matches in all photos, sorted by score as COCO sorts them; None stands for nothing to match."""
    levels = len(_IOUS)
    objects = [0 if one is None else int(np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)) for one in photos]
    some = [(index, one) for index, one in enumerate(photos) if one is not None]
    scores = np.concatenate([np.empty(0), *(one["dtScores"] for _, one in some)])
    order = np.argsort(-scores, kind="mergesort")
    empty = np.empty((levels, 0), np.bool_)
    matched = np.concatenate(
        [empty, *(np.asarray(one["dtMatches"]).reshape(levels, -1) > 0 for _, one in some)], axis=1
    )
    ignored = np.concatenate([empty, *(np.asarray(one["dtIgnore"]).reshape(levels, -1) > 0 for _, one in some)], axis=1)
    photo = np.concatenate([np.empty(0, np.intp), *(np.full(len(one["dtScores"]), index) for index, one in some)])
    return _Matches(
        right=(matched & ~ignored)[:, order],
        wrong=(~matched & ~ignored)[:, order],
        photo=photo[order],
        objects=np.array(objects),
    )


def _average_precision(table: Sequence[_Matches], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP of each class at each IoU, each photo counted `weights` times; [classes, 10], nan where there is no object."""
    result = np.full((len(table), len(_IOUS)), np.nan)
    for row, matches in enumerate(table):
        objects = float(weights @ matches.objects)
        if objects == 0:
            continue
        weight = weights[matches.photo]
        right = np.cumsum(matches.right * weight, axis=1)
        wrong = np.cumsum(matches.wrong * weight, axis=1)
        precision = right / np.maximum(right + wrong, np.spacing(1))
        # Precision at a recall is the best at that recall or beyond.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for level in range(len(_IOUS)):
            at = np.searchsorted(right[level] / objects, _RECALLS, side="left")
            result[row, level] = precision[level, at[at < precision.shape[1]]].sum() / len(_RECALLS)
    return result


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 0.0


def resampled(matched: Matched, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """mAP50-95 of many resamples of the photos at once.

    The same as counting each anew, but only at right detections, where the best precision beyond a recall always lies.

    Args:
        matched: From `match`.
        weights: float64 [draws, photos]: how often each photo is in each draw.

    Returns:
        float64 [draws]; 0 where no class of a draw has an object.
    """
    total, known = np.zeros(len(weights)), np.zeros(len(weights))
    for one in matched.by_class:
        rows = max(1, _MAX_VALUES // max(1, len(one.photo)))
        for start in range(0, len(weights), rows):
            part = slice(start, start + rows)
            objects = weights[part] @ one.objects.astype(np.float64)
            known[part] += objects > 0
            total[part] += _sum_of_precisions(one, weights[part], np.where(objects > 0, objects, np.inf))
    return np.asarray(total / (len(_RECALLS) * len(_IOUS)) / np.maximum(known, 1), np.float64)


def _sum_of_precisions(
    matches: _Matches, weights: NDArray[np.float64], objects: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Over all recalls and IoUs of one class, float64 [draws]; 0 where a draw has infinitely many objects."""
    total = np.zeros(len(weights))
    weight = weights[:, matches.photo]
    for right, wrong in zip(matches.right, matches.wrong, strict=True):
        at = np.flatnonzero(right)
        if not at.size:
            continue
        false = np.cumsum(weight[:, : at[-1]] * wrong[: at[-1]], axis=1)
        false = np.concatenate([np.zeros((len(weights), 1)), false], axis=1)[:, at]
        true = np.cumsum(weight[:, at], axis=1)
        precision = true / np.maximum(true + false, np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # How many of the recalls each right one reaches that none before it does; an absent class reaches none.
        reached = np.searchsorted(_RECALLS, true / objects[:, None], side="right")
        reached[:, 1:] -= reached[:, :-1].copy()
        total += (precision * reached).sum(axis=1)
    return np.where(np.isfinite(objects), total, 0.0)


def draws(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each photo is in each resample, float64 [resamples, count]; the same for all models of one seed."""
    generator = np.random.default_rng(seed)
    chosen = (generator.integers(0, count, count) for _ in range(resamples))
    return np.array([np.bincount(one, minlength=count) for one in chosen], np.float64)


def _interval(matched: Matched, seed: int, point: float) -> tuple[float, float]:
    """95 % bootstrap interval over photos: the figure and 1.96 standard errors either way.

    The standard interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.3.

    Not the percentiles of the draws: average precision is optimistic on few distinct photos, a resample has fewer than
    the set itself, and so the draws lie above the figure that they are meant to surround.
    """
    count = len(matched.photos)
    if count < 2:
        return 0.0, 1.0  # one photo says nothing of others
    spread = 1.96 * float(np.std(resampled(matched, draws(count, _RESAMPLES, seed))))
    return max(0.0, point - spread), min(1.0, point + spread)


def _pycocotools() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingDependencyError(f"pycocotools is not installed: {extra_hint('evaluate')}") from error
    return COCO, COCOeval
