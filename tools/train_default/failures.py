"""Where the detector fails, as drawings of boxes: the photos themselves are not ours to print.

For each photo the boxes of the labels and those that were found are held against each other at IoU 0.5, best score
first. The photos with the most faults of a class are drawn: labels that were found in grey, missed ones in red, found
boxes without a label in blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from photos import Photo

from edge_sdk.detections import Detections
from edge_sdk.files import replacing

IOU = 0.5
_COLUMNS = 4


@dataclass(frozen=True, eq=False)
class Faults:
    """One photo's boxes of one class.

    Args:
        photo: The photo.
        found, missed, false: float32 [n, 4] xyxy: labels that were found, labels that were not, and boxes without one.
    """

    photo: Photo
    found: NDArray[np.float32]
    missed: NDArray[np.float32]
    false: NDArray[np.float32]

    @property
    def count(self) -> int:
        return len(self.missed) + len(self.false)


def faults(photo: Photo, detections: Detections, label: int) -> Faults:
    """Holds the boxes of one class against its labels; those in ignored regions are no faults."""
    truth = photo.boxes[photo.labels == label]
    crowds = photo.ignored[photo.ignored_labels == label]
    boxes = detections.xyxy[detections.class_id == label]
    order = np.argsort(-detections.confidence[detections.class_id == label], kind="stable")
    taken = np.zeros(len(truth), bool)
    false = []
    for box in boxes[order]:
        overlap = _shared(box, truth) / (_area(box) + _area(truth) - _shared(box, truth)) * ~taken
        if len(truth) and overlap.max() >= IOU:
            taken[overlap.argmax()] = True
        elif not (_shared(box, crowds) >= IOU * _area(box)).any():
            false.append(box)
    return Faults(photo, truth[taken], truth[~taken], np.array(false, np.float32).reshape(-1, 4))


def draw_faults(chosen: Sequence[Faults], out: Path) -> None:
    """Draws photos as their boxes alone, with the file's name and the number of each kind."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(3 * _COLUMNS, 2.8 * rows), layout="constrained")
    places = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for one, place in zip(chosen, places, strict=False):  # in this order: no place is drawn from the list in vain
        height, width = cv2.imread(str(one.photo.path)).shape[:2]
        place.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], facecolor="#f4f4f4")
        kinds = ((one.found, "#8a8a8a", "-"), (one.missed, "#c62828", "-"), (one.false, "#1565c0", "--"))
        for boxes, colour, line in kinds:
            for left, top, right, bottom in boxes:
                place.add_patch(
                    Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linestyle=line)
                )
        counts = f"{len(one.found)} found, {len(one.missed)} missed, {len(one.false)} false"
        place.set_title(f"{one.photo.path.name}\n{counts}", fontsize=8)
    for place in list(places):
        place.set_visible(False)
    with replacing(out) as path:
        figure.savefig(path, metadata={"Date": None} if out.suffix == ".svg" else None)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _shared(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return sides.clip(0).prod(axis=1)
