"""YOLOv7 exported with --end2end --max-wh: one row a box, suppressed already.

Layout from the repository WongKinYiu/yolov7 (export.py, and the notebook YOLOv7onnx.ipynb).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish_chosen, image_input
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry


class Yolov7EndToEndHead:
    """[n, 7]: batch, left, top, right, bottom, class, score."""

    name = "yolov7_end2end"
    title = "YOLOv7, exported with --end2end --max-wh"
    default_iou: float | None = None  # the graph has done its own suppression

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None or len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != 7:
            return None
        layout, input_hw = image
        return ModelCard(self.name, input_hw, COCO_80, layout=layout, std=(255.0, 255.0, 255.0))

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return None  # the shape does not say

    def extra_feeds(self, geometry: Geometry) -> Mapping[str, Array]:
        return {}  # the picture is the only input

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
        (rows,) = outputs.values()
        return finish_chosen(
            rows[:, 1:5], rows[:, 6], rows[:, 5], card, geometry, confidence=confidence, multi_label=multi_label
        )


HEAD = Yolov7EndToEndHead()
