"""What a sampler saw of one sensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_sdk.sensors.base import Channel


@dataclass(frozen=True, eq=False)
class Trace:
    """Samples of one sensor, oldest first.

    Args:
        sensor: Its name.
        channels: Its channels.
        refresh_s: The time between two new values, as far as it is known.
        at_ns: int64 [n], monotonic, in the middle of each read; rising.
        values: float64 [n, channels]: W of a power, J of an energy; NaN where there was none.
        absent: For each channel that had no value at some time: the latest reason.
    """

    sensor: str
    channels: tuple[Channel, ...]
    refresh_s: float
    at_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_energy(self) -> bool:
        """Whether what is in the total counts joules rather than watts."""
        return any(channel.in_total and channel.quantity == "energy" for channel in self.channels)

    def summed(self) -> NDArray[np.float64]:
        """float64 [n]: the sum over the channels in the total, W or J; NaN where one of them has no value."""
        inside = [column for column, channel in enumerate(self.channels) if channel.in_total]
        if not inside:
            return np.full(len(self.at_ns), np.nan)
        summed: NDArray[np.float64] = self.values[:, inside].sum(axis=1)
        return summed

    def between(self, start_ns: int, end_ns: int) -> Trace:
        """The samples from `start_ns` to `end_ns`, both included."""
        first, last = np.searchsorted(self.at_ns, [start_ns, end_ns + 1])
        return Trace(
            self.sensor, self.channels, self.refresh_s, self.at_ns[first:last], self.values[first:last], self.absent
        )
