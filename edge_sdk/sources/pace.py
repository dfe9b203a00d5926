"""Frames at a steady rate for sources that make their own: the demo scene and the double for tests."""

from __future__ import annotations

import threading
import time


class Pace:
    """Says which frame is due, and waits for it.

    Args:
        fps: Frames a second; None waits for nothing.
        live: Whether frames that were not read in time are gone, as a camera's are.
    """

    def __init__(self, fps: float | None, live: bool) -> None:
        self._fps = fps
        self._live = live
        self._start_s: float | None = None
        self._closed = threading.Event()

    def wait_for(self, frame_id: int) -> int | None:
        """Waits until the frame, or the newest after it, is due; None once closed."""
        if self._closed.is_set():
            return None
        if self._fps is None:
            return frame_id
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s - frame_id / self._fps
        if self._live:
            frame_id = max(frame_id, int((now_s - self._start_s) * self._fps))
        due_s = self._start_s + frame_id / self._fps
        return None if self._closed.wait(max(0.0, due_s - now_s)) else frame_id

    def hold(self, seconds: float) -> bool:
        """Gives nothing for a while, as a camera that stalls; False once closed."""
        return not self._closed.wait(seconds)

    def close(self) -> None:
        """Ends every waiting."""
        self._closed.set()
