"""YOLOv10 and YOLO26: the model chooses its boxes itself, at most 300, and needs no suppression.

[1, 300, 6] of left, top, right, bottom in model pixels, score, class (THU-MIG/yolov10 issue 7, by its authors), best
first. The number is ``max_det`` of the export. Ultralytics' exporter writes the same rows for any other YOLO exported
with ``nms=True`` (ultralytics pull request 18484). The shape does not say how many classes there are: the names in the
file's metadata do, else they are taken for COCO's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish_chosen, image_input, to_pixels
from edge_sdk.models.heads.rtdetr import says_rtdetr
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

MAX_DETECTIONS = 300  # as published; another number only counts with metadata that says how the model ends


class Yolov10Head:
    """[1, 300, 6]: left, top, right, bottom, score, class."""

    name = "yolov10"
    title = "YOLOv10 and YOLO26, or any Ultralytics YOLO exported with nms=True"
    default_iou: float | None = None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None or len(outputs) != 1:
            return None
        layout, input_hw = image
        shape = outputs[0].shape
        if len(shape) != 3 or shape[2] != 6 or says_rtdetr(metadata):
            return None
        if shape[1] != MAX_DETECTIONS and not _says_end_to_end(metadata):
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=COCO_80,
            layout=layout,
            std=(255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return None

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
        boxes = to_pixels(rows[:, :4], rows[:, 2], card)
        return finish_chosen(
            boxes, rows[:, 4], rows[:, 5], card, geometry, confidence=confidence, multi_label=multi_label
        )


def _says_end_to_end(metadata: Mapping[str, str]) -> bool:
    """Whether Ultralytics' exporter noted that the model ends in chosen boxes."""
    return metadata.get("end2end") == "True" or "'nms': True" in metadata.get("args", "")


HEAD = Yolov10Head()
