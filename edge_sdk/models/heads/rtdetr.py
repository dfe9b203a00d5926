"""The DETR family: a few hundred queries, each a box and class scores, and no suppression.

Boxes are fractions of the input in all of these exports. They differ in what stands around them:

- RT-DETR, D-FINE, DEIM (lyuwenyu/RT-DETR, ``tools/export_onnx.py``, which the others keep): inputs ``images`` and
  ``orig_target_sizes`` int64 [1, 2]; outputs ``labels``, ``boxes`` (corners, times the sizes that were fed) and
  ``scores``, the best 300 of queries x classes. The sizes are fed as 1 x 1 here, so that the boxes stay fractions.
- Ultralytics' RT-DETR: one output [1, 300, 4 + classes], centre and size, scores after their sigmoids.
- Hugging Face Optimum: ``logits`` and ``pred_boxes`` (centre and size). RT-DETR and its like (300 queries, one logit a
  class) need a sigmoid. DETR, YOLOS, Table Transformer need a softmax over the classes and, last, "no object"; they are
  known by 100 queries or by COCO's 92 logits. DETR's input ``pixel_mask`` [1, 64, 64] is all ones: all is picture.
- RF-DETR (roboflow/rf-detr): ``dets`` (centre and size) and ``labels``, logits that need a sigmoid.

Models of 91 COCO logits count by COCO's own ids, in which 0 is unused. RT-DETR and its like see the photo stretched,
RGB / 255; RF-DETR the same with ImageNet's mean and deviation; DETR that too, but with its shape kept, the shorter
side 800 and the longer at most 1333 (facebook/detr-resnet-50, ``preprocessor_config.json``). An open input is taken
for 640 x 640, a DETR's for 800 x 1344, which holds 4:3 and 16:9 photos at that scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import Layout, ModelCard
from edge_sdk.models.heads.base import (
    cxcywh_to_xyxy,
    finish,
    finish_chosen,
    from_fractions,
    image_input,
    logit,
    sigmoid,
)
from edge_sdk.models.labels import COCO_90, names_for
from edge_sdk.models.metadata import card_fields
from edge_sdk.models.preprocess import Geometry

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
COCO_91 = ("unused 0", *COCO_90)  # by COCO's own ids

DETR_INPUT_HW = (800, 1344)
_DETR_QUERIES = 100
_QUERIES = 300

_CHOSEN = ("labels", "boxes", "scores")
_PAIRS = (("logits", "pred_boxes"), ("pred_logits", "pred_boxes"), ("labels", "dets"))
_SIZES = "orig_target_sizes"


class RtdetrHead:
    """Queries of a box and class scores, in the layouts that this module lists."""

    name = "rtdetr"
    title = "RT-DETR, D-FINE, DEIM, RF-DETR, DETR and their relatives"
    default_iou: float | None = None

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        if _is_chosen(inputs, outputs):
            return self._card(inputs, names_for(80))
        pair = _pair(outputs)
        if pair is not None:
            logits, _ = pair
            width = logits.shape[2]
            count = width - 1 if _is_softmax(logits) else width
            classes = COCO_91 if count == len(COCO_91) else names_for(count)
            if logits.name == "labels":
                return self._card(inputs, classes, imagenet=True)
            return self._card(inputs, classes, detr=_is_softmax(logits) or count == len(COCO_91))
        if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[1] != _QUERIES:
            return None
        named = len(card_fields(metadata).get("classes", ()))
        # Ultralytics' open exports leave the last axis open, of all axes: the names say how many classes there are.
        single = self.class_count(outputs) or named
        if single < 1 or (single == 2 and not (says_rtdetr(metadata) and named == 2)):
            return None  # six columns are YOLOv10's boxes, score and class, unless somebody says otherwise
        return self._card(inputs, names_for(single))

    def _card(
        self, inputs: Sequence[TensorSpec], classes: tuple[str, ...], *, imagenet: bool = False, detr: bool = False
    ) -> ModelCard | None:
        image = _image(inputs, DETR_INPUT_HW if detr else (640, 640))
        if image is None:
            return None
        layout, input_hw = image
        scaled = imagenet or detr
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=classes,
            layout=layout,
            resize="letterbox_corner" if detr else "stretch",
            mean=IMAGENET_MEAN if scaled else (0.0, 0.0, 0.0),
            std=IMAGENET_STD if scaled else (255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        if {output.name for output in outputs} >= set(_CHOSEN):
            return None
        pair = _pair(outputs)
        if pair is not None:
            return pair[0].shape[2] - 1 if _is_softmax(pair[0]) else pair[0].shape[2]
        columns = outputs[0].shape[-1] if len(outputs) == 1 else -1
        return columns - 4 if columns > 4 else None

    def extra_feeds(self, geometry: Geometry) -> Mapping[str, Array]:
        return {_SIZES: np.ones((1, 2), np.int64), "pixel_mask": np.ones((1, 64, 64), np.int64)}

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
        if all(name in outputs for name in _CHOSEN):
            labels, boxes, scores = (outputs[name][0] for name in _CHOSEN)
            corners = from_fractions(boxes, card)
            return finish_chosen(
                corners, scores, labels, card, geometry, confidence=confidence, multi_label=multi_label
            )
        named = next(((a, b) for a, b in _PAIRS if a in outputs and b in outputs), None)
        if named is None:
            (output,) = outputs.values()
            boxes, scores = output[0, :, :4], output[0, :, 4:]
            index, class_id, best = nms.candidates(scores, confidence, multi_label=multi_label)
        else:
            logits, boxes = outputs[named[0]][0], outputs[named[1]][0]
            if logits.shape[1] == len(card.classes) + 1:
                scores = _softmax(logits)[:, :-1]
                index, class_id, best = nms.candidates(scores, confidence, multi_label=multi_label)
            else:
                index, class_id, raw = nms.candidates(logits, logit(confidence), multi_label=multi_label)
                best = sigmoid(raw)
        corners = cxcywh_to_xyxy(from_fractions(boxes[index], card))
        return finish(corners, best, class_id, geometry, None)


def says_rtdetr(metadata: Mapping[str, str]) -> bool:
    """Whether Ultralytics' exporter described the model as an RT-DETR ("Ultralytics rtdetr-l model trained on ...")."""
    return "rtdetr" in metadata.get("description", "").lower().replace("-", "")


def _is_chosen(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    sizes = [spec for spec in inputs if spec.name == _SIZES and len(spec.shape) == 2]
    return len(sizes) == 1 and {output.name for output in outputs} == set(_CHOSEN)


def _pair(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, TensorSpec] | None:
    """Logits [1, queries, width] and boxes [1, queries, 4] by their names; other outputs may stand beside them."""
    by_name = {output.name: output for output in outputs if len(output.shape) == 3}
    for first, second in _PAIRS:
        logits, boxes = by_name.get(first), by_name.get(second)
        if logits is None or boxes is None or boxes.shape[2] not in (4, -1) or logits.shape[2] < 1:
            continue
        if logits.shape[1] == boxes.shape[1] or -1 in (logits.shape[1], boxes.shape[1]):
            return logits, boxes
    return None


def _is_softmax(logits: TensorSpec) -> bool:
    """Whether the last logit is "no object"."""
    if logits.name == "labels" or logits.shape[2] < 2:
        return False
    return logits.shape[1] == _DETR_QUERIES or logits.shape[2] == len(COCO_91) + 1


def _image(inputs: Sequence[TensorSpec], default_hw: tuple[int, int]) -> tuple[Layout, tuple[int, int]] | None:
    for spec in inputs:
        if spec.name == "pixel_values" and len(spec.shape) == 4 and spec.shape[1] == -1:  # Optimum opens all four axes
            height, width = (axis if axis > 0 else side for axis, side in zip(spec.shape[2:], default_hw, strict=True))
            return "nchw", (height, width)
    return image_input(inputs, default_hw)


def _softmax(logits: Array) -> Array:
    """Over the last axis, float32."""
    x = logits.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        weights = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


HEAD = RtdetrHead()
