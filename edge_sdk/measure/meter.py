"""Energy and mean power of a block of code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import UsageError
from edge_sdk.measure.clock import Clock, SystemClock
from edge_sdk.measure.energy import integrate
from edge_sdk.measure.record import Sampling
from edge_sdk.measure.running import NO_SENSOR
from edge_sdk.measure.sampler import MAX_HZ, Sampler
from edge_sdk.measure.trace import Trace
from edge_sdk.result import Method, Reading
from edge_sdk.sensors.base import TOTAL, Absent, Sensor, Value, total
from edge_sdk.sensors.power import Power, open_power

LEAST_REFRESHES = 5
"""Below so many of a sensor's values an energy would be a matter of luck."""


@dataclass(frozen=True)
class Measured:
    """Energy of a stretch of time.

    Args:
        energy_mj: None where `reason` says why.
        mean_w: `energy_mj` over the time.
        seconds: The time.
        method: How the watts came about; see `Reading.method`. None where there is no energy.
        reason: Why there is no energy, or what it lacks; None where there is nothing to say.
        samples: Of the sensor, in the time, with a value.
    """

    energy_mj: float | None
    mean_w: float | None
    seconds: float
    method: Method | None
    reason: str | None
    samples: int


class PowerMeter:
    """Measures what a block of code draws.

        with edge_sdk.PowerMeter() as meter:
            for photo in photos:
                detector(photo)
        print(meter.energy_mj, meter.mean_w, meter.method, meter.reason)

    The figures are of the whole board, or of what its sensor covers (`covers`), idle power included: energy of the work
    alone is what ``edge-sdk profile`` measures. After the block they are those of the block; in it, those up to the
    newest sample. A meter may be used for one block after another.

    A time in which the sensor can have given fewer than 5 new values, counted by its refresh time or by the time
    between two reads where that is longer, has no energy, and `reason` says so: at 50 Hz that is 0.1 s, of a meter at
    1 Hz it is 5 s. Do short work several times in the block.

    Args:
        sensor: One that you name, ``DRIVER`` or ``DRIVER:ADDRESS``, such as ``shelly:192.168.1.20``; None is the
            board's own.
        options: For its driver, such as ``{"fit": "published"}``.
        max_hz: The highest rate; a sensor that has new values less often is read less often.
        ring: A file that keeps the samples of the last hour through a crash; `edge_sdk.measure.ring.read` reads it.
        power: Open sensors to use instead, which stay open.
        clock: None is this machine's.

    Raises:
        UsageError: Open sensors were given and some to open too, or `max_hz` is not above 0. On entering: no driver
            has that name, an option means nothing to it, or the meter is in use.
        SensorError: On entering: the sensor that you named cannot be opened. A board without a sensor is no error.
        SinkError: On entering: the ring file cannot be written.
    """

    def __init__(
        self,
        sensor: str | None = None,
        *,
        options: Mapping[str, str] | None = None,
        max_hz: float = MAX_HZ,
        ring: Path | None = None,
        power: Power | None = None,
        clock: Clock | None = None,
    ) -> None:
        if power is not None and (sensor is not None or options):
            raise UsageError("open sensors were given: name no other sensor and no options")
        Sampler((), max_hz=max_hz)  # checks it now
        self._sensor = sensor
        self._options = options
        self._max_hz = max_hz
        self._ring = ring
        self._given = power
        self._clock: Clock = SystemClock() if clock is None else clock
        self._power: Power | None = None
        self._sampler: Sampler | None = None
        self._main: int | None = None
        self._step_s = 0.0  # between two values that can differ
        self._start_ns = self._split_ns = self._clock.now_ns()
        self._end_ns: int | None = self._start_ns
        self._result: Measured | None = None

    def __enter__(self) -> PowerMeter:
        if self._end_ns is None:
            raise UsageError("the meter is in use; make another")
        power = open_power(self._sensor, options=self._options) if self._given is None else self._given
        sampler = Sampler(power.sensors, clock=self._clock, max_hz=self._max_hz, ring=self._ring)
        try:
            sampler.start()
        except BaseException:
            if self._given is None:
                power.close()
            raise
        main: Sensor | None = power.main if power.reason is None else None
        self._power, self._sampler = power, sampler
        self._main = None if main is None else power.sensors.index(main)
        self._step_s = 0.0 if main is None else max(main.refresh_s, sampler.periods_s[power.sensors.index(main)])
        self._result = None
        self._end_ns = None
        self._start_ns = self._split_ns = self._clock.now_ns()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._sampler is not None  # noqa: S101  it was entered
        assert self._power is not None  # noqa: S101
        self._end_ns = self._clock.now_ns()
        try:
            self._sampler.stop()
        finally:
            if self._given is None:
                self._power.close()

    def split(self) -> Measured:
        """Energy since the last split, or since the block began: for each of several steps in one block.

        The sensor is read for it once more, which on a Raspberry Pi 5 takes 23 ms; that time counts in the next step.
        After the block, the energy from the last split to its end.
        """
        end_ns = self._clock.now_ns() if self._end_ns is None else self._end_ns
        if self._end_ns is None and self._sampler is not None and self._main is not None:
            self._sampler.sample(self._main)  # a sample on the far side of the edge
        start_ns, self._split_ns = self._split_ns, end_ns
        return self._measure(start_ns, end_ns)

    @property
    def measured(self) -> Measured:
        """All figures at once."""
        if self._end_ns is None:
            trace = self._main_trace(self._clock.now_ns())
            newest = int(trace.at_ns[-1]) if trace is not None and len(trace.at_ns) else self._clock.now_ns()
            return self._measure(self._start_ns, max(newest, self._start_ns))
        if self._result is None:
            self._result = self._measure(self._start_ns, self._end_ns)
        return self._result

    @property
    def energy_mj(self) -> float | None:
        """Millijoules of the block; None where `reason` says why."""
        return self.measured.energy_mj

    @property
    def mean_w(self) -> float | None:
        """Watts in the mean over the block; None where `reason` says why."""
        return self.measured.mean_w

    @property
    def seconds(self) -> float:
        """Length of the block."""
        return self.measured.seconds

    @property
    def method(self) -> Method | None:
        """How the watts came about; see `Reading.method`. None where there is no energy."""
        return self.measured.method

    @property
    def reason(self) -> str | None:
        """Why there is no energy, or what it lacks; None where there is nothing to say."""
        return self.measured.reason

    @property
    def covers(self) -> str | None:
        """What the total contains, in words; None where nobody wrote it down."""
        return None if self._power is None else self._power.covers

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The samples of every sensor so far; copies."""
        return () if self._sampler is None else self._sampler.traces()

    @property
    def samplings(self) -> tuple[Sampling, ...]:
        """How each sensor was read."""
        return () if self._sampler is None else self._sampler.samplings()

    @property
    def now(self) -> Reading:
        """The newest total power."""
        trace = self._main_trace(self._clock.now_ns() - int(2e9 * self._step_s))
        if trace is None:
            return Reading(TOTAL, None, "w", None, self._clock.now_ns(), self._no_sensor())
        return newest(trace)

    def _main_trace(self, since_ns: int | None = None) -> Trace | None:
        if self._sampler is None or self._main is None:
            return None
        return self._sampler.traces(since_ns)[self._main]

    def _no_sensor(self) -> str:
        if self._power is None:
            return "nothing was measured yet"
        return self._power.reason or NO_SENSOR

    def _measure(self, start_ns: int, end_ns: int) -> Measured:
        seconds = (end_ns - start_ns) / 1e9
        if self._sampler is None or self._main is None:
            return Measured(None, None, seconds, None, self._no_sensor(), 0)
        step_s = self._step_s
        margin_s = 1 + 2 * LEAST_REFRESHES * step_s  # more than is looked at beyond an edge
        trace = self._sampler.traces(start_ns - int(margin_s * 1e9))[self._main]
        if seconds < LEAST_REFRESHES * step_s:
            samples = int(np.isfinite(trace.between(start_ns, end_ns).summed()).sum())
            reason = (
                f"{seconds:.3g} s is shorter than {LEAST_REFRESHES} refreshes of {trace.sensor} "
                f"({step_s:.3g} s each); do the work several times"
            )
            return Measured(None, None, seconds, None, reason, samples)
        found = integrate(trace, start_ns, end_ns)
        if found.energy_j is None:
            return Measured(None, None, seconds, None, found.reason, found.samples)
        return Measured(found.energy_j * 1000, found.mean_w, seconds, found.method, found.missing, found.samples)


def newest(trace: Trace) -> Reading:
    """The total power at a trace's newest sample; of an energy, its rise over at least a refresh before."""
    if not len(trace.at_ns):
        return Reading(TOTAL, None, "w", None, 0, f"{trace.sensor} was not read yet")
    at_ns = int(trace.at_ns[-1])
    earlier = int(np.searchsorted(trace.at_ns, at_ns - int(0.9e9 * trace.refresh_s), side="right")) - 1
    values: list[Value] = []
    for column, channel in enumerate(trace.channels):
        value, before = trace.values[-1, column], trace.values[max(0, earlier), column]
        if np.isnan(value):
            values.append(Absent(trace.absent.get(channel.name, "no value")))
        elif channel.quantity == "power":
            values.append(float(value))
        elif earlier < 0 or np.isnan(before):
            values.append(Absent("an energy: its power is known from the second read on"))
        elif value < before:
            values.append(Absent("the energy counter was reset"))
        else:
            values.append(float(value - before) * 1e9 / (at_ns - int(trace.at_ns[earlier])))
    return total(trace.channels, values, at_ns)
