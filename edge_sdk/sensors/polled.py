"""A sensor that is asked by a thread of its own: whoever reads it waits for nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge_sdk.errors import SensorError, one_line
from edge_sdk.sensors.base import Absent, Channel, Value
from edge_sdk.sensors.newest import Newest

_log = logging.getLogger("edge_sdk")


class Polled:
    """Asks again and again in a thread and gives the newest answer; a `Sensor`.

    A question that fails leaves no value until the next one succeeds, and the reason in its place. One that takes too
    long leaves the last value until that is stale, after 3 s or five intervals.

    Args:
        name, channels: As `Sensor` has them.
        refresh_s: Between two questions.
        ask: Gives one value a channel, or raises SensorError with the reason.
        close: Frees what `ask` uses, and makes one that is under way return soon. Called once.
        first: What `ask` gave when the sensor was opened.
    """

    def __init__(
        self,
        name: str,
        channels: tuple[Channel, ...],
        refresh_s: float,
        ask: Callable[[], Sequence[Value]],
        *,
        close: Callable[[], None],
        first: Sequence[Value],
    ) -> None:
        self.name = name
        self.channels = channels
        self.refresh_s = refresh_s
        self._ask = ask
        self._close = close
        self._newest = [Newest(refresh_s) for _ in channels]
        self._stopped = threading.Event()
        self._put(first)
        self._thread = threading.Thread(target=self._run, name="edge-sdk-meter", daemon=True)
        self._thread.start()

    def read(self) -> Sequence[Value]:
        """The newest answer; returns at once."""
        return tuple(newest.value("answer") for newest in self._newest)

    def close(self) -> None:
        """Ends the thread, and a question that is under way; may be called twice."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._close()
            self._thread.join(timeout=5)  # a name that is being looked up can hold it longer: it then ends by itself

    def _run(self) -> None:
        due = time.monotonic() + self.refresh_s
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.refresh_s, time.monotonic())
            try:
                self._put(self._ask())
            except SensorError as error:
                self._fail(one_line(error))
            except Exception as error:  # noqa: BLE001  a thread that ends in silence would look like a dead meter
                _log.exception("%s: asking failed", self.name)
                self._fail(one_line(error))

    def _put(self, values: Sequence[Value]) -> None:
        for newest, value in zip(self._newest, values, strict=True):
            if isinstance(value, Absent):
                newest.fail(value.reason)
            else:
                newest.put(value)

    def _fail(self, reason: str) -> None:
        for newest in self._newest:
            newest.fail(reason)
