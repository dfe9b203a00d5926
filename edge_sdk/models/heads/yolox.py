"""YOLOX: one row a cell with offsets, objectness and class scores; decoded on the grid.

Layout from the YOLOX paper (arXiv 2107.08430) and its published ONNX files: [1, n, 5 + classes],
strides 8, 16, 32, sigmoids already applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish, grid, grid_cells, image_input
from edge_sdk.models.labels import COCO_80, names_for
from edge_sdk.models.preprocess import Geometry

STRIDES = (8, 16, 32)


class YoloxHead:
    """[1, n, 5 + classes]: dx, dy, log w, log h, objectness, class scores."""

    name = "yolox"
    title = "YOLOX (Nano to X), exported with its own decoding left to the host"
    default_iou: float | None = 0.65

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None or len(outputs) != 1:
            return None
        layout, input_hw = image
        shape = outputs[0].shape
        if len(shape) != 3 or shape[2] < 6 or shape[1] not in (sum(grid_cells(input_hw, STRIDES)), -1):
            return None
        count = shape[2] - 5
        if count == len(COCO_80) - 1:
            return None  # COCO's eighty and four box values: a transposed YOLOv8, not 79 classes here
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(count),
            layout=layout,
            colour="bgr",
            resize="letterbox_corner",
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return outputs[0].shape[2] - 5

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
        (output,) = outputs.values()
        rows = output[0]
        # A class score is at most 1, so a row whose objectness fails cannot pass: most rows end here.
        alive = np.flatnonzero(rows[:, 4] > confidence)
        rows = rows[alive].astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # what a broken model writes is dropped by `finish`
            index, class_id, scores = nms.candidates(rows[:, 5:] * rows[:, 4:5], confidence, multi_label=multi_label)
            cells, strides = grid(card.input_hw, STRIDES)
            rows, chosen = rows[index], alive[index]
            stride = strides[chosen]
            centre = (rows[:, :2] + cells[chosen]) * stride
            half = np.exp(rows[:, 2:4]) * (stride * np.float32(0.5))
            boxes = np.concatenate([centre - half, centre + half], axis=1)
        return finish(boxes, scores, class_id, geometry, iou)


HEAD = YoloxHead()
