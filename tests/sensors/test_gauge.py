"""Watts now, of a power and of an energy."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from edge_sdk.sensors.base import Absent, Channel, Value
from edge_sdk.sensors.gauge import Gauge


class Script:
    """A sensor that gives what is written down, one line a read, and takes its time on a clock of its own."""

    name = "script"
    refresh_s = 0.01

    def __init__(self, channels: Sequence[Channel], *lines: Sequence[Value], took_ns: int = 0) -> None:
        self.channels = tuple(channels)
        self.now_ns = 1_000_000_000
        self._lines = iter(lines)
        self._took_ns = took_ns

    def read(self) -> Sequence[Value]:
        self.now_ns += self._took_ns
        return next(self._lines)

    def close(self) -> None:
        pass

    def clock(self) -> int:
        return self.now_ns


WATTS = Channel("VDD_IN", "power", "sensor_total", in_total=True)
JOULES = Channel("package-0", "energy", "counter", in_total=True)


def test_a_power_is_itself_from_the_first_read_on() -> None:
    sensor = Script([WATTS, Channel("VDD_SOC", "power", "sensor_total", in_total=False, missing="m")], [5.0, 1.0])
    reads = Gauge(sensor, sensor.clock).read()
    assert [(one.name, one.value, one.reason) for one in reads.channels] == [
        ("VDD_IN", 5.0, None), ("VDD_SOC", 1.0, "m"),
    ]  # fmt: skip
    assert (reads.total.value, reads.total.method) == (5.0, "sensor_total")
    assert list(reads.raw) == [5.0, 1.0]


def test_an_energy_has_a_power_from_the_second_read_on() -> None:
    sensor = Script([JOULES], [100.0], [103.0])
    gauge = Gauge(sensor, sensor.clock)
    first = gauge.read()
    assert (first.total.value, first.channels[0].value) == (None, None)
    assert first.channels[0].reason == "an energy: its power is known from the second read on"
    sensor.now_ns += 500_000_000
    second = gauge.read()
    assert second.channels[0].value == pytest.approx(6.0)
    assert (second.total.value, second.total.method) == (pytest.approx(6.0), "counter")
    assert list(second.raw) == [103.0]


def test_a_read_is_stamped_in_its_middle() -> None:
    sensor = Script([WATTS], [5.0], took_ns=4_000_000)
    reads = Gauge(sensor, sensor.clock).read()
    assert (reads.at_ns, reads.took_ns) == (1_002_000_000, 4_000_000)
    assert reads.total.at_ns == reads.channels[0].at_ns == reads.at_ns


def test_a_counter_that_was_reset_has_no_power_and_the_next_has() -> None:
    sensor = Script([JOULES], [100.0], [1.0], [3.0])
    gauge = Gauge(sensor, sensor.clock)
    gauge.read()
    sensor.now_ns += 1_000_000_000
    assert gauge.read().channels[0].reason == "the energy counter was reset"
    sensor.now_ns += 1_000_000_000
    assert gauge.read().channels[0].value == pytest.approx(2.0)


def test_two_reads_at_one_time_make_no_power() -> None:
    sensor = Script([JOULES], [100.0], [100.0])
    gauge = Gauge(sensor, sensor.clock)
    gauge.read()
    assert gauge.read().channels[0].value is None


def test_a_value_that_was_absent_is_nothing_to_compare_with() -> None:
    sensor = Script([JOULES, WATTS], [100.0, 5.0], [Absent("no permission"), 5.0], [110.0, 5.0])
    gauge = Gauge(sensor, sensor.clock)
    gauge.read()
    sensor.now_ns += 1_000_000_000
    second = gauge.read()
    assert second.channels[0].reason == "no permission"
    assert (second.total.value, second.total.method) == (5.0, "sensor_partial")
    assert second.total.reason == "without package-0 (no permission)"
    sensor.now_ns += 1_000_000_000
    assert gauge.read().channels[0].value is None


def test_the_time_is_this_machines_unless_another_is_given() -> None:
    before = time.monotonic_ns()
    reads = Gauge(Script([WATTS], [5.0])).read()
    assert before <= reads.at_ns <= time.monotonic_ns()
