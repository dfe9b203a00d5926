"""SSD as TensorFlow exports it for TFLite: the op TFLite_Detection_PostProcess stands at the end of the graph.

Its four results are boxes, classes, scores and a count (tensorflow/lite/kernels/detection_postprocess.cc); boxes are
ymin, xmin, ymax, xmax in 0..1, classes count from 0 without a background. TensorFlow 1 names them
``TFLite_Detection_PostProcess``, ``:1``, ``:2``, ``:3``; TensorFlow 2 names them ``StatefulPartitionedCall:31`` to
``:34``, and since 2.6 in the opposite order, ``:3`` (boxes) to ``:0`` (count) (tensorflow/flutter-tflite issue 176).
The number in the name settles it; the order of the list does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import finish_chosen, from_fractions, image_input
from edge_sdk.models.labels import COCO_90
from edge_sdk.models.preprocess import Geometry, image_spec

_NUMBERED = re.compile(r"(?:TFLite_Detection_PostProcess|StatefulPartitionedCall)(?::(\d+))?")


class SsdHead:
    """boxes [1, n, 4], classes [1, n], scores [1, n], count [1]."""

    name = "ssd"
    title = "SSD MobileNet and its kin as .tflite, with suppression in the graph"
    default_iou: float | None = None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image, spec = image_input(inputs, default_hw=(300, 300)), image_spec(inputs)
        if image is None or spec is None or image[0] != "nhwc" or is_efficientdet(spec):
            return None
        if roles({output.name: output.shape for output in outputs}) is None:
            return None
        mean, std = raw_pixels(spec) or (127.5, 127.5)
        return ModelCard(
            head=self.name,
            input_hw=image[1],
            classes=COCO_90,
            layout="nhwc",
            colour="rgb",
            resize="stretch",
            mean=(mean, mean, mean),
            std=(std, std, std),
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
        return decode_postprocess(outputs, card, geometry, confidence=confidence, multi_label=multi_label)


def is_efficientdet(spec: TensorSpec) -> bool:
    """Whether the input is named as google/automl names it: ``images``, where an SSD has ``input`` in some form."""
    return "images" in spec.name


def raw_pixels(spec: TensorSpec) -> tuple[float, float] | None:
    """Mean and deviation with which an integer input is given the pixels as they are; None for a float input.

    TensorFlow's quantized detectors take values in 0..255 whatever their input's scale is
    (object_detection/export_tflite_ssd_graph.py).
    """
    if not np.issubdtype(spec.dtype, np.integer):
        return None
    scale, zero_point = spec.quantization or (1.0, 0)
    return float(zero_point - np.iinfo(spec.dtype).min), 1.0 / scale


def roles(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str, str, str] | None:
    """The names of boxes, classes, scores and count, by the numbers in the names; None: not this op's outputs."""
    found = {name: match for name in shapes if (match := _NUMBERED.fullmatch(name)) is not None}
    if len(shapes) != 4 or len(found) != 4:
        return None
    first, second, third, last = sorted(found, key=lambda name: int(found[name][1] or 0))
    ordered = (first, second, third, last)
    if len(shapes[first]) < 2:
        ordered = (last, third, second, first)
    boxes, classes, scores, count = (shapes[name] for name in ordered)
    if len(boxes) != 3 or boxes[2] != 4 or len(count) > 1 or not classes == scores == boxes[:2]:
        return None
    return ordered


def decode_postprocess(
    outputs: Mapping[str, Array], card: ModelCard, geometry: Geometry, *, confidence: float, multi_label: bool
) -> Detections:
    """Detections from the op's four results; suppression is done, and places past the count hold score 0."""
    # Other names pass only with a card written by hand; then the op's own order is believed.
    ordered = roles({name: output.shape for name, output in outputs.items()}) or tuple(outputs)
    boxes, classes, scores = (outputs[name][0] for name in ordered[:3])
    corners = from_fractions(boxes[:, [1, 0, 3, 2]], card)
    return finish_chosen(corners, scores, classes, card, geometry, confidence=confidence, multi_label=multi_label)


HEAD = SsdHead()
