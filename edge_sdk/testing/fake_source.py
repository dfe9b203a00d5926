"""Sources of pictures for tests without a camera: they give what they were given, at a rate, and fail on demand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError
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
        return Frame(_checked(image), self._next_id - 1, self.name, time.monotonic_ns())


class FakeDevice:
    """Stands in for a camera that is unplugged, stalls and comes back.

    Give it to `edge_sdk.Camera` where a source's name goes: it is called whenever the camera is opened. What it opens
    is live; frames that nobody reads in time are gone.

    Args:
        images: uint8 [h, w, 3] BGR each. A list is shown over and over; an iterator ends the source when it is over.
        fps: Frames a second.
        name: What the frames say they come from.

    Attributes:
        opened: How often it was opened.
        in_use: How many of the sources that it opened nobody has closed.
        delivered: Frames that were read from it, over all its sources.

    Examples:
        >>> device = FakeDevice([np.zeros((480, 640, 3), np.uint8)])
        >>> source = device()
        >>> source.read().id
        0
        >>> device.unplug()
        >>> source.read()
        Traceback (most recent call last):
        edge_sdk.errors.SourceError: fake: the camera was unplugged after 1 frames; plug it in again
    """

    def __init__(self, images: Iterable[NDArray[np.uint8]], *, fps: float = 30.0, name: str = "fake") -> None:
        if not fps > 0:
            raise UsageError(f"fps is above 0, not {fps}")
        self.name = name
        self.fps = fps
        self.opened = self.in_use = self.delivered = 0
        self._changed = threading.Condition()
        self._images = _endless(images)
        self._plugged = True
        self._stalled = False
        self._plugs = 0  # what was opened before the present one is lost

    def __call__(self) -> _DeviceSource:
        """Opens it.

        Raises:
            SourceNotFoundError: It is unplugged.
            SourceError: It is stalled, so that there is no first frame; or what was opened before was not closed.
        """
        with self._changed:
            if not self._plugged:
                raise SourceNotFoundError(f"{self.name}: no such camera; plug it in")
            if self._stalled:
                raise SourceError(f"{self.name}: opens but gives no frame")
            if self.in_use:
                raise SourceError(f"{self.name}: it is in use; close what was opened before")
            self.opened += 1
            self.in_use += 1
            return _DeviceSource(self)

    def present(self) -> bool:
        """Whether it is there and gives frames: what a reconnection looks at while it waits."""
        return self._plugged and not self._stalled

    def unplug(self) -> None:
        """Takes it away: a read that waits, and every later one, raises SourceError."""
        with self._changed:
            self._plugged = self._stalled = False
            self._plugs += 1
            self._changed.notify_all()

    def plug(self, images: Iterable[NDArray[np.uint8]] | None = None) -> None:
        """Brings it back; with other images, perhaps of another size, where they are given."""
        with self._changed:
            self._plugged = True
            if images is not None:
                self._images = _endless(images)

    def stall(self) -> None:
        """Gives no frame from now on: a read neither returns nor fails, until `resume`, `unplug` or its own close."""
        with self._changed:
            self._stalled = True
            self._changed.notify_all()

    def resume(self) -> None:
        """Gives frames again."""
        with self._changed:
            self._stalled = False
            self._changed.notify_all()


class _DeviceSource:
    """What a `FakeDevice` opened."""

    live = True
    total = None

    def __init__(self, device: FakeDevice) -> None:
        self.name = device.name
        self.fps: float | None = device.fps
        self.closed = False
        self._device = device
        self._plugs = device._plugs
        self._next_id = 0
        self._due_s = time.monotonic()

    def read(self) -> Frame | None:
        """The next frame, at the device's rate; None once closed and when there are no more images."""
        device = self._device
        with device._changed:
            while True:
                if self.closed:
                    return None
                if self._plugs != device._plugs:
                    raise SourceError(
                        f"{self.name}: the camera was unplugged after {self._next_id} frames; plug it in again"
                    )
                now_s = time.monotonic()
                if not device._stalled and now_s >= self._due_s:
                    break
                device._changed.wait(None if device._stalled else self._due_s - now_s)
            image = next(device._images, None)
            if image is None:
                return None
            # The next one is that which has not come yet: those that came while nobody read are gone.
            self._due_s += (1 + int((now_s - self._due_s) * device.fps)) / device.fps
            device.delivered += 1
            frame_id, self._next_id = self._next_id, self._next_id + 1
            return Frame(_checked(image), frame_id, self.name, time.monotonic_ns())

    def close(self) -> None:
        """Frees the device; a waiting `read` returns None."""
        device = self._device
        with device._changed:
            if not self.closed:
                self.closed = True
                device.in_use -= 1
                device._changed.notify_all()


def _endless(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    return itertools.cycle(images) if isinstance(images, Sequence) else iter(images)


def _checked(image: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError("a fake source's images are uint8 arrays [h, w, 3], BGR")
    return image
