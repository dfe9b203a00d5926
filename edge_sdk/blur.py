"""Faces made unrecognisable before any sink gets the picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections
from edge_sdk.detector import Detector
from edge_sdk.errors import UsageError
from edge_sdk.result import Result

# A face that is missed is the worse error: boxes are kept down to this confidence at least.
MOST_CONFIDENCE = 0.3
# Of a face four colours are left, the average of each quarter: the rest is not hidden but gone. Mosaics of 8 or 4 cells
# across look like enough, yet detectors still find many of the faces in them, and programs that know faces begin
# there; in a blend of 2 by 2 they find next to none.
_CELLS = 2
# A box of the last frames that this much (intersection over union) of a new one covers is the same face.
_SAME = 0.3


class FaceBlur:
    """Blurs every face that is found, for one camera. One thread at a time, frames in their order.

    Faces are the boxes of class ``face`` that the camera's own detector finds, where its model has that class, and
    those that a second detector finds. No detector finds every face, and what is not found stays as it is; so does what
    else people are known by, such as clothes and gait.

    Whatever fails while blurring is raised, so that the picture is dropped rather than shown.

    Args:
        class_names: Of the detector that the results come from, by id.
        detector: Finds the faces in the whole picture, with a model such as YuNet or UltraFace; needed where
            `class_names` has no ``face``. It stays open.
        classes: Ids that the results are limited to (`Detector.classes`); None is no limit.
        confidence: From which the results are kept (`Detector.confidence`); None is not known.
        margin: Part of a face's box that is blurred around it too, on every side.
        hold_frames: For how many frames a face's place stays blurred after the face is no longer found there:
            detectors lose a face for some frames, and one is enough to know somebody.

    Raises:
        UsageError: Nothing would find faces, or it would keep only those it is sure of; or an argument is out of its
            range.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        detector: Detector | None = None,
        *,
        classes: Collection[int] | None = None,
        confidence: float | None = None,
        margin: float = 0.25,
        hold_frames: int = 10,
    ) -> None:
        if not 0 <= margin < math.inf:
            raise UsageError(f"margin must be 0 or more, not {margin}")
        if hold_frames < 0:
            raise UsageError(f"hold_frames must be 0 or more, not {hold_frames}")
        self._own_ids = [i for i in _face_ids(class_names) if classes is None or i in classes]
        self._detector = detector
        if detector is not None:
            self._ids = _face_ids(detector.class_names)
            if detector.classes is not None:
                self._ids = [i for i in self._ids if i in detector.classes]
            if not self._ids:
                raise UsageError(f"{detector.path.name} finds no class 'face', so it cannot tell what to blur")
            _check_confidence(detector.path.name, detector.confidence)
        elif not self._own_ids:
            why = "leaves out its class 'face'" if _face_ids(class_names) else "has no class 'face'"
            raise UsageError(
                f"faces cannot be blurred: the detector {why}; name a second model that finds faces, such as YuNet"
            )
        elif confidence is not None:
            _check_confidence("the detector", confidence)
        self._margin = margin
        self._hold_frames = hold_frames
        self._held = np.zeros((0, 4), np.float32)
        self._left = np.zeros(0, np.int64)  # frames for which each is still held
        self._scene: object = None

    def __call__(self, result: Result) -> Result:
        """The result with every face blurred.

        Args:
            result: With the picture as the camera gave it; its buffer is only read.

        Returns:
            The result with a new picture, or the result itself where there is nothing to blur.

        Raises:
            BackendError: The second detector failed.
        """
        image = result.frame.image
        if image.size == 0:
            return result
        boxes = self._with_held(self._faces(result), scene=(result.frame.source, image.shape))
        if len(boxes) == 0:
            return result
        blurred = image.copy()
        for left, top, right, bottom in boxes.tolist():
            across, down = (right - left) * self._margin, (bottom - top) * self._margin
            _blur(blurred, left - across, top - down, right + across, bottom + down)
        return result.with_image(blurred)

    def _faces(self, result: Result) -> NDArray[np.float32]:
        """Every face's box in this frame, float32 [n, 4]."""
        own = _of_classes(result.detections, self._own_ids)
        if self._detector is None:
            return own
        return np.concatenate([own, _of_classes(self._detector(result.frame.image), self._ids)])

    def _with_held(self, found: NDArray[np.float32], scene: object) -> NDArray[np.float32]:
        """The boxes of this frame, and those of the last ones that are no longer found."""
        if scene != self._scene:  # another picture, such as the next photo of a folder
            self._held, self._left, self._scene = self._held[:0], self._left[:0], scene
        lost = (self._left > 0) & (_overlaps(self._held, found) < _SAME)
        self._held = np.concatenate([found, self._held[lost]])
        self._left = np.concatenate([np.full(len(found), self._hold_frames), self._left[lost] - 1])
        return self._held


def _face_ids(class_names: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(class_names) if name.strip().casefold() in ("face", "human face")]


def _check_confidence(who: str, confidence: float) -> None:
    if confidence > MOST_CONFIDENCE:
        raise UsageError(
            f"{who} keeps faces from a confidence of {confidence:g} on, and the others would be shown: "
            f"set it to {MOST_CONFIDENCE:g} or less, or name a second model that finds faces"
        )


def _of_classes(detections: Detections, ids: Collection[int]) -> NDArray[np.float32]:
    return detections.xyxy[np.isin(detections.class_id, list(ids))]


def _overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each box the largest intersection over union with one of the others, float32 [n]; 0 where there is none."""
    if len(boxes) == 0 or len(others) == 0:
        return np.zeros(len(boxes), np.float32)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas, other_areas = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (boxes, others))
    largest: NDArray[np.float32] = (shared / np.maximum(areas[:, None] + other_areas - shared, 1e-9)).max(axis=1)
    return largest


def _blur(image: NDArray[np.uint8], left: float, top: float, right: float, bottom: float) -> None:
    """Replaces a part of the picture by a smooth blend of its quarters' average colours, in place."""
    height, width = image.shape[:2]
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))  # raises for what is no number
    x1, y1 = min(width, math.ceil(right)), min(height, math.ceil(bottom))
    if x1 <= x0 or y1 <= y0:
        return
    part = image[y0:y1, x0:x1]
    cells = cv2.resize(part, (min(_CELLS, x1 - x0), min(_CELLS, y1 - y0)), interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(cells, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
