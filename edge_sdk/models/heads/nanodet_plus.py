"""NanoDet-Plus: one row a cell of class scores and box sides, each side a distribution over eight bins.

Layout from the repository RangiLyu/nanodet (head/nanodet_plus_head.py: _forward_onnx and
get_single_level_center_priors; config/nanodet-plus-m_416.yml): strides 8, 16, 32, 64, sigmoid already applied,
centres at the corner of their cell, BGR, no letterbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish, grid, grid_cells, image_input
from edge_sdk.models.heads.nanodet import MEAN_BGR, SIDES, STD_BGR, side_boxes
from edge_sdk.models.labels import names_for
from edge_sdk.models.preprocess import Geometry

STRIDES = (8, 16, 32, 64)


class NanodetPlusHead:
    """[1, n, classes + 32]: class scores, then left, top, right and bottom."""

    name = "nanodet_plus"
    title = "NanoDet-Plus (m and m-1.5x)"
    default_iou: float | None = 0.6

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None or len(outputs) != 1:
            return None
        layout, input_hw = image
        shape = outputs[0].shape
        # The number of cells is what sets this layout apart from others of one output: it must be stated.
        if len(shape) != 3 or shape[1] != sum(grid_cells(input_hw, STRIDES)) or shape[2] <= SIDES:
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(shape[2] - SIDES),
            layout=layout,
            colour="bgr",
            resize="stretch",
            mean=MEAN_BGR,
            std=STD_BGR,
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return outputs[0].shape[2] - SIDES

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
        index, class_id, scores = nms.candidates(rows[:, :-SIDES], confidence, multi_label=multi_label)
        cells, strides = (part[index] for part in grid(card.input_hw, STRIDES))
        sides = rows[index, -SIDES:].astype(np.float32, copy=False)
        return finish(side_boxes(cells * strides, sides, strides), scores, class_id, geometry, iou)


HEAD = NanodetPlusHead()
