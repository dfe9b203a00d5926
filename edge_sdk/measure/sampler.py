"""Samples of sensors over time: each read at its own rate, by a thread of its own, at a cost that is measured."""

from __future__ import annotations

import logging
import math
import threading
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import EdgeSdkError, UsageError, one_line
from edge_sdk.measure.clock import Clock, Repeating, SystemClock
from edge_sdk.measure.cost import Cost
from edge_sdk.measure.record import Sampling
from edge_sdk.measure.ring import Ring
from edge_sdk.measure.trace import Trace
from edge_sdk.sensors.base import Absent, Sensor, Value

MAX_HZ = 50.0
"""Faster reads of a board's sensors give the same value again: an INA3221 on a Jetson renews at 77 Hz at most."""

READ_SHARE = 0.3
"""The most of a period that a read may take: the Pi 5's PMIC, of 23 ms a read, is so read at 13 Hz."""

RING_S = 3600.0
"""What the ring file holds."""

FLUSH_S = 5.0
"""Between two writings of the ring to the disk: what a loss of power costs. A crash of the process costs nothing."""

_READS = 4096  # of which the median time is taken

_log = logging.getLogger("edge_sdk")


class Sampler:
    """Reads sensors again and again between `start` and `stop`, or in a ``with`` block.

    Every sensor is read once when it starts and once more when it stops, so that whatever is measured in between lies
    between two samples. The time of a sample is the middle of its read.

    Args:
        sensors: Open ones. They stay open; nobody else may read them meanwhile.
        clock: None is this machine's.
        max_hz: The highest rate. A sensor is read at most as often as it has new values, and so seldom that reading
            takes no more than 30 % of the time.
        ring: A file that keeps the samples of the last hour through a crash; see `edge_sdk.measure.ring`.

    Raises:
        UsageError: `max_hz` is not above 0.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor],
        *,
        clock: Clock | None = None,
        max_hz: float = MAX_HZ,
        ring: Path | None = None,
    ) -> None:
        if not (isfinite(max_hz) and max_hz > 0):
            raise UsageError(f"max_hz must be above 0, not {max_hz}")
        self._clock: Clock = SystemClock() if clock is None else clock
        self._max_hz = max_hz
        self._path = ring
        self._ring: _RingOutlet | None = None
        self._tracks = tuple(_Track(sensor, self._clock, index) for index, sensor in enumerate(sensors))
        self._repeating: list[Repeating] = []
        self._state = "new"

    def start(self) -> None:
        """Reads every sensor once and goes on until `stop`.

        Raises:
            SinkError: The ring file cannot be written.
            UsageError: It was started before.
        """
        if self._state != "new":
            raise UsageError("a sampler runs once; make another")
        for track in self._tracks:
            track.probe(self._max_hz)
        if self._path is not None:
            records = sum(math.ceil(RING_S / track.period_s) + 1 for track in self._tracks)
            self._ring = _RingOutlet(Ring.create(self._path, [one.sensor for one in self._tracks], max(1, records)))
            for track in self._tracks:
                track.attach(self._ring)
        self._state = "running"
        try:
            for track in self._tracks:
                self._repeating.append(self._clock.every(track.period_s, track.tick))
            if self._ring is not None:
                self._repeating.append(self._clock.every(FLUSH_S, self._ring.flush))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Reads every sensor a last time and leaves no thread behind; may be called twice."""
        running, self._state = self._state == "running", "stopped"
        repeating, self._repeating = self._repeating, []
        for one in repeating:
            one.stop()
        if running:
            for track in self._tracks:
                track.read()
        if self._ring is not None:
            self._ring.close()

    def sample(self, index: int) -> None:
        """Reads one sensor now, in the calling thread, for a sample at the edge of what is measured.

        Args:
            index: Its place in `sensors`.
        """
        if self._state == "running":
            self._tracks[index].read()

    @property
    def periods_s(self) -> tuple[float, ...]:
        """The time between two reads that is aimed at, one a sensor; infinite before `start`."""
        return tuple(track.period_s for track in self._tracks)

    def traces(self, since_ns: int | None = None) -> tuple[Trace, ...]:
        """What was seen so far, one a sensor, in the order of `sensors`; from any thread. The arrays are copies.

        Args:
            since_ns: Leaves out what is older, but for the last sample before it.
        """
        return tuple(track.trace(since_ns) for track in self._tracks)

    def samplings(self) -> tuple[Sampling, ...]:
        """How each sensor was read so far; from any thread.

        ``cost_percent`` is the processor time of the thread that reads, waking up included, over the time that it ran.
        """
        return tuple(track.sampling() for track in self._tracks)

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Track:
    """The samples of one sensor.

    Only one thread at a time reads the sensor and appends. Whoever looks on needs no lock: values are there before
    their time is, and a slice of an `array` is a copy. They are no NumPy arrays because a tick comes to a cold cache,
    where each library that it does not need counts.
    """

    def __init__(self, sensor: Sensor, clock: Clock, index: int) -> None:
        self.sensor = sensor
        self.period_s = math.inf
        self._clock = clock
        self._index = index
        self._channels = tuple(sensor.channels)
        self._reading = threading.Lock()
        self._ring: _RingOutlet | None = None
        self._at = array("q")
        self._values = array("d")  # rows, one after the other
        self._newest_ns = -(1 << 63)
        self._absent: dict[str, str] = {}
        self._took_ns: deque[int] = deque(maxlen=_READS)
        self._raised = False
        self._cost = Cost()

    def probe(self, max_hz: float) -> None:
        """The first sample; sets the period by how long a read takes."""
        self._cost = Cost()
        fastest = max(1 / max_hz, self.sensor.refresh_s)
        took = self.read()
        for _ in range(2):  # one that was interrupted says nothing about the sensor
            if took > READ_SHARE * fastest * 1e9:
                took = min(took, self.read())
        self.period_s = max(fastest, took / 1e9 / READ_SHARE)

    def attach(self, ring: _RingOutlet) -> None:
        """Writes what is there, and what comes, to the ring too."""
        self._ring = ring
        width = len(self._channels)
        for row, at_ns in enumerate(self._at):
            ring.append(self._index, at_ns, self._values[row * width : (row + 1) * width])

    def tick(self) -> None:
        """One read, and what it cost this thread."""
        with self._cost:
            # At first, and after `sample`, there is one already.
            if self._clock.now_ns() - self._newest_ns > self.period_s * 5e8:
                self.read()

    def read(self) -> int:
        """One sample; how long the read took, in ns."""
        with self._reading:
            began = self._clock.now_ns()
            row = self._row()
            took = self._clock.now_ns() - began
            self._took_ns.append(took)
            self._append(began + took // 2, row)
            return took

    def _row(self) -> list[float]:
        try:
            values = self.sensor.read()
            if len(values) != len(self._channels):
                raise ValueError(f"{len(values)} values of {len(self._channels)} channels")
            return [
                value if type(value) is float and isfinite(value) else self._odd(channel.name, value)
                for channel, value in zip(self._channels, values, strict=True)
            ]
        except Exception as error:  # noqa: BLE001  it must not raise, and a run of hours must not end by it
            if not self._raised:
                self._raised = True
                _log.exception("%s: a read raised; it gives no value", self.sensor.name)
            return [self._none(channel.name, one_line(error)) for channel in self._channels]

    def _none(self, channel: str, reason: str) -> float:
        if self._absent.get(channel) != reason:
            self._absent = {**self._absent, channel: reason}  # another one, as somebody may be looking at the old
        return math.nan

    def _odd(self, channel: str, value: Value) -> float:
        if isinstance(value, Absent):
            return self._none(channel, value.reason)
        return float(value) if isfinite(value) else self._none(channel, f"not a number: {value}")

    def _append(self, at_ns: int, row: list[float]) -> None:
        if at_ns <= self._newest_ns:
            return
        self._newest_ns = at_ns
        self._values.extend(row)
        self._at.append(at_ns)
        if self._ring is not None:
            self._ring.append(self._index, at_ns, row)

    def trace(self, since_ns: int | None = None) -> Trace:
        count, width = len(self._at), len(self._channels)
        first = 0 if since_ns is None else max(0, bisect_left(self._at, since_ns, 0, count) - 1)
        return Trace(
            self.sensor.name,
            self._channels,
            self.sensor.refresh_s,
            np.array(self._at[first:count], np.int64),
            np.array(self._values[first * width : count * width], np.float64).reshape(count - first, width),
            self._absent,
        )

    def sampling(self) -> Sampling:
        trace = self.trace()
        at = trace.at_ns
        seconds = float(at[-1] - at[0]) / 1e9 if len(at) > 1 else 0.0
        return Sampling(
            sensor=trace.sensor,
            wanted_hz=0.0 if math.isinf(self.period_s) else 1 / self.period_s,
            effective_hz=(len(at) - 1) / seconds if seconds else 0.0,
            refresh_s=trace.refresh_s,
            samples=len(at),
            updates=updates(trace.values),
            longest_gap_s=float(np.diff(at).max()) / 1e9 if len(at) > 1 else 0.0,
            read_ms=float(np.median(self._took_ns.copy())) / 1e6 if self._took_ns else 0.0,
            cost_percent=100 * self._cost.seconds / seconds if seconds else 0.0,
        )


def updates(values: NDArray[np.float64]) -> int:
    """How many rows of float64 [n, channels] bring a new value: one that differs from the row before's."""
    now, before = values[1:], values[:-1]
    return int(((now != before) & ~np.isnan(now)).any(axis=1).sum())


class _RingOutlet:
    """A ring that fails at most once: sampling goes on without it."""

    def __init__(self, ring: Ring) -> None:
        self._ring: Ring | None = ring
        self._lock = threading.Lock()

    def append(self, sensor: int, at_ns: int, values: Sequence[float] | NDArray[np.float64]) -> None:
        with self._lock:
            if self._ring is not None:
                try:
                    self._ring.append(sensor, at_ns, values)
                except EdgeSdkError as error:
                    self._give_up(error)

    def flush(self) -> None:
        ring = self._ring
        if ring is not None:
            try:
                ring.flush()  # without the lock: a slow disk must not hold up the reads
            except EdgeSdkError as error:
                with self._lock:
                    self._give_up(error)

    def close(self) -> None:
        with self._lock:
            if self._ring is not None:
                self._ring.close()
                self._ring = None

    def _give_up(self, error: EdgeSdkError) -> None:
        _log.warning("%s; sampling goes on without the ring", one_line(error))
        if self._ring is not None:
            self._ring.close()
            self._ring = None
