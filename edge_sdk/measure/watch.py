"""What a board draws and does, read again and again in the background: for whoever looks on, not for a measurement."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_sdk.conditions.base import Conditions
from edge_sdk.errors import UsageError, one_line
from edge_sdk.measure.clock import Clock, Repeating, SystemClock
from edge_sdk.measure.tally import Tally
from edge_sdk.result import Method, Reading
from edge_sdk.sensors.base import TOTAL, Sensor
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import Power

_T = TypeVar("_T")

_log = logging.getLogger("edge_sdk")

# What starts a process (the power mode, vcgencmd) is asked this often: often enough to be believed, and no load.
FULL_EVERY_S = 5.0
# A value is shown for so many intervals (or refreshes of its sensor, where these are longer), then it is stale.
_STALE_AFTER = 3
_LONGEST_TEXT = 400  # characters of a name or reason that came from outside
_MOST_CAUSES = 64
_NOT_YET = "not read yet"


@dataclass(frozen=True)
class SensorNow:
    """The newest values of one sensor.

    Args:
        name: The sensor's.
        readings: One a channel, in watts; one without a value has its reason.
        in_total: Of each channel, whether the sensor's total is the sum over it.
        read_ms: What the newest read took; None before the first.
    """

    name: str
    readings: tuple[Reading, ...]
    in_total: tuple[bool, ...]
    read_ms: float | None

    @property
    def up(self) -> bool:
        """Whether any of its channels has a value."""
        return any(reading.value is not None for reading in self.readings)


@dataclass(frozen=True)
class Snapshot:
    """What is known at one moment. All names and reasons are one printable line each.

    Args:
        at_ns: Of the clock: `time.monotonic_ns`.
        seconds: Since the watch began.
        total: The board's power, or why there is none.
        sensors: In the order of `Power.sensors`.
        conditions: The newest; empty where there are none or they are stale.
        conditions_reason: Why they are empty; None where they are not.
        energy_j: Integrated over the stretches that have values; None before the first.
        energy_method: "sensor_partial" where any of it was; None before the first value.
        mean_w: `energy_j` over `measured_s`; None where that is 0.
        min_w, peak_w: Of the readings; None before the first value.
        measured_s: How long the stretches with values were, together.
        gaps: How many stretches without a value came after the first value.
        throttled: Every cause that was seen to throttle since the watch began.
    """

    at_ns: int
    seconds: float
    total: Reading
    sensors: tuple[SensorNow, ...]
    conditions: Conditions
    conditions_reason: str | None = None
    energy_j: float | None = None
    energy_method: Method | None = None
    mean_w: float | None = None
    min_w: float | None = None
    peak_w: float | None = None
    measured_s: float = 0.0
    gaps: int = 0
    throttled: tuple[str, ...] = ()


class Watch:
    """Reads sensors and conditions once an interval, each in a thread of its own, so that a slow one delays no other.

    It closes neither the sensors nor what reads conditions, and is closed before them.

    Args:
        power: Open sensors; nobody else reads them meanwhile.
        conditions: `ConditionsReader.read`: called with whether to read what is slow, too.
        interval_s: Between two reads; above 0.
        clock: On which it is repeated; None is this machine's.

    Raises:
        UsageError: `interval_s` is not above 0.
    """

    def __init__(
        self,
        power: Power,
        conditions: Callable[[bool], Conditions],
        *,
        interval_s: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        if not 0 < interval_s < math.inf:
            raise UsageError(f"an interval is above 0 s, not {interval_s:g}")
        self._power = power
        clock = SystemClock() if clock is None else clock
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = False
        self._began_ns = clock.now_ns()
        main = power.main
        spans = main is not None and any(one.in_total and one.quantity == "energy" for one in main.channels)
        longest_s = _STALE_AFTER * max(interval_s, main.refresh_s if main is not None else 0.0)
        self._tally = Tally(longest_s, spans=spans)
        self._posts = [_Post(sensor, interval_s, clock) for sensor in power.sensors]
        self._scout = _Scout(conditions, interval_s, clock)
        ticks = [self._tick(post) for post in self._posts] + [self._look]
        self._repeating: list[Repeating] = []
        try:
            for tick in ticks:
                self._repeating.append(clock.every(interval_s, tick))
        except BaseException:
            self.close()
            raise

    def snapshot(self) -> Snapshot:
        """What is known now; waits for no sensor."""
        now_ns = self._clock.now_ns()
        with self._lock:
            tally = self._tally
            total = Reading(TOTAL, None, "w", None, now_ns, printable(self._power.reason or "there is no power sensor"))
            for post in self._posts:
                if post.sensor is self._power.main:
                    total = post.total(now_ns)
            conditions, reason = self._scout.now(now_ns)
            return Snapshot(
                at_ns=now_ns,
                seconds=(now_ns - self._began_ns) / 1e9,
                total=total,
                sensors=tuple(post.now(now_ns) for post in self._posts),
                conditions=conditions,
                conditions_reason=reason,
                energy_j=tally.energy_j,
                energy_method=tally.method,
                mean_w=tally.mean_w,
                min_w=tally.min_w,
                peak_w=tally.peak_w,
                measured_s=tally.measured_s,
                gaps=tally.gaps,
                throttled=self._scout.throttled,
            )

    @property
    def settled(self) -> bool:
        """Whether everything was read once, with success or without."""
        with self._lock:
            return self._scout.looked and all(post.looked for post in self._posts)

    def close(self) -> None:
        """Reads no more; returns when the reads that are under way are over. May be called twice."""
        self._closing = True  # so that none begins another while an earlier one is waited for
        for repeating in self._repeating:
            repeating.stop()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _tick(self, post: _Post) -> Callable[[], None]:
        def tick() -> None:
            if self._closing:
                return
            news = post.read()
            with self._lock:
                post.take(*news)
                if post.sensor is self._power.main:
                    self._tally.add(post.newest)

        return tick

    def _look(self) -> None:
        if self._closing:
            return
        found = self._scout.read()
        with self._lock:
            self._scout.take(found)


class _Post:
    """One sensor and its newest values; reading is apart from taking, because only the latter needs the lock."""

    def __init__(self, sensor: Sensor, interval_s: float, clock: Clock) -> None:
        self.sensor = sensor
        self._name = printable(sensor.name)
        self._now_ns = clock.now_ns
        self._gauge = Gauge(sensor, clock.now_ns)
        self._in_total = tuple(channel.in_total for channel in sensor.channels)
        self._fresh_s = _STALE_AFTER * max(interval_s, sensor.refresh_s)
        self._readings: tuple[Reading, ...] = ()
        self._read_ms: float | None = None
        self.looked = False
        self.newest = Reading(TOTAL, None, "w", None, clock.now_ns(), _NOT_YET)

    def read(self) -> tuple[Reading, tuple[Reading, ...], float | None]:
        """The total, the channels and what the read took; called in the sensor's thread."""
        try:
            reads = self._gauge.read()
        except Exception as error:  # noqa: BLE001  a driver of somebody's own; the others go on
            _log.debug("%s: could not be read", self._name, exc_info=True)
            at_ns, reason = self._now_ns(), f"could not be read: {one_line(error)}"
            return self._none(TOTAL, at_ns, reason), self._nothing(at_ns, reason), None
        return _checked(reads.total), tuple(_checked(one) for one in reads.channels), reads.took_ns / 1e6

    def take(self, total: Reading, readings: tuple[Reading, ...], read_ms: float | None) -> None:
        """Keeps what was read."""
        self.newest, self._readings, self._read_ms, self.looked = total, readings, read_ms, True

    def total(self, now_ns: int) -> Reading:
        """The newest total, or why it is none by now."""
        stale = self._stale(now_ns)
        return self.newest if stale is None else self._none(TOTAL, self.newest.at_ns, stale)

    def now(self, now_ns: int) -> SensorNow:
        """The newest values, or why they are none by now."""
        stale = self._stale(now_ns)
        if stale is not None or not self._readings:
            readings = self._nothing(self.newest.at_ns, stale or _NOT_YET)
        else:
            readings = self._readings
        return SensorNow(self._name, readings, self._in_total, self._read_ms)

    def _stale(self, now_ns: int) -> str | None:
        seconds = (now_ns - self.newest.at_ns) / 1e9
        return f"no answer for {seconds:.0f} s" if seconds > self._fresh_s else None

    def _nothing(self, at_ns: int, reason: str) -> tuple[Reading, ...]:
        return tuple(self._none(channel.name, at_ns, reason) for channel in self.sensor.channels)

    @staticmethod
    def _none(name: str, at_ns: int, reason: str) -> Reading:
        return Reading(printable(name), None, "w", None, at_ns, printable(reason))


class _Scout:
    """The newest conditions. What is slow to read is read now and then, and kept meanwhile."""

    def __init__(self, read: Callable[[bool], Conditions], interval_s: float, clock: Clock) -> None:
        self._read = read
        self._now_ns = clock.now_ns
        self._fresh_s = _STALE_AFTER * max(interval_s, FULL_EVERY_S)
        self._full: Conditions | None = None
        self._slow: tuple[str, ...] | None = None  # causes of throttling that only a full read tells
        self._newest: Conditions | None = None
        self._failed: str | None = _NOT_YET
        self.looked = False
        self.throttled: tuple[str, ...] = ()

    def read(self) -> Conditions | str:
        """Conditions, or why there are none; called in the thread that reads them."""
        full = self._full
        try:
            quick = _all_printable(self._read(False))
            if full is None or (self._now_ns() - full.at_ns) / 1e9 >= FULL_EVERY_S:
                # Read twice, so that it is known which causes of throttling only the slow way tells: the others end as
                # soon as they end. Loads are those since the read before, which is just over for the second.
                full = _all_printable(self._read(True))
                self._full = full
                self._slow = _without(full.throttling, quick.throttling)
        except Exception as error:  # noqa: BLE001  the watts go on
            _log.debug("conditions could not be read", exc_info=True)
            return printable(f"could not be read: {one_line(error)}")
        return replace(
            quick,
            clocks=_others(full.clocks, quick.clocks, lambda one: one.name),
            throttling=_either(quick.throttling, self._slow),
            throttled_since_boot=quick.throttled_since_boot or full.throttled_since_boot,
            power_mode=full.power_mode,
            power_mode_reason=full.power_mode_reason,
            governors=_others(full.governors, quick.governors, lambda one: one[0]),
        )

    def take(self, found: Conditions | str) -> None:
        """Keeps what was read."""
        self.looked = True
        if isinstance(found, str):
            self._newest, self._failed = None, found
            return
        self._newest, self._failed = found, None
        seen = dict.fromkeys((*self.throttled, *(found.throttling or ())))
        self.throttled = tuple(seen)[:_MOST_CAUSES]

    def now(self, now_ns: int) -> tuple[Conditions, str | None]:
        """The newest, or empty ones and why."""
        if self._newest is None:
            return Conditions(at_ns=now_ns), self._failed
        seconds = (now_ns - self._newest.at_ns) / 1e9
        if seconds > self._fresh_s:
            return Conditions(at_ns=self._newest.at_ns), f"no answer for {seconds:.0f} s"
        return self._newest, None


def printable(text: str) -> str:
    """A name or reason from outside as one line that any screen, file and label can take; the end of a long one goes.

    A sensor's label may hold anything, the codes that clear a terminal too.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST_TEXT]).split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 3] + "..."


def _checked(reading: Reading) -> Reading:
    value, reason = reading.value, reading.reason
    if value is not None and not math.isfinite(value):
        value, reason = None, f"not a number: {value}"
    return replace(reading, name=printable(reading.name), value=value, reason=reason and printable(reason))


def _all_printable(found: Conditions) -> Conditions:
    def lines(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(printable(text) for text in texts)

    mode = found.power_mode
    return replace(
        found,
        temperatures=tuple(map(_checked, found.temperatures)),
        clocks=tuple(map(_checked, found.clocks)),
        loads=tuple(map(_checked, found.loads)),
        throttling=None if found.throttling is None else lines(found.throttling),
        throttled_since_boot=lines(found.throttled_since_boot),
        power_mode=mode and replace(mode, name=printable(mode.name)),
        power_mode_reason=found.power_mode_reason and printable(found.power_mode_reason),
        governors=tuple((printable(name), printable(governor)) for name, governor in found.governors),
    )


def _others(full: Sequence[_T], quick: Sequence[_T], name: Callable[[_T], str]) -> tuple[_T, ...]:
    """What a full read found, and what a quick one found of it since."""
    newer = {name(one): one for one in quick}
    older = {name(one): one for one in full}
    return tuple({**older, **newer}.values())


def _without(some: Sequence[str] | None, others: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if some is None else tuple(one for one in some if one not in (others or ()))


def _either(one: Sequence[str] | None, other: Sequence[str] | None) -> tuple[str, ...] | None:
    """What is in one of them or in both; None where neither tells."""
    return None if one is None and other is None else tuple(dict.fromkeys((*(one or ()), *(other or ()))))
