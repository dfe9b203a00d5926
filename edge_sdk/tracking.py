"""Ids that stay with an object from frame to frame: ByteTrack, by the package trackers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from edge_sdk.detections import Detections
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint

# A track counts from its second frame on: a box that flashes up once gets no id.
_CONFIRMING_FRAMES = 2
# ByteTrack looks at boxes alone. Classes are laid this many pixels apart, so that boxes of two never overlap.
_CLASS_STEP = 65536.0


class Tracker:
    """Follows the objects of one camera. One thread at a time, frames in their order.

    An object gets its id with the second frame in which it is found; ids begin at 1 and none comes twice, also not
    after `reset`. Until then, and for boxes that are too unsure to begin a track, the id is -1: no box is dropped.
    Objects of different classes never share a track, so one whose class flickers changes its id with it.

    Args:
        fps: Frames a second of the source; what motion is measured in.
        new_above: Confidence 0..1 of a box that may begin a track, and that is matched first. Boxes below it only
            continue one.
        memory_s: How long an object may be hidden and keep its id.
        min_iou: Intersection over union 0..1 of a box and the place where its object is expected.

    Raises:
        UsageError: An argument is out of its range.
        MissingDependencyError: The package trackers is not installed.
    """

    def __init__(
        self, fps: float = 30.0, *, new_above: float = 0.4, memory_s: float = 1.0, min_iou: float = 0.1
    ) -> None:
        if not 0 < fps < math.inf:
            raise UsageError(f"fps must be above 0, not {fps}")
        if not 0 <= memory_s < math.inf:
            raise UsageError(f"memory_s must be 0 or more, not {memory_s}")
        for name, value in (("new_above", new_above), ("min_iou", min_iou)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be between 0 and 1, not {value}")
        self._tracks = _byte_track()(
            lost_track_buffer=round(memory_s * 30),  # it counts in frames of 30 a second, whatever the rate
            frame_rate=fps,
            track_activation_threshold=new_above,
            high_conf_det_threshold=new_above,
            minimum_consecutive_frames=_CONFIRMING_FRAMES,
            minimum_iou_threshold=min_iou,
        )
        self._first_id = 1
        self._next_id = 1
        self._last_ns: int | None = None

    def update(self, detections: Detections, captured_ns: int | None = None) -> Detections:
        """The same boxes in the same order, with ids.

        Args:
            detections: Of the next frame.
            captured_ns: `Frame.captured_ns` of a live source: frames that were dropped in between then count as time
                that has passed. None takes this frame for the one that follows the last, as in a file that is read
                without loss. Keep to one of the two.

        Returns:
            The detections with track_id, int64 [n]; -1 where no track is confirmed.

        Raises:
            UsageError: The frame is not newer than the last.
        """
        if captured_ns is not None:
            if self._last_ns is not None and captured_ns <= self._last_ns:
                raise UsageError(
                    f"a frame captured at {captured_ns} ns came after one captured at {self._last_ns} ns: a tracker "
                    "takes the frames of one camera, in their order"
                )
            self._last_ns = captured_ns
        ids = np.full(len(detections), -1, np.int64)
        if len(detections) or self._tracks.tracks:  # an empty scene costs nothing
            boxes = detections.to_supervision()
            boxes.xyxy = detections.xyxy + (detections.class_id * _CLASS_STEP)[:, None]
            boxes.data = {"row": np.arange(len(detections))}
            tracked = self._tracks.update(boxes, timestamp=None if captured_ns is None else captured_ns / 1e9)
            if len(tracked):
                known = tracked.tracker_id >= 0
                ids[tracked.data["row"][known]] = tracked.tracker_id[known] + self._first_id
                self._next_id = max(self._next_id, int(ids.max()) + 1)
        return replace(detections, track_id=ids)

    def reset(self) -> None:
        """Forgets every object, as when the scene has changed; ids go on counting."""
        self._tracks.reset()
        self._first_id = self._next_id
        self._last_ns = None


def _byte_track() -> Any:
    try:
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise MissingDependencyError(f"tracking needs the package trackers: {extra_hint('tracking')}") from error
    return ByteTrackTracker
