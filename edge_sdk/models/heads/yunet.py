"""YuNet: faces with five landmarks, from a class score, an objectness, a box and points in every cell.

Layout from ShiqiYu/libfacedetection.train and OpenCV's FaceDetectorYN (modules/objdetect/src/face_detect.cpp):
strides 8, 16, 32, sigmoids already applied, score = sqrt(class * objectness). Landmarks are the right eye, the left
eye, the tip of the nose and the right and left corner of the mouth, the person's own right and left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import cxcywh_to_xyxy, finish, grid, grid_cells, image_input
from edge_sdk.models.labels import FACE
from edge_sdk.models.preprocess import Geometry

STRIDES = (8, 16, 32)
LANDMARKS = 5

# How many outputs have this many values a cell: class and objectness, box, landmarks.
_WIDTHS = {1: 2 * len(STRIDES), 4: len(STRIDES), 2 * LANDMARKS: len(STRIDES)}


class YunetHead:
    """3 x class [1, n, 1], 3 x objectness [1, n, 1], 3 x box [1, n, 4], 3 x landmarks [1, n, 10]."""

    name = "yunet"
    title = "YuNet: faces with eyes, nose and mouth corners"
    default_iou: float | None = 0.3  # FaceDetectorYN's

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None or len(outputs) != sum(_WIDTHS.values()) or any(len(spec.shape) != 3 for spec in outputs):
            return None
        layout, input_hw = image
        cells = sorted(grid_cells(input_hw, STRIDES))
        for width, number in _WIDTHS.items():
            found = sorted(spec.shape[1] for spec in outputs if spec.shape[2] == width)
            if found not in (sorted(cells * (number // len(STRIDES))), [-1] * number):
                return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=FACE,
            layout=layout,
            colour="bgr",
            resize="letterbox_corner",
            pad=0,
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return len(FACE)

    def extra_feeds(self, geometry: Geometry) -> Mapping[str, Array]:
        return {}

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
        # Class and objectness have one shape, and only their product counts: no name is needed.
        certain = _levels(outputs, 1)
        product = np.concatenate(
            [np.clip(a[:, 0], 0, 1) * np.clip(b[:, 0], 0, 1) for a, b in zip(certain[::2], certain[1::2], strict=True)]
        )
        scores = np.sqrt(product.astype(np.float32, copy=False))
        alive = np.flatnonzero(scores > confidence)
        cells, strides = (part[alive] for part in grid(card.input_hw, STRIDES))
        box = np.concatenate(_levels(outputs, 4))[alive].astype(np.float32, copy=False)
        points = np.concatenate(_levels(outputs, 2 * LANDMARKS))[alive].astype(np.float32, copy=False)
        with np.errstate(over="ignore"):  # what a broken model writes is dropped by `finish`
            centre = (box[:, :2] + cells) * strides
            size = np.exp(box[:, 2:]) * strides
            landmarks = (points.reshape(-1, LANDMARKS, 2) + cells[:, None]) * strides[:, None]
        boxes = cxcywh_to_xyxy(np.concatenate([centre, size], axis=1))
        return finish(boxes, scores[alive], np.zeros(len(alive), np.int32), geometry, iou, landmarks)


def _levels(outputs: Mapping[str, Array], width: int) -> list[NDArray[np.float32]]:
    """The outputs with this many values a cell, the finest level first."""
    return sorted((output[0] for output in outputs.values() if output.shape[2] == width), key=len, reverse=True)


HEAD = YunetHead()
