"""FastestDet: one grid at stride 16; objectness, offsets, size and class scores in the channels.

Layout and score rule from the repository dog-qiuqiu/FastestDet (utils/tool.py, handle_preds): the centre moves by
tanh within its grid, the size is a sigmoid of the whole picture, score = objectness^0.6 * class^0.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import cxcywh_to_xyxy, finish, grid, image_input, sigmoid
from edge_sdk.models.labels import names_for
from edge_sdk.models.preprocess import Geometry

STRIDE = 16
OBJECTNESS_POWER = 0.6
CLASS_POWER = 0.4


class FastestdetHead:
    """[1, 5 + classes, rows, columns]: objectness, tx, ty, tw, th, class scores."""

    name = "fastestdet"
    title = "FastestDet"
    default_iou: float | None = 0.6

    def recognise(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> ModelCard | None:
        image = image_input(inputs, default_hw=(352, 352))
        if image is None or len(outputs) != 1:
            return None
        layout, input_hw = image
        shape = outputs[0].shape
        if len(shape) != 4 or shape[1] < 6 or shape[2:] != (-(-input_hw[0] // STRIDE), -(-input_hw[1] // STRIDE)):
            return None
        return ModelCard(
            head=self.name,
            input_hw=input_hw,
            classes=names_for(shape[1] - 5),
            layout=layout,
            colour="bgr",
            resize="stretch",
            std=(255.0, 255.0, 255.0),
        )

    def class_count(self, outputs: Sequence[TensorSpec]) -> int | None:
        return outputs[0].shape[1] - 5

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
        _, depth, rows, columns = output.shape
        channels = output.reshape(depth, rows * columns)
        # A class score is at most 1, so a cell whose objectness alone fails cannot pass.
        alive = np.flatnonzero(channels[0] > max(confidence, 0.0) ** (1 / OBJECTNESS_POWER))
        values = channels[:, alive].T.astype(np.float32)
        objectness = np.clip(values[:, :1], 0, 1) ** np.float32(OBJECTNESS_POWER)
        scores = objectness * np.clip(values[:, 5:], 0, 1) ** np.float32(CLASS_POWER)
        index, class_id, scores = nms.candidates(scores, confidence, multi_label=multi_label)
        values, cells = values[index], grid(card.input_hw, (STRIDE,))[0][alive[index]]
        input_wh = np.asarray(card.input_hw[::-1], np.float32)
        centre = (cells + np.tanh(values[:, 1:3])) * (input_wh / np.asarray((columns, rows), np.float32))
        size = sigmoid(values[:, 3:5]) * input_wh
        return finish(cxcywh_to_xyxy(np.concatenate([centre, size], axis=1)), scores, class_id, geometry, iou)


HEAD = FastestdetHead()
