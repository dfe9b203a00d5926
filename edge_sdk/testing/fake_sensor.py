"""A power sensor for tests without one: it gives what it was told to, fails on demand, and counts who reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from edge_sdk.sensors.base import Channel, Value

BOARD = Channel("VDD_IN", "power", "sensor_total", in_total=True)


class FakeSensor:
    """Stands in for an open sensor; give it to `edge_sdk.sensors.power.Power`.

    Args:
        values: Called with the number of the read, from 0: one value a channel. What it raises, `read` raises.
        channels: What it gives; one power that is the board's total where left out.
        refresh_s: The time between two new values that it claims.
        takes_s: How long a read takes.
        sleep: What waits so long; of a simulated clock where there is one.
        name: For people.

    Attributes:
        reads: How often it was read.
        clashes: How often it was read while another read was under way, which nobody may do.
        closed: Whether it was closed.

    Examples:
        >>> sensor = FakeSensor(lambda number: [5.0 + number])
        >>> [sensor.read(), sensor.read()]
        [[5.0], [6.0]]
    """

    def __init__(
        self,
        values: Callable[[int], Sequence[Value]],
        channels: Sequence[Channel] = (BOARD,),
        *,
        refresh_s: float = 0.02,
        takes_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.channels = tuple(channels)
        self.refresh_s = refresh_s
        self.reads = 0
        self.clashes = 0
        self.closed = False
        self._values = values
        self._takes_s = takes_s
        self._sleep = sleep
        self._reading = threading.Lock()

    def read(self) -> Sequence[Value]:
        """As `Sensor.read`; raises what the function raises."""
        if not self._reading.acquire(blocking=False):
            self.clashes += 1
            self._reading.acquire()
        try:
            number, self.reads = self.reads, self.reads + 1
            if self._takes_s:
                self._sleep(self._takes_s)
            return self._values(number)
        finally:
            self._reading.release()

    def close(self) -> None:
        """As `Sensor.close`."""
        self.closed = True
