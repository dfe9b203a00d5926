"""Faster R-CNN and Mask R-CNN of the ONNX Model Zoo: two stages and suppression inside the graph.

From the zoo's README files (onnx/models, vision/object_detection_segmentation/faster-rcnn and mask-rcnn, converted
from facebookresearch/maskrcnn-benchmark): the input is one picture without a batch axis, [3, height, width], BGR
less (102.9801, 115.9465, 122.7717); outputs are boxes [n, 4] of left, top, right, bottom in model pixels, labels [n],
scores [n], and masks [n, 1, 28, 28], which are not read. Labels count COCO's eighty classes from 1; 0 is background.
Outputs are numbered, not named, so they are told apart by shape and type.

Height and width are open, multiples of 32. The model was trained with the shorter side 800 and the longer at most
1333, the rest of the last 32 filled with the mean, whose grey is 114. An engine wants one size: 800 x 1344 holds 4:3
photos (800 x 1066) and 16:9 photos (756 x 1344) at about that scale. It costs a quarter more than 800 x 1088, which
would shrink 16:9 to 612 rows. A sidecar card with another ``input_hw`` overrides it.

Torchvision exports the same outputs, but wants RGB / 255 and counts COCO's ids: give such a model a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish_chosen
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

MEAN_BGR = (102.9801, 115.9465, 122.7717)
INPUT_HW = (800, 1344)


class TwoStageHead:
    """boxes [n, 4], labels [n] from 1, scores [n]; masks beside them are ignored."""

    name = "two_stage"
    title = "Faster R-CNN and Mask R-CNN of the ONNX Model Zoo"
    default_iou: float | None = None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        if len(inputs) != 1 or len(inputs[0].shape) != 3 or inputs[0].shape[0] != 3:
            return None
        boxes = [output for output in outputs if len(output.shape) == 2 and output.shape[1] == 4]
        flat = [output for output in outputs if len(output.shape) == 1]
        masks = [output for output in outputs if len(output.shape) == 4]
        if len(boxes) != 1 or sorted(spec.dtype.kind for spec in flat) != ["f", "i"] or len(masks) > 1:
            return None
        if len(outputs) != 3 + len(masks):
            return None
        _, height, width = inputs[0].shape
        return ModelCard(
            head=self.name,
            input_hw=(height if height > 0 else INPUT_HW[0], width if width > 0 else INPUT_HW[1]),
            classes=COCO_80,
            colour="bgr",
            resize="letterbox_corner",
            mean=MEAN_BGR,
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
        (boxes,) = (output for output in outputs.values() if output.ndim == 2)
        (labels,) = (output for output in outputs.values() if output.ndim == 1 and output.dtype.kind == "i")
        (scores,) = (output for output in outputs.values() if output.ndim == 1 and output.dtype.kind == "f")
        return finish_chosen(
            boxes,
            scores,
            labels.astype(np.int64) - 1,
            card,
            geometry,
            confidence=confidence,
            multi_label=True,  # each class has boxes of its own here
        )


HEAD = TwoStageHead()
