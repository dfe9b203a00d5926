"""NanoDet: three levels of class scores and of box sides, each side a distribution over eight bins.

Layout from the repository RangiLyu/nanodet (config/legacy_v0.x_configs, head/gfl_head.py) and OpenCV Zoo's
object_detection_nanodet: strides 8, 16, 32, sigmoid already applied. Exporters shuffle the outputs' names, so
they are matched by shape. PicoDet and NanoDet-Plus write the same sides; their heads use the steps below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models import nms
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import dfl_distances, finish, grid, grid_cells, image_input
from edge_sdk.models.labels import names_for
from edge_sdk.models.preprocess import Geometry

STRIDES = (8, 16, 32)
BINS = 8  # reg_max 7 in every published configuration of NanoDet, NanoDet-Plus and PicoDet
SIDES = 4 * BINS

# ImageNet's mean and deviation on the 0..255 scale, in BGR order, as the configurations state them.
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)


class NanodetHead:
    """3 x [1, n, classes] and 3 x [1, n, 32]."""

    name = "nanodet"
    title = "NanoDet (m, g and t of version 0.x)"
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
            colour="bgr",
            resize="letterbox_centre",
            mean=MEAN_BGR,
            std=STD_BGR,
            pad=0,
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
        # The middle between a cell's first and last pixel: 3.5 for the first cell of stride 8.
        centre = (cells[index] + 0.5) * strides[index] - 0.5
        return finish(side_boxes(centre, sides, strides[index]), scores, class_id, geometry, iou)


def level_classes(outputs: Sequence[TensorSpec], input_hw: tuple[int, int], strides: tuple[int, ...]) -> int | None:
    """How many classes the outputs hold if they are one pair of scores and sides a stride; else None."""
    if len(outputs) != 2 * len(strides) or any(len(spec.shape) != 3 for spec in outputs):
        return None
    widths = {spec.shape[2] for spec in outputs}
    if len(widths) != 2 or SIDES not in widths or min(widths) < 1:
        return None
    (count,) = widths - {SIDES}
    wanted = sorted(grid_cells(input_hw, strides))
    for width in widths:
        cells = sorted(spec.shape[1] for spec in outputs if spec.shape[2] == width)
        if cells not in (wanted, [-1] * len(strides)):
            return None
    return count


def level_candidates(
    outputs: Mapping[str, Array], confidence: float, *, multi_label: bool
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The candidates of all levels, finest first.

    Returns:
        Cell over all levels [m], class id [m], score [m] and the raw sides [m, 32] of each candidate.
    """
    by_cells = sorted((output[0] for output in outputs.values()), key=len, reverse=True)
    scores = [level for level in by_cells if level.shape[1] != SIDES]
    sides = [level for level in by_cells if level.shape[1] == SIDES]
    found, start = [], 0
    for level_scores, level_sides in zip(scores, sides, strict=True):
        index, class_id, score = nms.candidates(level_scores, confidence, multi_label=multi_label)
        found.append((index + start, class_id, score, level_sides[index]))
        start += len(level_scores)
    index, class_id, score, logits = (np.concatenate(part) for part in zip(*found, strict=True))
    return index, class_id, score, logits.astype(np.float32, copy=False)


def side_boxes(
    centre: NDArray[np.float32], sides: NDArray[np.float32], strides: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Corners from centres [m, 2] in model pixels, raw sides [m, 32] and strides [m, 1]; float32 [m, 4]."""
    # Past +-1000 a softmax is one-hot, and infinities of a broken model must not meet.
    distances = dfl_distances(np.clip(sides, -1000, 1000), BINS) * strides
    return np.concatenate([centre - distances[:, :2], centre + distances[:, 2:]], axis=1)


HEAD = NanodetHead()
