"""The processor time of what is called again and again."""

from __future__ import annotations

import threading
import time


class Cost:
    """Adds up the processor time of the calls that are made in its block, and of waking up for them.

    Made in the thread that starts the calls. Where they are made in a thread of their own, all that the thread uses is
    theirs; where a simulated clock makes them in the same thread, only what the blocks use is.

    Attributes:
        seconds: Of processor time so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._starter = threading.get_ident()
        self._mark: float | None = None

    def __enter__(self) -> Cost:
        if self._mark is None or threading.get_ident() == self._starter:
            self._mark = time.thread_time()
        return self

    def __exit__(self, *exc: object) -> None:
        now = time.thread_time()
        self.seconds += now - (now if self._mark is None else self._mark)
        self._mark = now
