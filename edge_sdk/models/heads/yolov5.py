"""YOLOv5 and YOLOv7: one row an anchor with a decoded box, objectness and class scores.

[1, n, 5 + classes] of centre x, centre y, width, height in model pixels, objectness, class scores, all after their
sigmoids; n is three anchors a cell at strides 8, 16, 32, or to 64 for the P6 models: 25,200 at 640 x 640
(ultralytics/yolov5 issues 3387 and 3397, WongKinYiu/yolov7 issue 428). Older exports list the raw maps beside that
tensor; they are not needed (issue 7144). YOLOv7 writes this layout when exported with ``--grid``, without
``--end2end``. Photos are letterboxed in the centre, RGB / 255.
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

ANCHORS = 3  # a cell
STRIDES = ((8, 16, 32), (8, 16, 32, 64))


class Yolov5Head:
    """[1, 3 x cells, 5 + classes]: centre x, centre y, width, height, objectness, class scores."""

    name = "yolov5"
    title = "YOLOv5 and YOLOv7, exported with their boxes decoded (YOLOv7: --grid)"
    default_iou: float | None = 0.6

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image, rows = image_input(inputs), _rows(outputs)
        if image is None or rows is None:
            return None
        layout, input_hw = image
        count = rows.shape[2] - 5
        if count < 1:
            return None
        if rows.shape[1] == -1:
            if count == len(COCO_80) - 1:
                return None  # COCO's eighty and four box values: a transposed YOLOv8, not 79 classes here
        elif rows.shape[1] not in [ANCHORS * sum(grid_cells(input_hw, strides)) for strides in STRIDES]:
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(count),
            layout=layout,
            std=(255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        rows = _rows(outputs)
        return None if rows is None or rows.shape[2] < 6 else rows.shape[2] - 5

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
        (rows,) = (output[0] for output in outputs.values() if output.ndim == 3)
        # A class score is at most 1, so a row whose objectness fails cannot pass: most rows end here.
        alive = rows[np.flatnonzero(rows[:, 4] > confidence)].astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            product = alive[:, 5:] * alive[:, 4:5]
        index, class_id, scores = nms.candidates(product, confidence, multi_label=multi_label)
        boxes = to_pixels(alive[index, :4], rows[:, 0], card)
        return finish(cxcywh_to_xyxy(boxes), scores, class_id, geometry, iou)


def _rows(outputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The decoded tensor, alone or beside the raw maps [1, 3, rows, columns, 5 + classes]."""
    decoded = [output for output in outputs if len(output.shape) == 3]
    if len(decoded) != 1 or any(len(output.shape) not in (3, 5) for output in outputs):
        return None
    return decoded[0]


HEAD = Yolov5Head()
