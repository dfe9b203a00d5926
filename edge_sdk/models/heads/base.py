"""What a head must be able to do, the list of those there are, and the steps that many share.

A head recognises one layout of outputs, says how such a model is fed, and decodes it. One file a
layout in this folder; a module is a head by having ``HEAD``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import Layout, ModelCard
from edge_sdk.models.preprocess import Geometry

_FAR = 1e6  # pixels: no picture is that large


class Head(Protocol):
    """Recognises, feeds and decodes one output layout.

    Attributes:
        name: What `--head` takes.
        title: The models it is for, on one line.
        default_iou: Of non-maximum suppression; None where the model needs none.
    """

    name: str
    title: str
    default_iou: float | None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        """A full card, or None: not mine. Only looks; -1 in a shape is a dynamic axis."""
        ...

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        """How many classes the outputs of a recognised model hold; None where the shapes do not say."""
        ...

    def extra_feeds(self, geometry: Geometry) -> Mapping[str, Array]:
        """Inputs beside the image, by input name, ready to run; a model is given those that it has."""
        ...

    def decode(
        self,
        outputs: Mapping[str, Array],
        card: ModelCard,
        geometry: Geometry,
        *,
        confidence: float,
        iou: float,
        multi_label: bool,
    ) -> Detections:
        """Filter, NMS if the layout needs it, map back to source pixels.

        Args:
            outputs: The session's outputs by name. Not written to.
            card: The model's card.
            geometry: Of the picture that was fed.
            confidence: Boxes scored above it are returned.
            iou: For suppression; layouts that need none ignore it.
            multi_label: Every class above `confidence` makes a candidate of its box; otherwise the best one.

        Returns:
            Detections that own their arrays, best first.
        """
        ...


@cache
def heads() -> Mapping[str, Head]:
    """Every head, by name."""
    package = importlib.import_module("edge_sdk.models.heads")
    found: dict[str, Head] = {}
    for module in pkgutil.iter_modules(package.__path__):
        head = getattr(importlib.import_module(f"edge_sdk.models.heads.{module.name}"), "HEAD", None)
        if head is not None:
            found[head.name] = head
    return found


# --- what heads share: reading specs -------------------------------------------------------------


def image_input(
    inputs: Sequence[TensorSpec], default_hw: tuple[int, int] = (640, 640)
) -> tuple[Layout, tuple[int, int]] | None:
    """Layout and (height, width) of the image input: the first with four axes, three of them colours.

    A dynamic height or width becomes `default_hw`'s. None where no input looks like an image.
    """
    for spec in inputs:
        if len(spec.shape) != 4:
            continue
        _, a, b, c = spec.shape
        if a == 3 and c != 3:
            return "nchw", (b if b > 0 else default_hw[0], c if c > 0 else default_hw[1])
        if c == 3:
            return "nhwc", (a if a > 0 else default_hw[0], b if b > 0 else default_hw[1])
    return None


def grid_cells(input_hw: tuple[int, int], strides: Sequence[int]) -> tuple[int, ...]:
    """Cells of the grid at each stride, sides rounded up: (2704, 676, 169) for 416 at 8, 16, 32."""
    return tuple(-(-input_hw[0] // s) * -(-input_hw[1] // s) for s in strides)


# --- what heads share: decoding ------------------------------------------------------------------


@lru_cache(maxsize=32)
def grid(input_hw: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of every cell, all strides in turn, row by row.

    Returns:
        float32 [n, 2] of (column, row), and float32 [n, 1] of each cell's stride. Shared: do not write.
    """
    cells, sizes = [], []
    for stride in strides:
        rows, columns = -(-input_hw[0] // stride), -(-input_hw[1] // stride)
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        sizes.append(np.full((rows * columns, 1), stride))
    xy, size = np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)
    xy.flags.writeable = size.flags.writeable = False
    return xy, size


def cxcywh_to_xyxy(boxes_cxcywh: Array) -> NDArray[np.float32]:
    """Centre and size to corners; float32 [..., 4]. What overflows is left to `finish`, which drops it."""
    boxes = boxes_cxcywh.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        half = boxes[..., 2:] * np.float32(0.5)
        centre = boxes[..., :2]
        return np.concatenate([centre - half, centre + half], axis=-1)


def dfl_distances(logits: Array, bins: int) -> NDArray[np.float32]:
    """Expected distance of each side from a distribution over bins 0..bins-1.

    Distribution focal loss, Generalized Focal Loss (arXiv 2006.04388), equation 5.

    Args:
        logits: float [n, 4 * bins].
        bins: Bins a side.

    Returns:
        float32 [n, 4]: left, top, right, bottom, in strides.
    """
    x = logits.reshape(-1, 4, bins).astype(np.float32, copy=False)
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray((weights @ np.arange(bins, dtype=np.float32)) / weights.sum(axis=-1), np.float32)


def sigmoid(x: Array) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), float32, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x.astype(np.float32))), np.float32)


def logit(probability: float) -> float:
    """The inverse of `sigmoid`, to compare raw outputs with a confidence before any exponential."""
    p = min(max(probability, 1e-7), 1 - 1e-7)
    return float(np.log(p / (1 - p)))


def to_pixels(boxes: Array, reach: Array, card: ModelCard) -> NDArray[np.float32]:
    """Boxes in model pixels, whether a YOLO wrote pixels or fractions of its input.

    Ultralytics divides boxes by the input's size where it exports for TensorFlow, so that one INT8 tensor can hold
    boxes and scores (ultralytics pull request 1695, yolov5 issue 10373); other converters to TensorFlow do not.

    Args:
        boxes: float [m, 4] of x, y, x, y or x, y, width, height.
        reach: float [n], an x of every box that the model wrote, good or bad. They lie all over the input, so in
            pixels some are beyond 2.
        card: The model's card.
    """
    pixels = boxes.astype(np.float32, copy=False)
    if card.layout == "nchw" or (reach > 2).any():
        return pixels
    return from_fractions(pixels, card)


def from_fractions(boxes: Array, card: ModelCard) -> NDArray[np.float32]:
    """Boxes [m, 4], x and y in turn, as fractions of the input, in model pixels."""
    height, width = card.input_hw
    with np.errstate(over="ignore"):
        return boxes.astype(np.float32, copy=False) * np.array([width, height, width, height], np.float32)


def finish_chosen(
    boxes_xyxy: Array,
    scores: Array,
    classes: Array,
    card: ModelCard,
    geometry: Geometry,
    *,
    confidence: float,
    multi_label: bool,
) -> Detections:
    """The last steps for a model that chose its boxes itself: filter, map back, no suppression.

    Args:
        boxes_xyxy: float [n, 4] in model pixels.
        scores: float [n].
        classes: Class ids [n], of any dtype; those that the card has no name for, such as fillers, are dropped.
        card: The model's card.
        geometry: Of the picture that was fed.
        confidence: Boxes scored above it are returned.
        multi_label: Such models end in the top k of boxes x classes, so a box with several good classes stands there
            several times, bit by bit the same. False leaves it once, with its best class.
    """
    rows = np.flatnonzero((scores > confidence) & (classes >= 0) & (classes < len(card.classes)))
    if not multi_label and len(rows) > 1:
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        rows = rows[np.unique(boxes_xyxy[rows], axis=0, return_index=True)[1]]
    boxes = boxes_xyxy[rows].astype(np.float32, copy=False)
    return finish(boxes, scores[rows].astype(np.float32), classes[rows].astype(np.int32), geometry, None)


def finish(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_id: NDArray[np.int32],
    geometry: Geometry,
    iou: float | None,
    landmarks: NDArray[np.float32] | None = None,
) -> Detections:
    """The last steps of every head: suppression (unless `iou` is None), mapping back.

    What a broken model writes (NaN, infinity, a corner beyond any picture) is no box and goes first.

    Args:
        boxes_xyxy: float32 [m, 4] in model pixels.
        scores: float32 [m].
        class_id: int32 [m].
        geometry: Of the picture that was fed.
        iou: For suppression, or None for an end-to-end model, whose boxes are only sorted.
        landmarks: float32 [m, k, 2] in model pixels, or None.
    """
    if len(scores) == 0 and landmarks is None:
        return Detections.empty()  # most frames of most cameras
    # One look at all is cheap; only a broken model needs the second, at each. NaN fails both.
    if len(scores) and not (
        _is_near(boxes_xyxy) and scores.max() < _FAR and (landmarks is None or _is_near(landmarks))
    ):
        whole = (np.abs(boxes_xyxy) < _FAR).all(axis=1) & np.isfinite(scores)
        if landmarks is not None:
            whole &= (np.abs(landmarks) < _FAR).all(axis=(1, 2))
        sound = np.flatnonzero(whole)
        boxes_xyxy, scores, class_id = boxes_xyxy[sound], scores[sound], class_id[sound]
        landmarks = None if landmarks is None else landmarks[sound]
    if iou is None:
        keep = np.argsort(-scores, kind="stable")[: nms.MAX_DETECTIONS]
    else:
        keep = nms.suppress(boxes_xyxy, scores, class_id, iou)
    return Detections(
        xyxy=geometry.to_source(boxes_xyxy[keep]),
        confidence=np.minimum(scores[keep], 1).astype(np.float32, copy=False),
        class_id=class_id[keep].astype(np.int32, copy=False),
        landmarks=None if landmarks is None else geometry.to_source(landmarks[keep]),
    )


def _is_near(points: Array) -> bool:
    return bool(points.max() < _FAR and points.min() > -_FAR)
