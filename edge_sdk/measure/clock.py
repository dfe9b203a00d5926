"""The time that a measurement runs on: this machine's, or a simulated one in its place."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger("edge_sdk")

# Up to here the end waits for the next call: sleeping takes half the processor time of waiting to be told.
_SHORT_S = 0.025


class Repeating(Protocol):
    """Something that is called again and again."""

    def stop(self) -> None:
        """Calls it no more; returns when a call that is under way is over. May be called twice."""
        ...


class Clock(Protocol):
    """Monotonic time."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...

    def every(self, period_s: float, tick: Callable[[], None]) -> Repeating:
        """Calls `tick` now and then at every period, until it is stopped; never two calls at once.

        A call that is late leaves out those that it was too late for. One that raises is logged, and goes on.
        """
        ...


class SystemClock:
    """`time.monotonic_ns`; what repeats runs in a thread of its own."""

    def now_ns(self) -> int:
        """As `Clock.now_ns`."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """As `Clock.sleep`."""
        time.sleep(seconds)

    def every(self, period_s: float, tick: Callable[[], None]) -> Repeating:
        """As `Clock.every`."""
        return _Thread(period_s, tick)


class _Thread:
    def __init__(self, period_s: float, tick: Callable[[], None]) -> None:
        self._period_s = period_s
        self._tick = tick
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-sampler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._tick()
            except Exception:  # noqa: BLE001  a thread that ends in silence would look like a sensor that is gone
                _log.exception("a repeated call failed")
            now = time.monotonic()
            due += self._period_s * max(1, int((now - due) / self._period_s) + 1)
            if self._period_s <= _SHORT_S:
                time.sleep(max(0.0, due - now))
            else:
                self._stopped.wait(max(0.0, due - now))

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
