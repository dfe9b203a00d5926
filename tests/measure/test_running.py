"""Power beside a loop of months: exact where there are values, silent about nothing where there are none."""

from __future__ import annotations

import logging
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.measure.running import BUDGET, PowerStats, RunningPower
from edge_sdk.sensors.base import Absent, Channel, Value
from edge_sdk.sensors.power import Power
from edge_sdk.testing.fake_sensor import BOARD, FakeSensor
from edge_sdk.testing.simulated_board import SimulatedClock

COUNTER = Channel("package-0", "energy", "counter", True)
RAILS = (Channel("GPU", "power", "sensor_total", True), Channel("CPU", "power", "sensor_total", True))
GATED = Absent("power-gated or busy (EAGAIN)")


class Bench:
    """A sensor on a simulated clock; values are a function of the seconds since the beginning."""

    def __init__(
        self,
        values: Callable[[float], Sequence[Value]],
        channels: Sequence[Channel] = (BOARD,),
        refresh_s: float = 0.02,
    ) -> None:
        self.clock = SimulatedClock()
        self.began = self.clock.now_ns()
        self.sensor = FakeSensor(lambda number: values(self.now_s), channels, refresh_s=refresh_s)
        self.running = RunningPower(Power([self.sensor], None), self.clock)

    @property
    def now_s(self) -> float:
        return (self.clock.now_ns() - self.began) / 1e9

    def run(self, seconds: float) -> PowerStats:
        with self.running:
            self.clock.sleep(seconds)
        return self.running.energy()


def test_a_power_that_rises_is_integrated() -> None:
    stats = Bench(lambda t: [5 + t]).run(10.03)
    assert stats.energy_j == pytest.approx(5 * 10.03 + 10.03**2 / 2)
    assert stats.mean_w == pytest.approx(5 + 10.03 / 2)
    assert (stats.seconds, stats.gaps_s) == (10.03, 0.0)
    assert (stats.method, stats.reason, stats.samples) == ("sensor_total", None, 102)


def test_an_energy_counter_is_the_difference_also_over_a_time_without_reads() -> None:
    stats = Bench(lambda t: [GATED if 3 < t < 7 else 8 * t], [COUNTER]).run(10.0)
    assert stats.energy_j == pytest.approx(80)
    assert (stats.method, stats.gaps_s) == ("counter", 0.0)


def test_a_counter_that_was_reset_costs_the_time_between_two_reads() -> None:
    stats = Bench(lambda t: [8 * (t if t < 4 else t - 4)], [COUNTER]).run(10.0)
    assert stats.gaps_s == pytest.approx(0.1)
    assert stats.energy_j == pytest.approx(8 * 9.9)
    assert stats.mean_w == pytest.approx(8)


def test_a_short_time_without_values_is_bridged_and_a_long_one_is_a_gap() -> None:
    stats = Bench(lambda t: [GATED if 1 < t < 1.55 or 3 < t < 6.05 else 5.0]).run(10.0)
    assert stats.gaps_s == pytest.approx(3.1)
    assert stats.energy_j == pytest.approx(5 * 6.9)
    assert stats.mean_w == pytest.approx(5.0)


def test_a_gap_that_is_not_over_is_counted_as_far_as_it_goes() -> None:
    bench = Bench(lambda t: [5.0 if t < 4.05 else GATED])
    with bench.running:
        bench.clock.sleep(9.0)
        stats = bench.running.energy()
        assert stats.gaps_s == pytest.approx(5.0)
        assert stats.energy_j == pytest.approx(20)
        latest = bench.running.latest
        assert latest is not None
        assert (latest.value, latest.reason) == (None, "VDD_IN (power-gated or busy (EAGAIN))")


def test_a_sensor_that_never_gives_a_value_has_no_energy_and_the_reason() -> None:
    stats = Bench(lambda t: [GATED]).run(5.0)
    assert (stats.energy_j, stats.mean_w, stats.method, stats.samples) == (None, None, None, 0)
    assert stats.reason == "VDD_IN (power-gated or busy (EAGAIN))"


def test_a_rail_that_is_missing_now_and_then_makes_no_energy_smaller() -> None:
    stats = Bench(lambda t: [3.0, GATED if int(t * 10) % 7 == 2 else 2.0], RAILS).run(10.05)
    assert stats.energy_j == pytest.approx(50, rel=0.01)
    assert (stats.method, stats.reason) == ("sensor_total", None)
    assert stats.latest is not None
    assert stats.latest.method == "sensor_partial"  # the newest one, at 10.0 s, is such


def test_a_rail_that_is_missing_for_good_makes_the_total_partial() -> None:
    stats = Bench(lambda t: [3.0, 2.0 if t < 4.05 else GATED], RAILS).run(10.0)
    assert stats.method == "sensor_partial"
    assert stats.reason == "without CPU (power-gated or busy (EAGAIN))"
    assert stats.gaps_s == pytest.approx(2.1)
    assert stats.energy_j == pytest.approx(5 * 4.0 + 3 * 3.9)


def test_a_rail_that_comes_later_is_counted_from_then_on() -> None:
    stats = Bench(lambda t: [3.0, GATED if t < 5.0 else 2.0], RAILS).run(10.0)
    assert stats.method == "sensor_partial"
    assert stats.energy_j == pytest.approx(3 * 4.9 + 5 * 5.0)


def test_a_sensor_that_raises_gives_no_value_with_the_reason_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(t: float) -> Sequence[Value]:
        raise ValueError("nonsense on the wire")

    bench = Bench(broken)
    with caplog.at_level(logging.ERROR, "edge_sdk"):
        stats = bench.run(5.0)
    latest = bench.running.latest
    assert latest is not None
    assert (latest.value, latest.reason) == (None, "nonsense on the wire")
    assert (stats.energy_j, stats.reason) == (None, "nonsense on the wire")
    assert len(caplog.records) == 1


def test_without_a_sensor_there_is_nothing_but_the_reason() -> None:
    running = RunningPower(Power([], "no energy counter"), SimulatedClock())
    with running:
        assert running.latest is None
    assert running.energy() == PowerStats(0.0, None, None, None, "no energy counter", 0, 0.0)
    assert running.reason == "no energy counter"


def test_a_total_of_which_it_is_known_why_it_is_none_is_not_read() -> None:
    sensor = FakeSensor(lambda number: [GATED])
    with RunningPower(Power([sensor], "no permission to read it")) as running:
        assert (running.latest, running.reason) == (None, "no permission to read it")
    assert sensor.reads == 0


@pytest.mark.parametrize("channel", [BOARD, COUNTER])
def test_a_run_too_short_for_an_energy_has_none(channel: Channel) -> None:
    stats = Bench(lambda t: [5 * t + 1], [channel], refresh_s=0.06).run(0.25)
    assert (stats.energy_j, stats.mean_w, stats.method) == (None, None, None)
    assert stats.reason == "4 samples in 0.25 s are too few"
    stats = Bench(lambda t: [5 * t + 1], [channel], refresh_s=0.06).run(0.45)
    assert stats.energy_j is not None


def test_energy_is_shared_out_over_results_where_there_is_all_of_it() -> None:
    stats = Bench(lambda t: [5.0]).run(10.0)
    assert stats.per_result_mj is None
    assert stats.over(200).per_result_mj == pytest.approx(250)
    assert stats.over(0).per_result_mj is None
    gaps = Bench(lambda t: [5.0 if t < 5 else GATED]).run(10.0)
    assert gaps.energy_j is not None
    assert gaps.over(200).per_result_mj is None


def test_the_newest_total_is_there_from_the_first_moment() -> None:
    bench = Bench(lambda t: [5 + t])
    with bench.running:
        latest = bench.running.latest
        assert latest is not None
        assert (latest.name, latest.value, latest.unit, latest.method) == ("board", 5.0, "w", "sensor_total")
        bench.clock.sleep(3.0)
        assert bench.running.latest.value == pytest.approx(8.0)


def test_a_counters_power_is_never_taken_over_a_moment() -> None:
    bench = Bench(lambda t: [round(8 * t, 1)], [COUNTER])
    with bench.running:
        assert bench.running.latest.value is None
        assert "from the second read on" in bench.running.latest.reason
        bench.clock.sleep(2.05)
    assert bench.running.latest.value == pytest.approx(8.0)


def test_a_sensor_that_hangs_has_no_value_soon_and_says_so() -> None:
    bench = Bench(lambda t: [5.0])
    with bench.running:
        bench.clock._now_ns += 7_000_000_000  # nobody is called meanwhile
        latest = bench.running.latest
        assert (latest.value, latest.method) == (None, None)
        assert latest.reason == "the sensor has not answered for 7 s"


@pytest.mark.parametrize(
    ("takes_s", "refresh_s", "period_s"), [(0.0, 0.013, 0.1), (0.0, 5.0, 5.0), (0.023, 0.05, 1.0), (0.0012, 0.01, 1.0)]
)
def test_cheap_sensors_are_read_ten_times_a_second_and_slow_ones_once(
    takes_s: float, refresh_s: float, period_s: float
) -> None:
    clock = SimulatedClock()
    sensor = FakeSensor(lambda number: [5.0], refresh_s=refresh_s, takes_s=takes_s, sleep=clock.sleep)
    with RunningPower(Power([sensor], None), clock) as running:
        clock.sleep(20.0)
    assert running.period_s == period_s
    assert sensor.reads == pytest.approx(20 / period_s, abs=5)  # the first, the last, and those that find the rate


def test_it_takes_no_more_processor_time_than_its_budget() -> None:
    def busy(number: int) -> Sequence[Value]:
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        return [5.0]

    clock = SimulatedClock()
    sensor = FakeSensor(busy)
    with RunningPower(Power([sensor], None), clock) as running:
        assert running.period_s >= 0.002 / BUDGET
        clock.sleep(30.0)
        assert 0 < running.cost_percent <= 100 * BUDGET * 1.1
    assert running.energy().energy_j == pytest.approx(150, rel=1e-3)


def test_reads_that_grow_dear_are_left_out() -> None:
    """The first read is cheap; later ones would take twice the budget."""

    def busy(number: int) -> Sequence[Value]:
        end = time.thread_time() + (0.0008 if number > 3 else 0)
        while time.thread_time() < end:
            pass
        return [5.0]

    clock = SimulatedClock()
    sensor = FakeSensor(busy)
    with RunningPower(Power([sensor], None), clock) as running:
        clock.sleep(20.0)
        assert running.cost_percent <= 100 * BUDGET * 1.1
    assert sensor.reads < 150


def test_it_goes_on_after_a_pause_which_is_not_counted() -> None:
    bench = Bench(lambda t: [5.0])
    bench.run(10.0)
    bench.clock.sleep(100.0)
    stats = bench.run(5.0)
    assert (stats.seconds, stats.gaps_s) == (15.0, 0.0)
    assert stats.energy_j == pytest.approx(75)


def test_stopping_leaves_no_thread_and_may_be_done_twice() -> None:
    before = threading.active_count()
    sensor = FakeSensor(lambda number: [5.0])
    running = RunningPower(Power([sensor], None))
    running.start()
    running.start()
    end = time.monotonic() + 20
    while sensor.reads < 6:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert running.cost_percent > 0
    running.stop()
    running.stop()
    assert threading.active_count() == before
    assert sensor.clashes == 0
    assert not sensor.closed
    assert running.energy().energy_j == pytest.approx(5 * running.energy().seconds, rel=0.2)


def test_memory_does_not_grow() -> None:
    chance = random.Random(0)  # noqa: S311  a case that can be had again
    bench = Bench(lambda t: [GATED if chance.random() < 0.1 else chance.random()])
    with bench.running:
        bench.clock.sleep(60.0)
        tracemalloc.start()
        try:
            bench.clock.sleep(60.0)
            before = tracemalloc.get_traced_memory()[0]
            bench.clock.sleep(200.0)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 4096


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1000), st.just(GATED)), min_size=1, max_size=80))
def test_time_is_either_in_the_energy_or_in_a_gap(values: list[Value]) -> None:
    bench = Bench(lambda t: [values[min(int(t * 2), len(values) - 1)]])
    seconds = len(values) / 2
    stats = bench.run(seconds)
    present = [value for value in values if not isinstance(value, Absent)]
    assert 0 <= stats.gaps_s <= stats.seconds + 1e-6
    if stats.energy_j is not None and stats.mean_w is not None:
        assert min(present) * 0.999 - 1e-9 <= stats.mean_w <= max(present) * 1.001 + 1e-9
        assert stats.energy_j <= stats.mean_w * (stats.seconds - stats.gaps_s) * 1.0001 + 1e-6
