"""A source of pictures for tests without a camera: it gives what it was given, at a rate, and fails on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BadFrameError, SourceError, UsageError
from edge_sdk.result import Frame
from edge_sdk.sources.pace import Pace


class FakeSource:
    """Stands in for a camera or a file; give it to `edge_sdk.Camera` where a source's name goes.

    Args:
        images: uint8 [h, w, 3] BGR each; a list, or a generator without an end.
        fps: Frames a second; None gives them as fast as they are read.
        live: Whether frames that are not read in time are gone, as a camera's are. Needs fps.
        script: What happens at a frame's id instead of it: a `BadFrameError` costs that frame, any other error ends
            the source, a number is a stall of so many seconds before the frame.
        name: What the frames say they come from.

    Examples:
        >>> source = FakeSource([np.zeros((480, 640, 3), np.uint8)] * 3, script={1: BadFrameError("smeared")})
        >>> source.read().id
        0
    """

    def __init__(
        self,
        images: Iterable[NDArray[np.uint8]],
        *,
        fps: float | None = None,
        live: bool = False,
        script: Mapping[int, Exception | float] | None = None,
        name: str = "fake",
    ) -> None:
        if live and fps is None:
            raise UsageError("a live source has a rate: give fps")
        if fps is not None and not fps > 0:
            raise UsageError(f"fps is above 0, not {fps}")
        self.name = name
        self.live = live
        self.fps = fps
        self.total = len(images) if isinstance(images, (list, tuple)) else None
        self.closed = False
        self._images: Iterator[NDArray[np.uint8]] = iter(images)
        self._pace = Pace(fps, live)
        self._script = dict(script or {})
        self._next_id = 0
        self._ended: SourceError | None = None
        self._reading = threading.Lock()

    def read(self) -> Frame | None:
        """The next frame, or None at the end; raises what the script has for it."""
        with self._reading:
            if self._ended is not None:
                raise self._ended
            due = self._pace.wait_for(self._next_id)
            if due is None:
                return None
            return self._deliver(due)

    def close(self) -> None:
        """Ends the source; a waiting `read` returns None."""
        self.closed = True
        self._pace.close()

    def _deliver(self, due: int) -> Frame | None:
        image = None
        while self._next_id <= due:  # a live source's missed frames are drawn too, and gone
            image = next(self._images, None)
            if image is None:
                return None
            frame_id, self._next_id = self._next_id, self._next_id + 1
            event = self._script.pop(frame_id, None)
            if isinstance(event, BadFrameError):
                raise event
            if isinstance(event, Exception):
                self._ended = event if isinstance(event, SourceError) else SourceError(str(event))
                raise event
            if event is not None and not self._pace.hold(float(event)):
                return None
        if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError("a fake source's images are uint8 arrays [h, w, 3], BGR")
        return Frame(image, self._next_id - 1, self.name, time.monotonic_ns())
