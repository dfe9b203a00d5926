"""UltraFace without its post-processing: SSD deltas on priors, as in the published .tflite files.

Shapes as in the head ultraface. Decoding from tflite/TFLiteFaceDetector.py and vision/utils/box_utils.py of the same
repository: centre = delta * 0.1 * prior size + prior centre, size = exp(delta * 0.2) * prior size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import cxcywh_to_xyxy
from edge_sdk.models.heads.ultraface import card_for, evidence, face_rows, finish_faces, priors
from edge_sdk.models.labels import FACE
from edge_sdk.models.preprocess import Geometry

CENTRE_VARIANCE = np.float32(0.1)
SIZE_VARIANCE = np.float32(0.2)


class UltrafaceRawHead:
    """scores [1, n, 2] and deltas [1, n, 4]: dx, dy, log w, log h."""

    name = "ultraface_raw"
    title = "UltraFace .tflite without post-processing"
    default_iou: float | None = 0.3

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        return card_for(self.name, inputs, outputs) if evidence(inputs, outputs) in ("raw", "either") else None

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
        alive, scores, deltas = face_rows(outputs, confidence)
        prior = priors(card.input_hw)[alive]
        with np.errstate(over="ignore"):  # what a broken model writes is dropped by `finish`
            centre = deltas[:, :2] * CENTRE_VARIANCE * prior[:, 2:] + prior[:, :2]
            size = np.exp(deltas[:, 2:] * SIZE_VARIANCE) * prior[:, 2:]
        corners = cxcywh_to_xyxy(np.concatenate([centre, size], axis=1))
        return finish_faces(corners, scores, card, geometry, iou)


HEAD = UltrafaceRawHead()
