"""The sensor that stands in for one."""

from __future__ import annotations

import doctest
import threading
import time

import pytest

from edge_sdk.sensors.base import Absent, Sensor
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.testing import fake_sensor
from edge_sdk.testing.fake_sensor import FakeSensor


def test_its_example_runs() -> None:
    assert doctest.testmod(fake_sensor).failed == 0


def test_it_gives_what_it_was_told_to() -> None:
    sensor: Sensor = FakeSensor(lambda number: [Absent("gone (ENODEV)") if number == 1 else 5.0])
    gauge = Gauge(sensor)
    assert [gauge.read().total.value for _ in range(3)] == [5.0, None, 5.0]
    sensor.close()
    assert sensor.closed


def test_it_fails_on_demand() -> None:
    sensor = FakeSensor(lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sensor.read()
    assert sensor.reads == 1


def test_it_notices_two_readers_at_once() -> None:
    sensor = FakeSensor(lambda number: [5.0], takes_s=0.2)
    other = threading.Thread(target=sensor.read)
    other.start()
    while not sensor.reads:
        time.sleep(0.005)
    sensor.read()
    other.join()
    assert (sensor.reads, sensor.clashes) == (2, 1)
