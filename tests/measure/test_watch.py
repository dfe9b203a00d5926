"""The watch: sensors and conditions in the background, and what is known of them at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.base import Conditions, PowerMode
from edge_sdk.errors import UsageError
from edge_sdk.measure.watch import FULL_EVERY_S, Snapshot, Watch, printable
from edge_sdk.result import Reading
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.testing.fake_sensor import FakeSensor
from edge_sdk.testing.simulated_board import Load, SimulatedBoard, SimulatedClock

RAILS = (
    Channel("VDD_IN", "power", "sensor_total", in_total=True),
    Channel("VDD_SOC", "power", "sensor_total", in_total=False),
)


class Read:
    """Conditions that a test changes; stands in for `ConditionsReader.read`."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.now = Conditions(at_ns=0, throttling=())
        self.slowly: tuple[str, ...] | None = None  # causes that only a full read tells
        self.asked: list[bool] = []
        self._clock = clock

    def __call__(self, full: bool) -> Conditions:
        self.asked.append(full)
        found = replace(self.now, at_ns=self._clock.now_ns())
        if full:
            return replace(found, throttling=_plus(found.throttling, self.slowly))
        return replace(found, power_mode=None, power_mode_reason="not read")


def _plus(some: tuple[str, ...] | None, more: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return some if more is None else (*(some or ()), *more)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def conditions(clock: SimulatedClock) -> Read:
    return Read(clock)


@pytest.fixture
def watch(clock: SimulatedClock, conditions: Read) -> Iterator[Callable[..., Watch]]:
    """Watches sensors once a second of the simulated clock."""
    made: list[Watch] = []

    def start(*sensors: Sensor, reason: str | None = None) -> Watch:
        made.append(Watch(Power(sensors, reason), conditions, interval_s=1.0, clock=clock))
        return made[-1]

    yield start
    for one in made:
        one.close()


def constant(*values: Value) -> Callable[[int], Sequence[Value]]:
    return lambda number: values


def at(clock: SimulatedClock, watch: Watch, seconds: float) -> Snapshot:
    clock.sleep(seconds)
    return watch.snapshot()


def test_a_moment_has_the_total_every_rail_and_the_energy_since_the_start(clock, watch) -> None:
    now = at(clock, watch(FakeSensor(constant(8.0, 3.0), RAILS)), 10.0)
    assert (now.total.value, now.total.method, now.total.name) == (8.0, "sensor_total", "board")
    (sensor,) = now.sensors
    assert [(one.name, one.value) for one in sensor.readings] == [("VDD_IN", 8.0), ("VDD_SOC", 3.0)]
    assert sensor.in_total == (True, False)
    assert sensor.up
    assert now.seconds == pytest.approx(10.0)
    assert now.energy_j == pytest.approx(80.0)
    assert (now.mean_w, now.min_w, now.peak_w, now.gaps) == (pytest.approx(8.0), 8.0, 8.0, 0)


def test_energy_counters_are_watched_by_their_differences(clock, watch) -> None:
    counter = Channel("package-0", "energy", "counter", in_total=True)
    sensor = FakeSensor(lambda number: [100.0 + 12.0 * number], [counter])
    started = watch(sensor)
    assert started.snapshot().total.value is None
    assert "from the second read on" in (started.snapshot().total.reason or "")
    now = at(clock, started, 10.0)
    assert now.total.value == pytest.approx(12.0)
    assert now.energy_j == pytest.approx(120.0)
    assert now.energy_method == "counter"


def test_a_simulated_board_is_watched_to_its_true_energy(clock, conditions, tmp_path: Path) -> None:
    load = Load(noise_w=0.05, drift_w_per_s=0.02)
    with SimulatedBoard(tmp_path, clock, load=load) as board:
        clock.sleep(1.0)
        with (
            open_power(target=board.target, root=tmp_path) as power,
            Watch(power, conditions, interval_s=0.5, clock=clock) as watch,
        ):
            began = clock.now_ns()
            clock.sleep(120.0)
            now = watch.snapshot()
            assert now.energy_j == pytest.approx(board.energy_j(began, clock.now_ns()), rel=0.02)
            board.break_sensor()
            clock.sleep(30.0)
            lost = watch.snapshot()
            board.mend_sensor()
            clock.sleep(30.0)
            again = watch.snapshot()
    assert lost.total.value is None
    assert "VDD_IN" in (lost.total.reason or "")
    assert lost.energy_j == pytest.approx(now.energy_j, rel=0.01)
    assert again.gaps == 1
    assert again.measured_s == pytest.approx(150, abs=2)


def test_no_sensor_is_no_watt_and_the_reason(clock, watch) -> None:
    now = at(clock, watch(reason="Raspberry Pi 4 has no sensor of its own power"), 3.0)
    assert now.total.value is None
    assert now.total.method is None
    assert now.total.reason == "Raspberry Pi 4 has no sensor of its own power"
    assert (now.sensors, now.energy_j, now.mean_w) == ((), None, None)


def test_a_rail_without_a_value_says_why_and_the_total_is_partial(clock, watch) -> None:
    rails = [replace(RAILS[0], name=name) for name in ("VDD_GPU_SOC", "VDD_CPU_CV")]
    now = at(clock, watch(FakeSensor(constant(5.0, Absent("the channel is disabled")), rails)), 4.0)
    assert now.total.method == now.energy_method == "sensor_partial"
    assert now.total.value == 5.0
    assert now.total.reason == "without VDD_CPU_CV (the channel is disabled)"
    assert now.sensors[0].readings[1].reason == "the channel is disabled"
    assert now.sensors[0].up


def test_a_driver_that_raises_stops_nobody_else(clock, watch) -> None:
    def broken(number: int) -> Sequence[Value]:
        raise RuntimeError("no such register")

    meter = FakeSensor(broken, [replace(RAILS[1], name="METER")], name="meter")
    now = at(clock, watch(FakeSensor(constant(8.0, 3.0), RAILS), meter), 5.0)
    assert now.total.value == 8.0
    assert now.sensors[1].readings[0].value is None
    assert now.sensors[1].readings[0].reason == "could not be read: no such register"
    assert not now.sensors[1].up


def test_a_value_that_is_no_number_is_none(clock, watch) -> None:
    now = at(clock, watch(FakeSensor(constant(float("nan"), float("inf")), RAILS)), 3.0)
    assert now.total.value is None
    assert now.total.reason == "not a number: nan"
    assert [one.reason for one in now.sensors[0].readings] == ["not a number: nan", "not a number: inf"]
    assert now.energy_j is None


def test_what_comes_from_outside_cannot_steer_a_terminal(clock, watch, conditions) -> None:
    evil = "VDD\x1b[2J\x1b]0;owned\x07\nIN\u202e"
    conditions.now = Conditions(
        at_ns=0,
        temperatures=(Reading(evil, 50.0, "c", None, 0),),
        throttling=(evil,),
        power_mode=PowerMode(evil, 1),
        governors=((evil, evil),),
    )
    sensor = FakeSensor(constant(1.0, Absent(evil)), [replace(one, name=evil) for one in RAILS], name=evil)
    now = at(clock, watch(sensor), 1.0)
    texts = [sensor.name for sensor in now.sensors]
    texts += [text for one in now.sensors[0].readings for text in (one.name, one.reason or "")]
    texts += [now.conditions.temperatures[0].name, *now.throttled, *(now.conditions.throttling or ())]
    texts += [now.conditions.power_mode.name if now.conditions.power_mode else "", *now.conditions.governors[0]]
    assert len(texts) == 11
    assert all(text.isprintable() for text in texts)
    assert now.sensors[0].readings[0].name == "VDD [2J ]0;owned IN"


@given(st.text(max_size=2000))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len(line) <= 400
    assert printable(line) == line
    line.encode()


def test_what_is_slow_to_read_is_read_seldom_and_kept_meanwhile(clock, watch, conditions) -> None:
    conditions.now = Conditions(
        at_ns=0,
        clocks=tuple(Reading(f"cpu{number}", 1500.0, "mhz", None, 0) for number in range(3)),
        throttling=(),
        power_mode=PowerMode("25W", 1),
        governors=(("cpu0", "schedutil"),),
    )
    started = watch()
    conditions.now = replace(conditions.now, clocks=conditions.now.clocks[:1], governors=())
    now = at(clock, started, FULL_EVERY_S - 1.5)
    assert conditions.asked[:2] == [False, True]
    assert set(conditions.asked[2:]) == {False}
    assert now.conditions.power_mode == PowerMode("25W", 1)
    assert now.conditions.power_mode_reason is None
    assert [one.name for one in now.conditions.clocks] == ["cpu0", "cpu1", "cpu2"]
    assert now.conditions.governors == (("cpu0", "schedutil"),)
    conditions.now = replace(conditions.now, power_mode=PowerMode("MAXN", 0))
    assert at(clock, started, 4.0).conditions.power_mode == PowerMode("MAXN", 0)


def test_causes_that_throttled_are_remembered(clock, watch, conditions) -> None:
    started = watch()
    assert started.snapshot().throttled == ()
    conditions.now = replace(conditions.now, throttling=("gpu-throttle-alert",))
    assert at(clock, started, 1.0).conditions.throttling == ("gpu-throttle-alert",)
    conditions.now = replace(conditions.now, throttling=())
    now = at(clock, started, 1.0)
    assert now.conditions.throttling == ()  # at once, whenever the full read was
    assert now.throttled == ("gpu-throttle-alert",)


def test_a_cause_that_only_a_full_read_tells_is_kept_until_the_next_one(clock, watch, conditions) -> None:
    conditions.now = replace(conditions.now, throttling=None)
    conditions.slowly = ("soft temperature limit",)
    started = watch()
    conditions.slowly = ()
    assert at(clock, started, FULL_EVERY_S - 1.5).conditions.throttling == ("soft temperature limit",)
    assert at(clock, started, 3.0).conditions.throttling == ()


def test_a_board_that_does_not_tell_is_not_said_to_run_free(clock, watch, conditions) -> None:
    conditions.now = replace(conditions.now, throttling=None)
    assert at(clock, watch(), 7.0).conditions.throttling is None


def test_conditions_that_cannot_be_read_leave_the_watts(clock, conditions) -> None:
    def broken(full: bool) -> Conditions:
        raise OSError("no thermal zones")

    power = Power([FakeSensor(constant(8.0, 3.0), RAILS)], None)
    with Watch(power, broken, clock=clock) as watch:
        now = at(clock, watch, 3.0)
    assert now.total.value == 8.0
    assert now.conditions.temperatures == ()
    assert now.conditions_reason == "could not be read: no thermal zones"


def test_a_meter_that_does_not_answer_holds_up_nobody_and_its_value_grows_stale() -> None:
    blocked, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> Sequence[Value]:
        if number:
            blocked.set()
            go_on.wait(20)
        return [20.0]

    meter = FakeSensor(slow, [replace(RAILS[0], name="PLUG", method="external")], name="plug", refresh_s=0.01)
    board = FakeSensor(constant(8.0, 3.0), [replace(one, in_total=False) for one in RAILS], name="board")
    with Watch(Power([meter, board], None), lambda full: Conditions(time.monotonic_ns()), interval_s=0.05) as watch:
        try:
            assert blocked.wait(20)
            reads = board.reads
            until = time.monotonic() + 20
            while time.monotonic() < until and (board.reads < reads + 3 or watch.snapshot().sensors[0].up):
                time.sleep(0.02)
            now = watch.snapshot()
            assert watch.settled  # it answered once
        finally:
            go_on.set()
    assert now.sensors[1].up
    assert board.reads >= reads + 3
    assert now.total.value is None
    assert (now.total.reason or "").startswith("no answer for ")
    assert now.sensors[0].readings[0].reason == now.total.reason


def test_a_sensor_is_read_by_one_thread_at_a_time_and_by_none_after_the_end() -> None:
    sensor = FakeSensor(constant(8.0, 3.0), RAILS, takes_s=0.03)
    before = threading.active_count()
    watch = Watch(Power([sensor], None), lambda full: Conditions(time.monotonic_ns()), interval_s=0.01)
    until = time.monotonic() + 20
    while sensor.reads < 4 and time.monotonic() < until:
        watch.snapshot()
        time.sleep(0.01)
    watch.close()
    watch.close()
    reads = sensor.reads
    assert reads >= 4
    assert threading.active_count() == before
    time.sleep(0.1)
    assert sensor.reads == reads
    assert sensor.clashes == 0


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Watch(Power([], None), lambda full: Conditions(0), interval_s=interval)


def test_it_is_settled_when_everything_was_read_once() -> None:
    go_on = threading.Event()

    def slow(full: bool) -> Conditions:
        go_on.wait(20)
        return Conditions(time.monotonic_ns())

    with Watch(Power([FakeSensor(constant(8.0, 3.0), RAILS)], None), slow, interval_s=0.05) as watch:
        until = time.monotonic() + 20
        while not watch.snapshot().sensors[0].up and time.monotonic() < until:
            time.sleep(0.01)
        assert not watch.settled
        assert watch.snapshot().conditions_reason == "not read yet"
        go_on.set()
        while not watch.settled and time.monotonic() < until:
            time.sleep(0.01)
        assert watch.settled
        assert watch.snapshot().conditions_reason is None
