"""A thread that reads a source to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_sdk.errors import BadFrameError, SourceError
from edge_sdk.result import Frame
from edge_sdk.sources.base import Source

log = logging.getLogger("edge_sdk")

# How much the latest interval counts in the typical one.
_WEIGHT = 0.1


class Reader:
    """Reads until the source ends, fails or nobody wants more; then calls `when_over`.

    Args:
        source: Stays open.
        deliver: Takes each frame, from this reader; returns whether another is wanted.
        spoilt: Takes the error of each frame that could not be read.
        when_over: Called last, from the thread.

    Attributes:
        error: Why it ended; None for the source's own end, and where no more was wanted.
        frames: Delivered.
        last_s: `time.monotonic` of the latest frame, or of the beginning.
        typical_s: Between two frames; 0 before the second.
        delivering: Whether it waits for somebody to take a frame, rather than for the source.
        over: Whether the thread has nothing more to do.
    """

    def __init__(
        self,
        source: Source,
        deliver: Callable[[Reader, Frame], bool],
        spoilt: Callable[[BadFrameError], None],
        when_over: Callable[[Reader], None],
    ) -> None:
        self.source = source
        self.error: BaseException | None = None
        self.frames = 0
        self.last_s = time.monotonic()
        self.typical_s = 0.0
        self.delivering = False
        self.over = False
        self._deliver = deliver
        self._spoilt = spoilt
        self._when_over = when_over
        self._stop = threading.Event()
        # A daemon: one that a driver does not let go must not keep the process.
        self._thread = threading.Thread(target=self._run, name="edge-sdk-capture", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Reads no further frame; `join` waits for the one that is being read."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether nobody wants more."""
        return self._stop.is_set()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread ended in time."""
        if self._thread is threading.current_thread():  # a listener to events may close the camera
            return False
        if self._thread.ident is not None:  # an interrupt may come before it is started
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    frame = self.source.read()
                except BadFrameError as error:
                    self._spoilt(error)
                    continue
                if frame is None:
                    return
                self._note()
                self.delivering = True
                wanted = self._deliver(self, frame)
                self.delivering = False
                self.last_s = time.monotonic()  # waiting for a slow taker is no silence of the source
                if not wanted:
                    return
        except SourceError as error:
            self.error = error.with_traceback(None)  # which would keep the source and its pictures alive
        except BaseException as error:  # noqa: BLE001  whoever reads the mailbox is told
            self.error = error
        finally:
            self.over = True
            self._when_over(self)

    def _note(self) -> None:
        now = time.monotonic()
        gap, self.last_s = now - self.last_s, now
        if self.frames:  # the first one's wait was for the opening
            self.typical_s += (gap - self.typical_s) * (_WEIGHT if self.frames > 1 else 1)
        self.frames += 1
