"""Pictures for whoever asks, encoded once for all and not at all for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from edge_sdk.result import Result


class Pictures:
    """The newest result as a JPEG, which is made when it is asked for, and once.

    `offer` is for any thread; everything else is for the one of the event loop.

    Args:
        encode: Makes the JPEG.
        max_fps: Of `after`.

    Attributes:
        made: How many were.
    """

    def __init__(self, encode: Callable[[Result], bytes], max_fps: float) -> None:
        self.made = 0
        self._encode = encode
        self._interval_s = 1 / max_fps
        self._newest: tuple[int, Result] | None = None
        self._jpeg = (0, b"")
        self._tick = (0, b"")  # what the streams show
        self._due_s = 0.0
        self._changed = asyncio.Event()
        self._ended = False

    def offer(self, result: Result) -> None:
        """There is a newer one; `wake` tells those who wait."""
        self._newest = (self._newest[0] + 1 if self._newest else 1, result)

    def wake(self) -> None:
        """Has those who wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._newest = None
        self.wake()

    def newest(self) -> bytes | None:
        """The newest as it is now; None before the first."""
        newest = self._newest
        if newest is None:
            return None
        number, result = newest
        if self._jpeg[0] != number:
            self._jpeg = (number, self._encode(result))
            self.made += 1
        return self._jpeg[1]

    async def after(self, seen: int) -> tuple[int, bytes] | None:
        """The number and the JPEG of a newer one than was seen, as soon as there is one; None at the end."""
        while not self._ended:
            changed = self._changed
            newest = self._newest
            wait_s = self._due_s - time.monotonic()
            if self._tick[0] > seen:
                return self._tick
            if newest is None or newest[0] <= seen:
                await changed.wait()
            elif wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                self.newest()
                self._tick = self._jpeg
                # The next is due an interval after this one was, not after it came: else each delay costs rate.
                self._due_s = max(self._due_s + self._interval_s, time.monotonic())
        return None
