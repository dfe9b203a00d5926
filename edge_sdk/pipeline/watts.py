"""A camera's power: whose sensors are read while it detects, and who closes them."""

from __future__ import annotations

import logging
import threading

from edge_sdk.errors import EdgeSdkError, SensorError, one_line
from edge_sdk.measure.running import PowerStats, RunningPower
from edge_sdk.result import Reading
from edge_sdk.sensors.power import Power, open_power

_log = logging.getLogger("edge_sdk")


class Watts:
    """Reads power while a camera detects; nothing before it is opened.

    Attributes:
        reason: Why there is no power; None where there is.
    """

    def __init__(self) -> None:
        self.reason: str | None = "power was not asked for"
        self._own: Power | None = None
        self._running: RunningPower | None = None
        # A camera may be closed in one thread while its run ends in another.
        self._changing = threading.RLock()

    def open(self, wanted: bool | str | Power) -> None:
        """Opens the sensors.

        Args:
            wanted: True: the board's own, where it has any. False: none. A name: that one, as `open_power` takes it.
                Open ones stay open.

        Raises:
            SensorError: The sensor that was named cannot be opened.
            UsageError: No driver has its name.
        """
        if wanted is False:
            return
        if isinstance(wanted, Power):
            power = wanted
        elif isinstance(wanted, str):
            power = self._own = open_power(wanted)
        else:
            try:
                power = self._own = open_power()
            except (EdgeSdkError, OSError) as error:  # nobody asked for it by name, so it stops nobody
                self.reason = one_line(error)
                _log.info("no power: %s", self.reason)
                return
        running = RunningPower(power)
        self.reason = running.reason
        if self.reason is None:
            self._running = running
        elif isinstance(wanted, str):
            self.close()
            raise SensorError(self.reason)

    @property
    def latest(self) -> Reading | None:
        """The newest total; None where there is no sensor."""
        return None if self._running is None else self._running.latest

    def energy(self, results: int) -> PowerStats | None:
        """Energy so far, and of each of so many results; None where there is no sensor."""
        return None if self._running is None else self._running.energy().over(results)

    def start(self) -> None:
        """Reads until `stop`."""
        with self._changing:
            if self._running is not None:
                self._running.start()

    def stop(self) -> None:
        """Reads no more; may be called twice."""
        with self._changing:
            if self._running is not None:
                self._running.stop()

    def close(self) -> None:
        """Stops, and closes what it opened; may be called twice."""
        with self._changing:
            self.stop()
            if self._own is not None:
                self._own.close()
