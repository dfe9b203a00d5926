"""EfficientDet with suppression in the graph, in the two forms that google/automl and Model Maker publish.

EfficientDet-Lite as .tflite (TensorFlow Hub, Model Maker) ends in TFLite_Detection_PostProcess like an SSD; its input
is ``images``, 320 to 640 pixels, (x - 127) / 128. google/automl's saved model, and its ONNX, has one output
``detections`` [1, 100, 7]: image id, ymin, xmin, ymax, xmax in pixels of the picture fed, score, class from 1
(google/automl efficientdet/inference.py; OpenVINO's page on efficientdet-d1-tf). Pictures keep their shape and lie in
the top left corner, as automl's dataloader.py puts them for training and for the published mAP; the rest is filled
after normalising, so with the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish_chosen, image_input
from edge_sdk.models.heads.ssd import decode_postprocess, is_efficientdet, raw_pixels, roles
from edge_sdk.models.labels import COCO_90
from edge_sdk.models.preprocess import Geometry, image_spec

LITE_MEAN, LITE_STD = 127.0, 128.0
COLUMNS = 7


class EfficientdetHead:
    """boxes [1, n, 4], classes [1, n], scores [1, n], count [1]; or detections [1, n, 7]."""

    name = "efficientdet"
    title = "EfficientDet-Lite as .tflite; EfficientDet by google/automl with the output `detections`"
    default_iou: float | None = None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image, spec = image_input(inputs, default_hw=(512, 512)), image_spec(inputs)
        if image is None or spec is None or image[0] != "nhwc":
            return None
        if _is_rows(outputs) and spec.dtype == np.uint8:
            mean, std, pad = 0.0, 1.0, 114  # the graph normalises; 114 is ImageNet's mean in grey
        elif is_efficientdet(spec) and roles({output.name: output.shape for output in outputs}) is not None:
            (mean, std), pad = raw_pixels(spec) or (LITE_MEAN, LITE_STD), round(LITE_MEAN)
        else:
            return None
        return ModelCard(
            head=self.name,
            input_hw=image[1],
            classes=COCO_90,
            layout="nhwc",
            colour="rgb",
            resize="letterbox_corner",
            mean=(mean, mean, mean),
            std=(std, std, std),
            pad=pad,
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
        if len(outputs) > 1:
            return decode_postprocess(outputs, card, geometry, confidence=confidence, multi_label=multi_label)
        (output,) = outputs.values()
        rows = output[0]
        corners, scores, classes = rows[:, [2, 1, 4, 3]], rows[:, 5], rows[:, 6] - 1
        return finish_chosen(corners, scores, classes, card, geometry, confidence=confidence, multi_label=multi_label)


def _is_rows(outputs: Sequence[TensorSpec]) -> bool:
    if len(outputs) != 1:
        return False
    shape = outputs[0].shape
    return outputs[0].name.startswith("detections") and len(shape) == 3 and shape[2] in (COLUMNS, -1)


HEAD = EfficientdetHead()
