"""A meter that is asked in a thread: reading never waits, and a dead meter that comes back is read again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from edge_sdk.errors import SensorError
from edge_sdk.sensors.base import Absent, Channel, Value
from edge_sdk.sensors.newest import Newest
from edge_sdk.sensors.polled import Polled

CHANNELS = (Channel("power", "power", "external", in_total=True),)


class Meter:
    """What a test asks in place of a device."""

    def __init__(self) -> None:
        self.answer: Sequence[Value] | Exception = (5.0,)
        self.asked = 0
        self.closed = 0
        self.holds = threading.Event()  # cleared, `ask` hangs
        self.holds.set()

    def ask(self) -> Sequence[Value]:
        self.asked += 1
        self.holds.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed += 1
        self.holds.set()


@pytest.fixture
def meter() -> Iterator[Meter]:
    one = Meter()
    yield one
    one.holds.set()


def wait_for(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.005)


def polled(meter: Meter, every_s: float = 0.01) -> Polled:
    return Polled("meter", CHANNELS, every_s, meter.ask, close=meter.close, first=(5.0,))


def test_the_newest_answer_is_read(meter: Meter) -> None:
    sensor = polled(meter)
    assert sensor.read() == (5.0,)
    meter.answer = (6.5,)
    wait_for(lambda: sensor.read() == (6.5,))
    sensor.close()


def test_reading_does_not_wait_for_a_slow_meter(meter: Meter) -> None:
    sensor = polled(meter)
    meter.holds.clear()
    wait_for(lambda: meter.asked > 0)
    assert sensor.read() == (5.0,)
    sensor.close()
    assert meter.closed == 1


def test_a_meter_that_fails_has_no_value_and_is_read_again_when_it_is_back(meter: Meter) -> None:
    sensor = polled(meter)
    meter.answer = SensorError("plug: no answer within 2 s")
    wait_for(lambda: sensor.read() == (Absent("plug: no answer within 2 s"),))
    meter.answer = (7.0,)
    wait_for(lambda: sensor.read() == (7.0,))
    meter.answer = (Absent("the meter gives no power"),)
    wait_for(lambda: sensor.read() == (Absent("the meter gives no power"),))
    sensor.close()


def test_an_error_that_nobody_thought_of_does_not_end_the_thread(
    meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    sensor = polled(meter)
    meter.answer = KeyError("what")
    wait_for(lambda: sensor.read() == (Absent("'what'"),))
    meter.answer = (8.0,)
    wait_for(lambda: sensor.read() == (8.0,))
    sensor.close()
    assert "meter: asking failed" in caplog.text


def test_closing_twice_leaves_no_thread(meter: Meter) -> None:
    before = threading.active_count()
    sensor = polled(meter)
    sensor.close()
    sensor.close()
    assert threading.active_count() == before
    assert meter.closed == 1


def test_the_meter_is_not_asked_more_often_than_it_should_be(meter: Meter) -> None:
    sensor = polled(meter, every_s=60.0)
    time.sleep(0.05)
    sensor.close()
    assert meter.asked == 0


# ---- how old a value may be


def test_a_value_is_stale_after_three_seconds() -> None:
    newest = Newest()
    assert newest.value("line") == Absent("no line yet")
    now = time.monotonic()
    newest.put(1.5, at_s=now - 2)
    assert newest.value("line") == 1.5
    newest.put(1.5, at_s=now - 4)
    assert newest.value("line") == Absent("stale: the last line came 4 s ago")


def test_a_value_of_a_slow_meter_is_stale_after_five_of_its_intervals() -> None:
    newest = Newest()
    now = time.monotonic()
    for ago in (22, 20, 18, 16, 14, 9):
        newest.put(1.5, at_s=now - ago)
    assert newest.interval_s == pytest.approx(2.6)
    assert newest.value("line") == 1.5
    assert Newest(10.0).stale_s == 50.0


def test_several_values_at_once_are_counted() -> None:
    newest = Newest()
    newest.put(1.0, at_s=10.0)
    newest.put(1.0, at_s=11.0, count=100)
    assert newest.interval_s == pytest.approx(0.01)
    assert newest.stale_s == 3.0


def test_the_time_until_a_meter_is_back_is_no_interval() -> None:
    newest = Newest()
    newest.put(1.0, at_s=10.0)
    newest.put(1.0, at_s=11.0)
    newest.fail("gone")
    assert newest.value("line") == Absent("gone")
    newest.put(1.0, at_s=500.0)
    newest.put(1.0, at_s=501.0)
    assert newest.interval_s == pytest.approx(1.0)
