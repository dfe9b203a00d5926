"""Energy of a block of code; the truth is computed here, the meter sees readings alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import edge_sdk.measure.meter
from edge_sdk.errors import SensorError, SinkError, UsageError
from edge_sdk.measure import ring
from edge_sdk.measure.meter import PowerMeter
from edge_sdk.sensors.base import Absent, Channel, Value
from edge_sdk.sensors.power import Power
from edge_sdk.testing.fake_sensor import BOARD, FakeSensor
from edge_sdk.testing.simulated_board import SimulatedClock

COUNTER = Channel("package-0", "energy", "counter", True)
PARTIAL = Channel("VDD_IN", "power", "sensor_total", True, missing="the carrier board")


class Course:
    """A power of 5 W and, from 2 to 3 s after the beginning, of 9 W; and sensors that show it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.began = self.clock.now_ns()

    @property
    def now_s(self) -> float:
        return (self.clock.now_ns() - self.began) / 1e9

    def watts(self, _: int = 0) -> Sequence[Value]:
        return [9.0 if 2 <= self.now_s < 3 else 5.0]

    def joules(self, _: int = 0) -> Sequence[Value]:
        return [5 * self.now_s + 4 * min(max(self.now_s - 2, 0), 1)]

    def meter(self, values, channel: Channel = BOARD, **sensor) -> PowerMeter:
        return PowerMeter(power=Power([FakeSensor(values, [channel], **sensor)], None, "the module"), clock=self.clock)


def test_the_energy_of_a_block_is_that_of_its_power() -> None:
    course = Course()
    course.clock.sleep(0.5)
    with course.meter(course.watts) as meter:
        course.clock.sleep(4.0)
    assert meter.energy_mj == pytest.approx(24_000, rel=0.003)
    assert meter.mean_w == pytest.approx(6.0, rel=0.003)
    assert meter.seconds == 4.0
    assert (meter.method, meter.reason, meter.covers) == ("sensor_total", None, "the module")
    assert meter.measured.samples == pytest.approx(201, abs=2)


def test_an_energy_counter_is_exact() -> None:
    course = Course()
    with course.meter(course.joules, COUNTER, refresh_s=0.5) as meter:
        course.clock.sleep(2.7)
    assert meter.energy_mj == pytest.approx(1000 * (5 * 2.7 + 4 * 0.7))
    assert meter.method == "counter"


def test_splits_add_up_to_the_block() -> None:
    course = Course()
    with course.meter(course.joules, COUNTER, refresh_s=0.05) as meter:
        steps = []
        for _ in range(4):
            course.clock.sleep(0.813)
            steps.append(meter.split())
        course.clock.sleep(0.5)
    steps.append(meter.split())
    assert sum(step.energy_mj or math.nan for step in steps) == pytest.approx(meter.energy_mj)
    assert sum(step.seconds for step in steps) == pytest.approx(meter.seconds)
    assert steps[0].energy_mj == pytest.approx(5 * 813)
    assert steps[0].mean_w == pytest.approx(5.0)


def test_a_split_of_a_power_ends_at_a_sample() -> None:
    course = Course()
    with course.meter(course.watts, refresh_s=0.1) as meter:
        course.clock.sleep(1.95)
        before = meter.split()
        course.clock.sleep(1.0)
        meter.split()
    assert before.energy_mj == pytest.approx(5 * 1950)


def test_within_the_block_the_figures_are_those_up_to_the_newest_sample() -> None:
    course = Course()
    meter = course.meter(course.joules, COUNTER, refresh_s=1.0)
    with meter:
        course.clock.sleep(7.5)
        assert meter.seconds == 7.0
        assert meter.energy_mj == pytest.approx(39_000)
        assert meter.now.value == pytest.approx(5.0)
    assert meter.seconds == 7.5


@pytest.mark.parametrize(("refresh_s", "least_s"), [(0.013, 0.1), (1.0, 5.0), (0.05, 0.25)])
def test_a_time_of_less_than_five_refreshes_has_no_energy_and_says_what_to_do(refresh_s: float, least_s: float) -> None:
    course = Course()
    with course.meter(course.watts, refresh_s=refresh_s) as short:
        course.clock.sleep(0.9 * least_s)
    assert (short.energy_mj, short.mean_w, short.method) == (None, None, None)
    assert short.reason == (
        f"{0.9 * least_s:.3g} s is shorter than 5 refreshes of fake ({max(refresh_s, 0.02):.3g} s each); "
        "do the work several times"
    )
    course = Course()
    with course.meter(course.watts, refresh_s=refresh_s) as enough:
        course.clock.sleep(1.01 * least_s)
    assert enough.energy_mj is not None


def test_a_sensor_that_gives_nothing_gives_no_energy_with_its_reason() -> None:
    course = Course()
    with course.meter(lambda number: [Absent("power-gated or busy (EAGAIN)")]) as meter:
        course.clock.sleep(1.0)
        assert meter.now.value is None
        assert meter.now.reason == "VDD_IN (power-gated or busy (EAGAIN))"
    assert meter.energy_mj is None
    assert meter.reason == "VDD_IN (power-gated or busy (EAGAIN))"


def test_a_gap_gives_no_energy_and_says_how_long_it_was() -> None:
    course = Course()
    with course.meter(lambda number: [Absent("gone (ENODEV)") if 20 < number < 120 else 5.0]) as meter:
        course.clock.sleep(4.0)
    assert meter.energy_mj is None
    assert meter.reason is not None
    assert meter.reason.startswith("a gap of 2.")


def test_what_the_energy_lacks_is_said() -> None:
    course = Course()
    with course.meter(course.watts, PARTIAL) as meter:
        course.clock.sleep(1.0)
    assert meter.energy_mj is not None
    assert (meter.method, meter.reason) == ("sensor_total", "the carrier board")


def test_a_board_without_a_sensor_is_no_error() -> None:
    with PowerMeter(power=Power([], "generic-x86_64 has no sensor"), clock=SimulatedClock()) as meter:
        assert meter.split().reason == "generic-x86_64 has no sensor"
    assert (meter.energy_mj, meter.mean_w, meter.method) == (None, None, None)
    assert meter.reason == meter.now.reason == "generic-x86_64 has no sensor"
    assert meter.traces == meter.samplings == ()


def test_before_the_block_nothing_is_known() -> None:
    meter = PowerMeter(clock=SimulatedClock())
    assert (meter.energy_mj, meter.reason) == (None, "nothing was measured yet")
    assert (meter.traces, meter.samplings, meter.covers) == ((), (), None)
    assert meter.now.reason == meter.split().reason == "nothing was measured yet"


def test_a_meter_measures_one_block_after_another() -> None:
    course = Course()
    meter = course.meter(course.watts)
    with meter:
        course.clock.sleep(1.0)
        assert meter.split().energy_mj == pytest.approx(5000)
    assert meter.energy_mj == pytest.approx(5000)
    course.clock.sleep(5.0)
    with meter:
        course.clock.sleep(0.5)
    assert meter.energy_mj == pytest.approx(2500)
    assert meter.seconds == 0.5


def test_a_meter_in_use_is_not_entered_again() -> None:
    course = Course()
    with course.meter(course.watts) as meter, pytest.raises(UsageError, match="in use"), meter:
        pass


def test_other_sensors_are_sampled_beside_the_total() -> None:
    course = Course()
    rail = FakeSensor(lambda number: [2.0], [Channel("VDD_SOC", "power", "sensor_total", False)], name="rail")
    total = FakeSensor(course.watts, name="total")
    with PowerMeter(power=Power([rail, total], None), clock=course.clock) as meter:
        course.clock.sleep(1.0)
    assert meter.energy_mj == pytest.approx(5000)
    assert [trace.sensor for trace in meter.traces] == ["rail", "total"]
    assert [how.sensor for how in meter.samplings] == ["rail", "total"]


def test_what_was_given_stays_open_and_what_was_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = FakeSensor(lambda number: [5.0])
    with PowerMeter(power=Power([given], None)):
        pass
    assert not given.closed
    own = FakeSensor(lambda number: [5.0])
    monkeypatch.setattr(edge_sdk.measure.meter, "open_power", lambda name, options: Power([own], None))
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), PowerMeter():
        raise ZeroDivisionError
    assert own.closed
    assert threading.active_count() == before


def test_sensors_are_closed_where_the_ring_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = FakeSensor(lambda number: [5.0])
    monkeypatch.setattr(edge_sdk.measure.meter, "open_power", lambda name, options: Power([own], None))
    with pytest.raises(SinkError), PowerMeter(ring=tmp_path / "none" / "ring"):
        pass
    assert own.closed


def test_the_ring_has_what_the_meter_saw(tmp_path: Path) -> None:
    course = Course()
    sensor = FakeSensor(course.watts)
    with PowerMeter(power=Power([sensor], None), clock=course.clock, ring=tmp_path / "ring") as meter:
        course.clock.sleep(1.0)
    (kept,) = ring.read(tmp_path / "ring")
    assert (kept.at_ns == meter.traces[0].at_ns).all()


@pytest.mark.parametrize("wrong", [{"max_hz": 0}, {"power": Power([], None), "sensor": "rapl"},
                                   {"power": Power([], None), "options": {"a": "b"}}])  # fmt: skip
def test_arguments_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        PowerMeter(**wrong)


def test_a_sensor_that_is_named_and_unknown_is_an_error() -> None:
    with pytest.raises(UsageError, match="no such sensor"), PowerMeter("crystal-ball"):
        pass


def test_a_sensor_that_is_named_and_cannot_be_opened_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
    with pytest.raises(SensorError), PowerMeter("rapl"):
        pass


def test_on_the_systems_clock_and_a_boards_own_files(monkeypatch: pytest.MonkeyPatch, captured_board) -> None:
    monkeypatch.setenv("EDGE_SDK_ROOT", str(captured_board("orin_nano_super_jp6")))
    monkeypatch.setenv("EDGE_SDK_TARGET", "jetson-orin-nano")
    with PowerMeter() as meter:
        time.sleep(0.3)
    assert meter.energy_mj is not None
    assert meter.energy_mj / 1000 / meter.seconds == pytest.approx(meter.now.value, rel=1e-6)  # the files stand still
    assert meter.method == "sensor_total"
