"""PicoDet: four levels of class scores and of box sides, each side a distribution over eight bins.

Layout from PaddleDetection's configs/picodet and deploy/third_engine/demo_openvino (the ONNX export without its own
post-processing): strides 8, 16, 32, 64, sigmoid already applied, centres half a cell in, RGB, no letterbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish, grid, image_input
from edge_sdk.models.heads.nanodet import MEAN_BGR, SIDES, STD_BGR, level_candidates, level_classes, side_boxes
from edge_sdk.models.labels import names_for
from edge_sdk.models.preprocess import Geometry

STRIDES = (8, 16, 32, 64)


class PicodetHead:
    """4 x [1, n, classes] and 4 x [1, n, 32]."""

    name = "picodet"
    title = "PicoDet (XS to L), exported without its post-processing"
    default_iou: float | None = 0.6

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs)
        if image is None:
            return None
        layout, input_hw = image
        count = level_classes(outputs, input_hw, STRIDES)
        if count is None:
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(count),
            layout=layout,
            colour="rgb",
            resize="stretch",
            mean=(MEAN_BGR[2], MEAN_BGR[1], MEAN_BGR[0]),
            std=(STD_BGR[2], STD_BGR[1], STD_BGR[0]),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return next(spec.shape[2] for spec in outputs if spec.shape[2] != SIDES)

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
        index, class_id, scores, sides = level_candidates(outputs, confidence, multi_label=multi_label)
        cells, strides = grid(card.input_hw, STRIDES)
        centre = (cells[index] + 0.5) * strides[index]
        return finish(side_boxes(centre, sides, strides[index]), scores, class_id, geometry, iou)


HEAD = PicodetHead()
