"""Power and energy beside the live loop: for months, in memory that does not grow, at a cost that is bounded."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_sdk.errors import one_line
from edge_sdk.measure.clock import Clock, Repeating, SystemClock
from edge_sdk.measure.cost import Cost
from edge_sdk.result import Method, Reading
from edge_sdk.sensors.base import TOTAL, Absent, Sensor, Value
from edge_sdk.sensors.gauge import Gauge, Reads
from edge_sdk.sensors.power import Power

FAST_S, SLOW_S = 0.1, 1.0
"""Between two reads of a sensor that is a file, and of one whose read takes more than a millisecond."""

SLOW_READ_S = 0.001

BUDGET = 0.004
"""The most processor time that it takes, of one core; where reads grow too dear, some are left out."""

NO_SENSOR = "there is no power sensor"

_GAP_PERIODS, _GAP_S = 5, 2.0
_MOST_GAPS = 0.05  # of a time whose energy may be shared out over its results
_LEAST_SAMPLES = 5
_WEIGHT = 0.2  # of the latest read in the typical one
_QUICK_S = 0.05  # a read that may be waited for at the end

_log = logging.getLogger("edge_sdk")


@dataclass(frozen=True)
class PowerStats:
    """Energy of a run so far.

    Args:
        seconds: That it ran.
        energy_j: Gross, of the whole board or what its sensor covers; None where there were fewer than 5 samples, or
            of a counter a time of fewer than 5 refreshes.
        mean_w: Over the time that had values.
        method: How the watts came about; see `Reading.method`. None where there is no energy.
        reason: Why there is no energy, or what it lacks; None where there is nothing to say.
        samples: With a value.
        gaps_s: Of the seconds, those without a value; they are not in the energy.
        per_result_mj: Gross energy over the results of that time; None where there are none, or where more than 5 % of
            the time had no values.
        latest: The newest total; see `RunningPower.latest`.
    """

    seconds: float
    energy_j: float | None
    mean_w: float | None
    method: Method | None
    reason: str | None
    samples: int
    gaps_s: float
    per_result_mj: float | None = None
    latest: Reading | None = None

    def over(self, results: int) -> PowerStats:
        """The same with the energy of each of so many results."""
        whole = self.energy_j is not None and self.gaps_s <= _MOST_GAPS * self.seconds
        per_result_mj = 1000 * self.energy_j / results if self.energy_j is not None and whole and results else None
        return replace(self, per_result_mj=per_result_mj)


class RunningPower:
    """Samples the sensor that gives the total, seldom, while something runs.

    A file is read ten times a second; a sensor whose read takes more than a millisecond once a second; no sensor more
    often than it has new values. Between two samples power is taken to change evenly. A time without values of more
    than five periods and two seconds is a gap, which is no part of the energy; of an energy counter there are none,
    because it counts on.

    A sample that lacks a channel of the total which others had counts as none. Where that lasts as long as a gap, the
    rest is taken for a partial total from then on, and the whole energy is "sensor_partial".

    Args:
        power: Open sensors; they stay open, and nobody else may read them while it runs.
        clock: None is this machine's.
    """

    def __init__(self, power: Power, clock: Clock | None = None) -> None:
        self._power = power
        self._clock: Clock = SystemClock() if clock is None else clock
        self._sensor: Sensor | None = power.main if power.reason is None else None
        self._gauge = None if self._sensor is None else Gauge(self._sensor, self._clock.now_ns)
        self._lock = threading.Lock()  # for what `energy` reads together; `latest` takes none
        self._latest: Reading | None = None
        self._sum = _Sum(self._sensor)
        self._repeating: Repeating | None = None
        self._period_s = FAST_S
        self._stale_ns = 0
        self._quick = True
        self._tick_ns = 0  # of the last read
        self._typical_s = 0.0  # processor time of a read and of waking up for it
        self._counted_s = 0.0  # of `_used_s`, what is in there
        self._began_ns: int | None = None
        self._ran_ns = 0
        self._cost = Cost()
        self._programs_s = 0.0
        self._raised = False

    def start(self) -> None:
        """Samples until `stop`; goes on with the energy of the time before."""
        if self._sensor is None or self._repeating is not None:
            return
        with self._lock:
            self._sum.pause()
            self._began_ns = self._clock.now_ns()
        self._cost, self._programs_s = Cost(), 0.0
        took_s, used_s = self._read()
        for _ in range(2):  # perhaps it was interrupted, or came to a cold cache
            if SLOW_READ_S < took_s < 5 * SLOW_READ_S or (took_s <= SLOW_READ_S and used_s > BUDGET * FAST_S):
                took_s, used_s = map(min, (took_s, used_s), self._read(show=False))
        self._quick = took_s <= _QUICK_S
        self._period_s = max(SLOW_S if took_s > SLOW_READ_S else FAST_S, self._sensor.refresh_s, used_s / BUDGET)
        self._typical_s, self._counted_s = used_s, self._used_s
        self._tick_ns = self._clock.now_ns()
        limit_s = max(_GAP_PERIODS * self._period_s, _GAP_S)
        self._sum.limit_ns = self._stale_ns = int(limit_s * 1e9)
        self._repeating = self._clock.every(self._period_s, self._tick)

    def stop(self) -> None:
        """Leaves no thread behind; may be called twice."""
        repeating, self._repeating = self._repeating, None
        if repeating is None:
            return
        repeating.stop()
        self._stale_ns = 0
        if self._quick:  # the end of the run, without waiting for a meter in the network
            self._read(show=False)
        with self._lock:
            if self._began_ns is not None:
                self._ran_ns += self._clock.now_ns() - self._began_ns
                self._began_ns = None

    @property
    def latest(self) -> Reading | None:
        """The newest total; None where there is no sensor. One that has grown old has no value and says how old.

        Takes no lock and reads no sensor: the loop asks for each frame.
        """
        latest = self._latest
        if latest is None or not self._stale_ns:
            return latest
        age_ns = self._clock.now_ns() - latest.at_ns
        if age_ns <= self._stale_ns:
            return latest
        return Reading(
            latest.name, None, "w", None, latest.at_ns, f"the sensor has not answered for {age_ns / 1e9:.0f} s"
        )

    @property
    def reason(self) -> str | None:
        """Why there is no sensor; None where there is one."""
        return None if self._sensor is not None else self._power.reason or NO_SENSOR

    @property
    def period_s(self) -> float:
        """The time between two reads that is aimed at."""
        return self._period_s

    @property
    def cost_percent(self) -> float:
        """Processor time that it takes, waking up and programs that are run for it included, of one core."""
        began = self._began_ns
        seconds = 0.0 if began is None else (self._clock.now_ns() - began) / 1e9
        return 100 * self._used_s / seconds if seconds > 0 else 0.0

    def energy(self) -> PowerStats:
        """The figures so far; from any thread."""
        with self._lock:
            now_ns = None if self._began_ns is None else self._clock.now_ns()
            ran_ns = self._ran_ns + (0 if self._began_ns is None or now_ns is None else now_ns - self._began_ns)
            if self._sensor is None:
                return PowerStats(ran_ns / 1e9, None, None, None, self.reason, 0, ran_ns / 1e9)
            stats = self._sum.stats(ran_ns, now_ns)
        return replace(stats, latest=self.latest)

    def __enter__(self) -> RunningPower:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _used_s(self) -> float:
        return self._cost.seconds + self._programs_s

    def _tick(self) -> None:
        with self._cost:
            now_ns = self._clock.now_ns()
            since_s = (now_ns - self._tick_ns) / 1e9
            # It has just started, or reads have grown too dear for the period.
            if since_s < max(self._period_s / 2, self._typical_s / BUDGET - self._period_s / 10):
                return
            self._tick_ns = now_ns
            self._read()
        # What was used since the last read, waking up included. A single one may be the garbage collector's doing.
        used_s, self._counted_s = self._used_s - self._counted_s, self._used_s
        self._typical_s += _WEIGHT * (min(used_s, 4 * self._typical_s + 1e-4) - self._typical_s)

    def _read(self, show: bool = True) -> tuple[float, float]:
        """One sample.

        Args:
            show: As the newest; not where the one before is so young that a counter's difference says nothing.

        Returns:
            How long it took, and the processor time that it took, that of programs included.
        """
        assert self._gauge is not None  # noqa: S101  there is a sensor
        began_ns, thread_s, programs_s = self._clock.now_ns(), time.thread_time(), _programs_s()
        try:
            reads = self._gauge.read()
        except Exception as error:  # noqa: BLE001  it must not raise, and a run of months must not end by it
            if not self._raised:
                self._raised = True
                _log.exception("%s: a read raised; it gives no value", self._gauge.sensor.name)
            now_ns, reason = self._clock.now_ns(), one_line(error)
            raw = tuple(Absent(reason) for _ in self._gauge.sensor.channels)
            reads = Reads(now_ns, 0, raw, (), Reading(TOTAL, None, "w", None, now_ns, reason))
        with self._lock:
            self._sum.add(reads)
        if show:
            self._latest = reads.total
        took_s = (self._clock.now_ns() - began_ns) / 1e9
        # Of programs no more than the read took: another thread's may have ended meanwhile, after hours.
        programs_s = min(_programs_s() - programs_s, took_s)
        self._programs_s += programs_s
        return took_s, time.thread_time() - thread_s + programs_s


class _Sum:
    """The energy so far, sample by sample.

    Attributes:
        limit_ns: A gap is longer.
    """

    def __init__(self, sensor: Sensor | None) -> None:
        self._channels = () if sensor is None else sensor.channels
        self._refresh_s = 0.0 if sensor is None else sensor.refresh_s
        self.limit_ns = int(_GAP_S * 1e9)
        self._energy_j = 0.0
        self._covered_ns = 0
        self._samples = 0
        self._columns: frozenset[int] = frozenset()  # of the total, those that have a value
        self._last: tuple[int, Sequence[Value]] | None = None  # the last sample that has them
        self._since_ns: int | None = None  # the first read after a pause, until one has a value
        self._total: Reading | None = None
        self._partial: Reading | None = None

    def pause(self) -> None:
        """The time until the next sample is not counted."""
        self._last = self._since_ns = None

    def add(self, reads: Reads) -> None:
        present = frozenset(
            column
            for column, (channel, value) in enumerate(zip(self._channels, reads.raw, strict=True))
            if channel.in_total and not isinstance(value, Absent)
        )
        if self._last is None and self._since_ns is None:
            self._since_ns = reads.at_ns
        if not present or (present < self._columns and not self._overdue(reads.at_ns)):
            if self._total is None or self._total.value is None:
                self._total = reads.total  # for its reason
            return
        self._samples += 1
        if reads.total.value is not None or self._total is None:
            self._total = reads.total
        if self._last is not None:
            self._step(self._last, reads, present)
        self._columns, self._last, self._since_ns = present, (reads.at_ns, reads.raw), None

    def _overdue(self, at_ns: int) -> bool:
        since_ns = self._since_ns if self._last is None else self._last[0]
        return since_ns is not None and at_ns - since_ns > self.limit_ns

    def _step(self, before: tuple[int, Sequence[Value]], reads: Reads, present: frozenset[int]) -> None:
        between_ns = reads.at_ns - before[0]
        energy_j = self._between(before[1], reads.raw, present, between_ns / 1e9)
        if energy_j is not None:
            self._energy_j += energy_j
            self._covered_ns += between_ns
            if reads.total.method == "sensor_partial" and reads.total.value is not None:
                self._partial = reads.total

    def _between(
        self, before: Sequence[Value], now: Sequence[Value], present: frozenset[int], seconds: float
    ) -> float | None:
        """Joules between two samples; None over a gap, or where they are sums of different channels."""
        energy_j = 0.0
        if present != self._columns:
            return None
        for column in present:
            old, new = before[column], now[column]
            if isinstance(old, Absent) or isinstance(new, Absent):
                return None
            if self._channels[column].quantity == "power":
                if seconds * 1e9 > self.limit_ns:
                    return None
                energy_j += (old + new) / 2 * seconds
            elif new < old:
                return None  # the counter was reset
            else:
                energy_j += new - old
        return energy_j

    def stats(self, ran_ns: int, now_ns: int | None) -> PowerStats:
        """The figures.

        Args:
            ran_ns: How long it ran.
            now_ns: Where it runs: the time since the last sample is no gap yet as long as it is short.
        """
        pending_ns = 0 if now_ns is None or self._last is None else now_ns - self._last[0]
        gaps_ns = ran_ns - self._covered_ns - (pending_ns if pending_ns <= self.limit_ns else 0)
        seconds, gaps_s = ran_ns / 1e9, max(0, gaps_ns) / 1e9
        shown = self._partial or self._total
        reason = None if shown is None else shown.reason
        covered_s = self._covered_ns / 1e9
        counts = all(channel.quantity == "energy" for channel in self._channels if channel.in_total)
        enough = covered_s >= _LEAST_SAMPLES * self._refresh_s if counts else self._samples >= _LEAST_SAMPLES
        if not (enough and covered_s):
            if shown is None or shown.value is not None:
                reason = f"{self._samples} samples in {covered_s:.3g} s are too few"
            return PowerStats(seconds, None, None, None, reason, self._samples, gaps_s)
        mean_w = self._energy_j / covered_s
        method = None if shown is None else shown.method
        return PowerStats(seconds, self._energy_j, mean_w, method, reason, self._samples, gaps_s)


def _programs_s() -> float:
    """Processor time of programs that this process ran and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
