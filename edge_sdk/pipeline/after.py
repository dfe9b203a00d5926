"""What follows decoding, frame by frame: ids, and counts of zones and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_sdk.detections import Detections
from edge_sdk.errors import UsageError
from edge_sdk.result import Frame

if TYPE_CHECKING:
    from edge_sdk.tracking import Tracker
    from edge_sdk.zones import Counters, Line, Zone

_NO_COUNTS: Mapping[str, int] = MappingProxyType({})


class After:
    """Tracks and counts.

    Args:
        track: True, or a `Tracker`.
        zones: Counted inside.
        lines: Counted across; wants tracking.
        fps: Of the source, where it has a rate.
        live: Whether frames are dropped: the time between two is then their own, not the rate's.

    Raises:
        UsageError: Lines without tracking, or two zones or lines of one name.
        MissingDependencyError: What tracks or counts is not installed.
    """

    def __init__(
        self, track: bool | Tracker, zones: Sequence[Zone], lines: Sequence[Line], *, fps: float | None, live: bool
    ) -> None:
        self.tracker: Tracker | None = None
        self.counters: Counters | None = None
        self._live = live
        if lines and track is False:
            raise UsageError(f"line {lines[0].name!r}: lines count tracks; add track=True (--track)")
        if track is True:
            from edge_sdk.tracking import Tracker

            self.tracker = Tracker(fps or 30.0)
        elif track is not False:
            self.tracker = track
        if zones or lines:
            from edge_sdk.zones import Counters

            self.counters = Counters(zones, lines)

    def __call__(self, frame: Frame, detections: Detections) -> tuple[Detections, Mapping[str, int]]:
        """The detections with ids, and the counts."""
        if self.tracker is not None:
            detections = self.tracker.update(detections, frame.captured_ns if self._live else None)
        if self.counters is None:
            return detections, _NO_COUNTS
        return detections, self.counters.update(detections, (frame.image.shape[0], frame.image.shape[1]))
