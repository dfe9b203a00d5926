"""The newest value of a meter that gives values in its own time, and when it is too old to be one."""

from __future__ import annotations

import math
import time
from collections import deque

from edge_sdk.sensors.base import Absent, Value

STALE_S = 3.0
STALE_INTERVALS = 5


class Newest:
    """Keeps the newest value; one thread puts, another may read.

    A value is stale after 3 s, or after five of the meter's own intervals where that is longer.

    Args:
        interval_s: Between two values, where it is known; else it is learnt from those that come.

    Attributes:
        interval_s: As given, or over the latest values that came; None where too few have come to tell.
    """

    def __init__(self, interval_s: float | None = None) -> None:
        self.interval_s = interval_s
        self._learns = interval_s is None
        self._kept: tuple[float, Value] | None = None  # when it came, in seconds of time.monotonic
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=16)  # when, and how many values until then
        self._count = 0

    @property
    def stale_s(self) -> float:
        """The age at which a value is none any more."""
        return max(STALE_S, STALE_INTERVALS * (self.interval_s or 0.0))

    def put(self, value: Value, *, at_s: float | None = None, count: int = 1) -> None:
        """Keeps a value.

        Args:
            value: The newest, or why there is none now.
            at_s: When it came, as `time.monotonic`; None is now.
            count: How many came since the last time, this one included.
        """
        at_s = time.monotonic() if at_s is None else at_s
        self._count += count
        self._arrivals.append((at_s, self._count))
        if self._learns and len(self._arrivals) > 1:
            first_s, before = self._arrivals[0]
            self.interval_s = (at_s - first_s) / max(1, self._count - before)
        self._kept = (at_s, value)

    def fail(self, reason: str) -> None:
        """There is no value until the next one is put."""
        self._arrivals.clear()  # the time until it is back is no interval
        self._kept = (math.inf, Absent(reason))

    def value(self, source: str) -> Value:
        """The newest value, or why there is none.

        Args:
            source: What gives no more values, for the reason: "line from the meter".
        """
        kept = self._kept
        if kept is None:
            return Absent(f"no {source} yet")
        at_s, value = kept
        age_s = time.monotonic() - at_s
        if age_s > self.stale_s:
            return Absent(f"stale: the last {source} came {age_s:.0f} s ago")
        return value
