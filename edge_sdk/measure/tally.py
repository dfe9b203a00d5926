"""Energy and extremes of a power that somebody looks on at: in constant memory, for as long as it takes."""

from __future__ import annotations

from edge_sdk.result import Method, Reading


class Tally:
    """Energy and extremes of a power since its first value, in constant memory.

    Between two values of a power, energy is the trapezoid's; a mean over the time since the reading before, as an
    energy counter gives it, is multiplied by that time, and so loses nothing however long it was.

    Args:
        longest_s: A stretch between two values of a power that is longer than this is a gap.
        spans: Whether readings are means over the time since the reading before.
    """

    def __init__(self, longest_s: float, *, spans: bool) -> None:
        self._longest_ns = longest_s * 1e9
        self._spans = spans
        self._before: Reading | None = None
        self._in_gap = False
        self.energy_j: float | None = None
        self.method: Method | None = None
        self.min_w: float | None = None
        self.peak_w: float | None = None
        self.measured_s = 0.0
        self.gaps = 0

    @property
    def mean_w(self) -> float | None:
        """Over the stretches that have values; None where there is none."""
        return None if self.energy_j is None or self.measured_s <= 0 else self.energy_j / self.measured_s

    def add(self, reading: Reading) -> None:
        """Takes the next reading; one that is no later than the one before is left out."""
        before = self._before
        if before is not None and reading.at_ns <= before.at_ns:
            return
        self._before = reading
        if reading.value is None:
            if self.energy_j is not None and not self._in_gap:
                self.gaps += 1
                self._in_gap = True
            return
        self._count(reading.value, reading.method)
        mean_w = None if before is None else self._between(before, reading)
        if before is not None and mean_w is not None:
            seconds = (reading.at_ns - before.at_ns) / 1e9
            self.energy_j = (self.energy_j or 0.0) + mean_w * seconds
            self.measured_s += seconds
        elif self.energy_j is None:
            self.energy_j = 0.0
        elif not self._in_gap:
            self.gaps += 1
        self._in_gap = False

    def _count(self, value: float, method: Method | None) -> None:
        self.min_w = value if self.min_w is None else min(self.min_w, value)
        self.peak_w = value if self.peak_w is None else max(self.peak_w, value)
        if self.method != "sensor_partial":
            self.method = method

    def _between(self, before: Reading, now: Reading) -> float | None:
        """The mean power between two readings; None where it is not known."""
        if self._spans or now.value is None:
            return now.value
        if before.value is None or now.at_ns - before.at_ns > self._longest_ns:
            return None
        return (before.value + now.value) / 2
