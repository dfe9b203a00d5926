"""YOLO-NAS: boxes and class scores a cell, as two outputs.

float [1, n, 4] of left, top, right, bottom in model pixels, and [1, n, classes] after the sigmoid, n the cells of
strides 8, 16, 32. That is what super-gradients writes without its postprocessing (its documentation/source/
models_export.md; since 3.2 `export(..., postprocessing=False)`). With its preprocessing the input is uint8 and the
graph divides by 255; else the host does. The pretrained models see RGB, the longer side resized to 636, in the centre
of 640 x 640 filled with 114 (its training/processing/processing.py, where 0.7 of suppression stands too); the two
pixels of margin a side are left out here. PP-YOLOE of the same library has this layout but another normalisation: give
it a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish, grid_cells, image_input
from edge_sdk.models.labels import names_for
from edge_sdk.models.preprocess import Geometry, image_spec

STRIDES = (8, 16, 32)


class YoloNasHead:
    """[1, n, 4] left, top, right, bottom, and [1, n, classes] scores, in either order."""

    name = "yolo_nas"
    title = "YOLO-NAS (S, M, L), exported without postprocessing"
    default_iou: float | None = 0.7

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image, spec, count = image_input(inputs), image_spec(inputs), self.class_count(outputs)
        if image is None or spec is None or count is None:
            return None
        layout, input_hw = image
        rows = outputs[0].shape[1]
        if rows == -1:
            # Open on both sides, the names are all there is: UltraFace and the DETRs have names of their own, or are
            # Keras graphs. Super-gradients writes ONNX, with channels first.
            if layout == "nhwc" or {output.name for output in outputs} & {"boxes", "scores", "pred_boxes", "dets"}:
                return None
        elif rows != sum(grid_cells(input_hw, STRIDES)):
            return None
        divided = spec.dtype == np.uint8 and spec.quantization is None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(count),
            layout=layout,
            std=(1.0, 1.0, 1.0) if divided else (255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        shapes = [output.shape for output in outputs]
        if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes) or shapes[0][1] != shapes[1][1]:
            return None
        widths = [shape[2] for shape in shapes]
        if 4 not in widths or min(widths) < 1:
            return None
        widths.remove(4)
        return widths[0]

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
        boxes, scores = (output[0] for output in outputs.values())
        if boxes.shape[1] != 4:  # with four classes the order is the exporter's: boxes first
            boxes, scores = scores, boxes
        index, class_id, best = nms.candidates(scores, confidence, multi_label=multi_label)
        return finish(boxes[index].astype(np.float32, copy=False), best, class_id, geometry, iou)


HEAD = YoloNasHead()
