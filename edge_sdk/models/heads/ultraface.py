"""UltraFace: faces, with boxes that the graph has decoded.

Layout from the repository Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB: ``scores`` [1, n, 2] (background, face)
and ``boxes`` [1, n, 4], corners in 0..1 (convert_to_onnx.py names them so); n is the number of its SSD priors
(vision/ssd/config/fd_config.py). Its .tflite files hold raw deltas in the same shapes: that is the head
ultraface_raw. Where neither names nor input say which, both heads claim the model and the caller must choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish, from_fractions, image_input
from edge_sdk.models.labels import FACE
from edge_sdk.models.preprocess import Geometry, image_spec

STRIDES = (8, 16, 32, 64)
PRIOR_SIZES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))  # squares, in model pixels, at each stride

Evidence = Literal["decoded", "raw", "either"]


class UltrafaceHead:
    """scores [1, n, 2] and boxes [1, n, 4], corners in 0..1."""

    name = "ultraface"
    title = "UltraFace (slim and RFB, 320 and 640) with decoded boxes"
    default_iou: float | None = 0.3  # detect_imgs_onnx.py's

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        return card_for(self.name, inputs, outputs) if evidence(inputs, outputs) in ("decoded", "either") else None

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
        _, scores, boxes = face_rows(outputs, confidence)
        return finish_faces(boxes, scores, card, geometry, iou)


def evidence(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Evidence | None:
    """What the shapes and names say of the boxes; None: not UltraFace."""
    image, spec = image_input(inputs, default_hw=(240, 320)), image_spec(inputs)
    if image is None or spec is None or len(outputs) != 2 or any(len(output.shape) != 3 for output in outputs):
        return None
    if sorted(output.shape[2] for output in outputs) != [2, 4] or outputs[0].shape[1] != outputs[1].shape[1]:
        return None
    named = {output.name: output.shape[2] for output in outputs} == {"scores": 2, "boxes": 4}
    # The published .tflite are Keras graphs (tflite/model/*.py), whose input is named so by default.
    keras = image[0] == "nhwc" and re.fullmatch(r"input_\d+", spec.name) is not None
    rows = outputs[0].shape[1]
    if rows != len(priors(image[1])) and not (rows == -1 and (named or keras)):
        return None
    return "decoded" if named else "raw" if keras else "either"


def card_for(head: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> ModelCard | None:
    """The card that all UltraFace models share."""
    image = image_input(inputs, default_hw=(240, 320))
    if image is None:
        return None
    return ModelCard(
        head=head,
        input_hw=image[1],
        classes=FACE,
        layout=image[0],
        colour="rgb",
        resize="stretch",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


@lru_cache(maxsize=8)
def priors(input_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The prior boxes in the order of the outputs (vision/utils/box_utils.py, generate_priors).

    Returns:
        float32 [n, 4] of cx, cy, w, h in 0..1. Shared: do not write.
    """
    height, width = input_hw
    levels = []
    for stride, sizes in zip(STRIDES, PRIOR_SIZES, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, size = np.meshgrid(
            (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, sizes, indexing="ij"
        )
        levels.append(np.stack([x, y, size / width, size / height], axis=-1).reshape(-1, 4))
    boxes_cxcywh: NDArray[np.float32] = np.clip(np.concatenate(levels), 0, 1).astype(np.float32)
    boxes_cxcywh.flags.writeable = False
    return boxes_cxcywh


def face_rows(
    outputs: Mapping[str, Array], confidence: float
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Row, score and four box values of the faces above `confidence`."""
    one, other = (output[0] for output in outputs.values())
    scores, boxes = (one, other) if one.shape[1] == 2 else (other, one)
    alive = np.flatnonzero(scores[:, 1] > confidence)
    return alive, scores[alive, 1].astype(np.float32, copy=False), boxes[alive].astype(np.float32, copy=False)


def finish_faces(
    corners: NDArray[np.float32], scores: NDArray[np.float32], card: ModelCard, geometry: Geometry, iou: float
) -> Detections:
    """Faces from corners as fractions of the input."""
    return finish(from_fractions(corners, card), scores, np.zeros(len(scores), np.int32), geometry, iou)


HEAD = UltrafaceHead()
