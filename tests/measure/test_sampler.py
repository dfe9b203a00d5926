"""Samples over time, on a simulated clock where time matters and on the system's where threads do."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import SinkError, UsageError
from edge_sdk.measure import ring
from edge_sdk.measure.sampler import Sampler, updates
from edge_sdk.sensors.base import Absent, Channel
from edge_sdk.testing.fake_sensor import FakeSensor
from edge_sdk.testing.simulated_board import SimulatedClock

TWO = (Channel("VDD_IN", "power", "sensor_total", True), Channel("VDD_SOC", "power", "sensor_total", False))


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def test_every_sensor_is_read_at_its_own_rate() -> None:
    clock = SimulatedClock()
    fast = FakeSensor(lambda number: [float(number)], refresh_s=0.005)
    slow = FakeSensor(lambda number: [float(number)], refresh_s=1.0)
    with Sampler([fast, slow], clock=clock, max_hz=50) as sampler:
        clock.sleep(10.0)
    first, second = sampler.samplings()
    assert (first.wanted_hz, second.wanted_hz) == (50.0, 1.0)
    assert first.effective_hz == pytest.approx(50, rel=0.01)
    assert second.effective_hz == pytest.approx(1, rel=0.01)
    assert [len(trace.at_ns) for trace in sampler.traces()] == [501, 11]
    assert first.updates == 500
    assert first.longest_gap_s == pytest.approx(0.02)


def test_reading_takes_at_most_three_tenths_of_the_time() -> None:
    clock = SimulatedClock()
    pmic = FakeSensor(lambda number: [5.0], refresh_s=0.01, takes_s=0.023, sleep=clock.sleep)
    with Sampler([pmic], clock=clock, max_hz=50) as sampler:
        clock.sleep(5.0)
    (how,) = sampler.samplings()
    assert how.wanted_hz == pytest.approx(0.3 / 0.023)
    assert how.read_ms == pytest.approx(23.0)


def test_a_first_read_that_was_interrupted_does_not_set_the_rate() -> None:
    clock = SimulatedClock()

    def values(number: int) -> list[float]:
        clock.sleep(0.5 if number == 0 else 0.0001)
        return [5.0]

    with Sampler([FakeSensor(values, refresh_s=0.01)], clock=clock) as sampler:
        clock.sleep(1.0)
    assert sampler.samplings()[0].wanted_hz == 50.0


def test_a_sample_is_stamped_in_the_middle_of_its_read() -> None:
    clock = SimulatedClock()
    began = clock.now_ns()
    sensor = FakeSensor(lambda number: [5.0], refresh_s=1.0, takes_s=0.1, sleep=clock.sleep)
    with Sampler([sensor], clock=clock) as sampler:
        clock.sleep(2.0)
    assert (sampler.traces()[0].at_ns[0] - began) / 1e9 == pytest.approx(0.05)


def test_what_is_measured_lies_between_a_first_and_a_last_sample() -> None:
    clock = SimulatedClock()
    with Sampler([FakeSensor(lambda number: [5.0], refresh_s=1.0)], clock=clock) as sampler:
        start = clock.now_ns()
        clock.sleep(2.35)
        end = clock.now_ns()
    at = sampler.traces()[0].at_ns
    assert at[0] <= start
    assert at[-1] >= end
    assert (np.diff(at) > 0).all()


def test_times_rise_also_where_two_reads_fall_on_one_moment() -> None:
    clock = SimulatedClock()
    with Sampler([FakeSensor(lambda number: [5.0])], clock=clock) as sampler:
        sampler.sample(0)
        sampler.sample(0)
    assert len(sampler.traces()[0].at_ns) == 1


def test_memory_grows_with_the_samples_and_traces_are_copies() -> None:
    clock = SimulatedClock()
    sensor = FakeSensor(lambda number: [float(number), -1.0], TWO, refresh_s=0.001)
    with Sampler([sensor], clock=clock, max_hz=1000) as sampler:
        clock.sleep(5.0)
        (before,) = sampler.traces()
        before.values[:] = 7.0
        before.at_ns[:] = 0
        (again,) = sampler.traces()
    assert len(again.at_ns) == 5001
    assert (again.values[:, 0] == np.arange(5001)).all()
    assert again.at_ns[0] > 0


def test_traces_since_a_time_begin_with_the_sample_before_it() -> None:
    clock = SimulatedClock()
    with Sampler([FakeSensor(lambda number: [float(number)], refresh_s=0.1)], clock=clock) as sampler:
        clock.sleep(1.0)
        since = clock.now_ns()
        clock.sleep(0.5)
        (recent,) = sampler.traces(since - 50_000_000)
        (everything,) = sampler.traces(0)
    assert recent.values[:, 0].tolist() == [9, 10, 11, 12, 13, 14, 15]
    assert len(everything.at_ns) == 16


def test_before_it_starts_there_is_nothing() -> None:
    sampler = Sampler([FakeSensor(lambda number: [5.0])], clock=SimulatedClock())
    (trace,) = sampler.traces()
    assert (len(trace.at_ns), trace.values.shape) == (0, (0, 1))
    assert sampler.samplings()[0].samples == 0
    sampler.stop()


def test_a_channel_without_a_value_is_nan_and_keeps_its_latest_reason() -> None:
    clock = SimulatedClock()
    reasons = ["power-gated or busy (EAGAIN)", "gone (ENODEV)"]
    sensor = FakeSensor(lambda number: [5.0, Absent(reasons[min(number, 1)])], TWO)
    with Sampler([sensor], clock=clock) as sampler:
        clock.sleep(0.1)
    (trace,) = sampler.traces()
    assert np.isnan(trace.values[:, 1]).all()
    assert (trace.values[:, 0] == 5.0).all()
    assert trace.absent == {"VDD_SOC": "gone (ENODEV)"}
    assert sampler.samplings()[0].updates == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda number: 1 / 0, "division by zero"),
        (lambda number: [1.0], "1 values of 2 channels"),
        (lambda number: ["a", "b"], "must be real number, not str"),
    ],
)
def test_a_sensor_that_breaks_its_promise_gives_nothing_with_the_reason_and_is_logged_once(
    values, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimulatedClock()
    healthy = FakeSensor(lambda number: [3.0])
    with (
        caplog.at_level(logging.ERROR, "edge_sdk"),
        Sampler([FakeSensor(values, TWO), healthy], clock=clock) as sampler,
    ):
        clock.sleep(1.0)
    broken, whole = sampler.traces()
    assert np.isnan(broken.values).all()
    assert reason in broken.absent["VDD_IN"]
    assert (whole.values == 3.0).all()
    assert len(caplog.records) == 1


def test_infinity_is_no_value() -> None:
    clock = SimulatedClock()
    with Sampler([FakeSensor(lambda number: [math.inf])], clock=clock) as sampler:
        clock.sleep(0.1)
    (trace,) = sampler.traces()
    assert np.isnan(trace.values).all()
    assert trace.absent == {"VDD_IN": "not a number: inf"}


def test_an_update_is_a_value_that_differs_and_is_one() -> None:
    nan = math.nan
    assert updates(np.array([[1.0], [1.0], [2.0], [nan], [nan], [2.0]])) == 2
    assert updates(np.array([[1.0, 5.0], [1.0, 6.0], [1.0, 6.0]])) == 1
    assert updates(np.empty((0, 2))) == 0


def test_a_slow_sensor_does_not_delay_a_fast_one() -> None:
    slow_is_read = threading.Event()
    go_on = threading.Event()

    def hangs(number: int) -> list[float]:
        if number == 1:
            slow_is_read.set()
            assert go_on.wait(20)
        return [1.0]

    fast = FakeSensor(lambda number: [float(number)])
    slow = FakeSensor(hangs)
    sampler = Sampler([slow, fast])
    sampler.start()
    try:
        assert slow_is_read.wait(20)
        reads = fast.reads
        wait_until(lambda: fast.reads > reads + 3)
        assert len(sampler.traces()[0].at_ns) == 1
    finally:
        go_on.set()
        sampler.stop()
    assert fast.clashes == slow.clashes == 0


def test_stopping_leaves_no_thread_and_no_further_reads() -> None:
    before = threading.active_count()
    sensors = [FakeSensor(lambda number: [5.0]) for _ in range(3)]
    sampler = Sampler(sensors)
    sampler.start()
    wait_until(lambda: all(sensor.reads > 2 for sensor in sensors))
    sampler.stop()
    sampler.stop()
    reads = [sensor.reads for sensor in sensors]
    assert threading.active_count() == before
    time.sleep(0.06)
    assert [sensor.reads for sensor in sensors] == reads
    assert not any(sensor.closed for sensor in sensors)
    assert all(how.cost_percent > 0 for how in sampler.samplings())


def test_others_look_on_while_it_samples() -> None:
    sensor = FakeSensor(lambda number: [float(number)], refresh_s=0.0005)
    wrong: list[str] = []
    with Sampler([sensor], max_hz=2000) as sampler:

        def look() -> None:
            for _ in range(200):
                (trace,) = sampler.traces()
                if len(trace.at_ns) > 1 and not (
                    (np.diff(trace.at_ns) > 0).all() and (np.diff(trace.values[:, 0]) > 0).all()
                ):
                    wrong.append("times or values do not rise")
                sampler.samplings()
                sampler.sample(0)

        lookers = [threading.Thread(target=look) for _ in range(2)]
        for one in lookers:
            one.start()
        for one in lookers:
            one.join()
        wait_until(lambda: len(sampler.traces()[0].at_ns) > 1100)  # beyond the memory of the beginning
    assert not wrong
    assert sensor.clashes == 0


def test_it_runs_once() -> None:
    with Sampler([], clock=SimulatedClock()) as sampler, pytest.raises(UsageError, match="runs once"):
        sampler.start()
    with pytest.raises(UsageError, match="runs once"):
        sampler.start()


@pytest.mark.parametrize("max_hz", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_means_nothing_is_refused(max_hz: float) -> None:
    with pytest.raises(UsageError, match="max_hz must be above 0"):
        Sampler([], max_hz=max_hz)


def test_the_ring_gets_every_sample_of_every_sensor(tmp_path: Path) -> None:
    clock = SimulatedClock()
    fast = FakeSensor(lambda number: [float(number), 1.0], TWO, name="fast")
    slow = FakeSensor(lambda number: [float(-number)], refresh_s=1.0, name="slow")
    with Sampler([fast, slow], clock=clock, ring=tmp_path / "ring") as sampler:
        clock.sleep(3.0)
        alive = ring.read(tmp_path / "ring")  # while it is written, as another process would
    for live, kept in zip(sampler.traces(), ring.read(tmp_path / "ring"), strict=True):
        assert (kept.sensor, kept.channels, kept.refresh_s) == (live.sensor, live.channels, live.refresh_s)
        assert (kept.at_ns == live.at_ns).all()
        assert (kept.values == live.values).all()
    assert len(alive[0].at_ns) == 151


def test_the_ring_has_room_for_an_hour(tmp_path: Path) -> None:
    clock = SimulatedClock()
    sensors = [FakeSensor(lambda number: [1.0], refresh_s=0.02), FakeSensor(lambda number: [1.0], refresh_s=1.0)]
    with Sampler(sensors, clock=clock, ring=tmp_path / "ring"):
        pass
    assert ring.header(tmp_path / "ring").capacity == 180_000 + 3600 + 2


def test_a_ring_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    before = threading.active_count()
    sampler = Sampler([FakeSensor(lambda number: [5.0])], ring=tmp_path / "none" / "ring")
    with pytest.raises(SinkError, match="cannot be written"):
        sampler.start()
    assert threading.active_count() == before
    sampler.stop()


@pytest.mark.parametrize("what", ["append", "flush"])
def test_a_ring_that_fails_later_is_logged_once_and_sampling_goes_on(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimulatedClock()

    def fails(*_: object) -> None:
        raise SinkError("ring: cannot be written: No space left on device")

    with (
        caplog.at_level(logging.WARNING, "edge_sdk"),
        Sampler([FakeSensor(lambda number: [5.0])], clock=clock, ring=tmp_path / "ring") as sampler,
    ):
        clock.sleep(0.5)
        monkeypatch.setattr(ring.Ring, what, fails)
        clock.sleep(10.0)
    assert len(sampler.traces()[0].at_ns) == 526
    assert [record.message for record in caplog.records] == [
        "ring: cannot be written: No space left on device; sampling goes on without the ring"
    ]
