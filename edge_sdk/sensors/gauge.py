"""A sensor's watts now, whatever it gives: power, or an energy whose differences are power."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_sdk.result import Reading
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, total


@dataclass(frozen=True)
class Reads:
    """What one read of a sensor gave, in watts.

    Args:
        at_ns: `time.monotonic_ns` in the middle of the read.
        took_ns: How long it took.
        raw: As the sensor gave it, one a channel.
        channels: In watts.
        total: Over the channels that are in the total.
    """

    at_ns: int
    took_ns: int
    raw: Sequence[Value]
    channels: tuple[Reading, ...]
    total: Reading


class Gauge:
    """Reads a sensor; the first read of an energy has no value, because there is nothing yet to compare it with.

    Args:
        sensor: An open one.
        now_ns: The time; of a simulated clock where there is one.
    """

    def __init__(self, sensor: Sensor, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.sensor = sensor
        self._now_ns = now_ns
        self._last: tuple[int, Sequence[Value | None]] | None = None

    def read(self) -> Reads:
        """Reads it now."""
        began = self._now_ns()
        raw = self.sensor.read()
        took = self._now_ns() - began
        at_ns = began + took // 2
        channels = self.sensor.channels
        nothing: Sequence[Value | None] = [None] * len(channels)
        last_ns, last = self._last or (at_ns, nothing)
        values = [
            _watts(channel, value, before, (at_ns - last_ns) / 1e9)
            for channel, value, before in zip(channels, raw, last, strict=True)
        ]
        self._last = (at_ns, raw)
        readings = tuple(
            Reading(channel.name, None, "w", channel.method, at_ns, value.reason)
            if isinstance(value, Absent)
            else Reading(channel.name, value, "w", channel.method, at_ns, channel.missing)
            for channel, value in zip(channels, values, strict=True)
        )
        return Reads(at_ns, took, raw, readings, total(channels, values, at_ns))


def _watts(channel: Channel, value: Value, before: Value | None, seconds: float) -> Value:
    if channel.quantity == "power" or isinstance(value, Absent):
        return value
    if before is None or isinstance(before, Absent) or seconds <= 0:
        return Absent("an energy: its power is known from the second read on")
    if value < before:
        return Absent("the energy counter was reset")
    return (value - before) / seconds
