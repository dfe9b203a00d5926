"""Example photos with what the float model and the pick find in them, drawn as the product draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.score import damages, paired_iou
from edge_sdk.detections import Detections
from edge_sdk.errors import UsageError
from edge_sdk.models.labels import name_of
from edge_sdk.report import words
from edge_sdk.sinks.draw import draw

CONFIDENCE = 0.25
"""Boxes scored lower are not drawn: `Detector`'s own threshold."""

_SIDE = 560  # pixels of a drawn picture's longer side: what half a page shows
_MOST_BYTES = 64 << 10  # of one picture: twelve of them and Plotly's script stay below 6 MiB
_QUALITIES = (85, 75, 60, 45, 30)
_SAME_IOU = 0.5  # from which on two boxes of a class are the same object
_NAMED = 4


@dataclass(frozen=True, eq=False)
class Example:
    """A photo and what is found in it.

    Args:
        name: Of the photo.
        image: uint8 [h, w, 3] BGR.
        before: By the float model, in pixels of `image`.
        after: By the pick, likewise.
        why: Why it is shown: "largest difference" or "typical".
    """

    name: str
    image: NDArray[np.uint8]
    before: Detections
    after: Detections
    why: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8 or not self.image.size:
            raise UsageError(f"an example is uint8 [h, w, 3], not {self.image.dtype} {list(self.image.shape)}")


def telling(
    before: Sequence[Detections], after: Sequence[Detections], *, most: int = 4, typical: int = 2
) -> tuple[tuple[int, str], ...]:
    """Which photos tell most: those with the largest difference, and those nearest to the median one.

    Args:
        before: By the float model, one a photo.
        after: By the pick, for the same photos.
        most: How many with the largest difference, by `edge_sdk.calibration.score.damages`.
        typical: How many near the median of those in which anything is found.

    Returns:
        (place, "largest difference" or "typical") of each, the most different first; none twice.
    """
    damage = damages(before, after).tolist()
    order = sorted(range(len(damage)), key=lambda place: (-damage[place], place))
    worst = [place for place in order if damage[place] > 0][:most]
    rest = [place for place in order if place not in worst]
    seen = [place for place in rest if _sure(before[place]) or _sure(after[place])] or rest
    middle = float(np.median(damage)) if damage else 0.0
    near = sorted(seen, key=lambda place: (abs(damage[place] - middle), place))[:typical]
    return (*((place, "largest difference") for place in worst), *((place, "typical") for place in near))


def drawn(image: NDArray[np.uint8], found: Detections, classes: Sequence[str]) -> bytes:
    """A JPEG of at most 64 KiB or so with the boxes above `CONFIDENCE`.

    Args:
        image: uint8 [h, w, 3] BGR; not changed.
        found: In pixels of `image`.
        classes: Names by class id.
    """
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy()
    kept = found[found.confidence >= CONFIDENCE]
    marks = None if kept.landmarks is None else kept.landmarks * np.float32(scale)
    draw(small, replace(kept, xyxy=kept.xyxy * np.float32(scale), landmarks=marks), classes)
    data = b""
    for quality in _QUALITIES:
        data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= _MOST_BYTES:
            break
    return data


def differences(example: Example, classes: Sequence[str]) -> str:
    """What changed, in words: "5 boxes in float, 4 in the pick; lost: chair 0.31; scores moved by 0.04 at most"."""
    before = example.before[example.before.confidence >= CONFIDENCE]
    after = example.after[example.after.confidence >= CONFIDENCE]
    pairs = _pairs(before, after)
    lost = sorted(set(range(len(before))) - {one for one, _ in pairs})
    new = sorted(set(range(len(after))) - {other for _, other in pairs})
    parts = [f"{words.count(len(before), 'box', 'boxes')} in float, {len(after)} in the pick"]
    parts += [
        f"{what}: {_named(found, places, classes)}"
        for what, found, places in (("lost", before, lost), ("new", after, new))
        if places
    ]
    if pairs:
        moved = max(abs(float(before.confidence[one] - after.confidence[other])) for one, other in pairs)
        parts.append(f"scores moved by {moved:.2f} at most")
    return "; ".join(parts)


def _sure(found: Detections) -> bool:
    return bool((found.confidence >= CONFIDENCE).any())


def _pairs(before: Detections, after: Detections) -> list[tuple[int, int]]:
    """Boxes of one class that lie over each other, the best overlap first; each once."""
    rows, columns = np.nonzero(before.class_id[:, None] == after.class_id[None, :])
    ious = paired_iou(before.xyxy[rows], after.xyxy[columns])
    taken: list[tuple[int, int]] = []
    for place in np.argsort(-ious, kind="stable").tolist():
        one, other = int(rows[place]), int(columns[place])
        free = all(one != a and other != b for a, b in taken)
        if ious[place] >= _SAME_IOU and free:
            taken.append((one, other))
    return taken


def _named(found: Detections, places: Sequence[int], classes: Sequence[str]) -> str:
    order = sorted(places, key=lambda place: (-float(found.confidence[place]), place))
    shown = [
        f"{name_of(classes, int(found.class_id[one])) or f'class {found.class_id[one]}'} {found.confidence[one]:.2f}"
        for one in order[:_NAMED]
    ]
    more = len(order) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
