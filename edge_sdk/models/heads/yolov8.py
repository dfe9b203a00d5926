"""YOLOv8, v9, v11 and v12: a decoded box and class scores a cell, no objectness.

[1, 4 + classes, n] of centre x, centre y, width, height in model pixels and class scores after their sigmoids, as
Ultralytics' exporter writes it: [1, 84, 8400] for COCO at 640 x 640, strides 8, 16, 32 (to 64 for P6 models, from 4
for P2). With ``dynamic=True`` its batch, height, width and n are open. Other exporters turn it into
[1, n, 4 + classes] (ultralytics issue 22697). Photos are letterboxed in the centre, RGB / 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import cxcywh_to_xyxy, finish, grid_cells, image_input, to_pixels
from edge_sdk.models.labels import COCO_80, names_for
from edge_sdk.models.preprocess import Geometry

STRIDES: tuple[int, ...] = (8, 16, 32)
PYRAMIDS: tuple[tuple[int, ...], ...] = (STRIDES, (8, 16, 32, 64), (4, 8, 16, 32))  # plain, P6, P2

_YOLOX_COCO = len(COCO_80) + 5
_DETR_QUERIES = 300  # RT-DETR's [1, 300, open] is not 296 classes here


class Yolov8Head:
    """[1, 4 + classes, cells] or its transpose: centre x, centre y, width, height, class scores."""

    name = "yolov8"
    title = "YOLOv8, YOLOv9, YOLO11 and YOLO12, exported without NMS"
    default_iou: float | None = 0.7

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image, count = image_input(inputs), self.class_count(outputs)
        if image is None or count is None:
            return None
        layout, input_hw = image
        _, first, second = outputs[0].shape
        if first == 4 + count:
            cells, pyramids = second, PYRAMIDS
            if cells == -1 and first == _DETR_QUERIES:
                return None
        else:
            cells, pyramids = first, (STRIDES,)
            if second == _YOLOX_COCO:
                return None  # COCO's eighty, objectness and four box values: YOLOX, not 81 classes here
        if cells not in (-1, *(sum(grid_cells(input_hw, strides)) for strides in pyramids)):
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(count),
            layout=layout,
            std=(255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        if len(outputs) != 1 or len(outputs[0].shape) != 3:
            return None
        # There are more cells than values a cell; an open axis is that of the cells.
        values = [axis for axis in outputs[0].shape[1:] if axis != -1]
        return min(values) - 4 if values and min(values) > 4 else None

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
        # NumPy compares half floats one by one: widening all of them once is faster.
        rows = output[0].astype(np.float32, copy=False)
        if rows.shape[0] == 4 + len(card.classes):
            rows = rows.T  # a view: the scores of a class stay together in memory
        index, class_id, scores = nms.candidates(rows[:, 4:], confidence, multi_label=multi_label)
        boxes = to_pixels(rows[index, :4], rows[:, 0], card)
        return finish(cxcywh_to_xyxy(boxes), scores, class_id, geometry, iou)


HEAD = Yolov8Head()
