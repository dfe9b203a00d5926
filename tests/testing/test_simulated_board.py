"""A board that is files, and time that passes when somebody sleeps."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.targets import identify
from edge_sdk.testing.simulated_board import Load, SimulatedBoard, SimulatedClock

STEADY = Load(idle_w=5.0, work_w=4.0, jitter=0.0, wander_w=0.0, noise_w=0.0)


@pytest.fixture
def clock():
    return SimulatedClock()


def test_time_passes_by_sleeping_alone(clock):
    before = clock.now_ns()

    clock.sleep(1.5)

    assert clock.now_ns() - before == 1_500_000_000


def test_what_repeats_is_called_when_it_is_due_and_in_order(clock):
    calls = []
    start = clock.now_ns()
    slow = clock.every(0.4, lambda: calls.append(("slow", clock.now_ns() - start)))
    clock.every(0.3, lambda: calls.append(("fast", clock.now_ns() - start)))

    clock.sleep(0.7)
    slow.stop()
    clock.sleep(0.3)

    ms = [(name, at // 1_000_000) for name, at in calls]
    assert ms == [("slow", 0), ("fast", 0), ("fast", 300), ("slow", 400), ("fast", 600), ("fast", 900)]


@pytest.mark.parametrize("kind", ["jetson-orin-nano", "jetson-agx-thor", "generic-x86_64"])
class TestABoard:
    def test_it_is_recognised_for_what_it_is(self, tmp_path, clock, kind):
        with SimulatedBoard(tmp_path, clock, kind) as board:
            found = identify(tmp_path).target

            # Nothing in /proc or /sys names a PC: it is the processor's own name, which is not in the tree.
            assert found.is_a(kind) or kind == "generic-x86_64"
            assert board.target.name == kind

    def test_its_sensor_shows_its_true_power_within_a_step(self, tmp_path, clock, kind):
        with (
            SimulatedBoard(tmp_path, clock, kind, STEADY) as board,
            open_power(target=board.target, root=tmp_path) as power,
        ):
            gauge = Gauge(power.main)
            gauge.read()
            clock.sleep(1.0)
            raw = power.main.read()
            inside = [value for one, value in zip(power.main.channels, raw, strict=True) if one.in_total]

            expected = 5.0 if kind != "generic-x86_64" else 5.0 * 1.0
            assert sum(inside) == pytest.approx(expected, abs=0.05)

    def test_the_true_energy_is_power_times_time(self, tmp_path, clock, kind):
        with SimulatedBoard(tmp_path, clock, kind, STEADY) as board:
            start = clock.now_ns()
            for _ in range(10):
                board.infer()
            end = clock.now_ns()

            assert (end - start) / 1e9 == pytest.approx(0.25)
            assert board.energy_j(start, end) == pytest.approx(9.0 * 0.25)
            assert board.idle_energy_j(start, end) == pytest.approx(5.0 * 0.25)


def test_the_same_seed_takes_the_same_course(tmp_path):
    def course(folder, seed):
        clock = SimulatedClock()
        folder.mkdir()
        with SimulatedBoard(folder, clock, seed=seed) as board:
            start = clock.now_ns()
            clock.sleep(5.0)
            return board.energy_j(start, clock.now_ns())

    assert course(tmp_path / "a", 1) == course(tmp_path / "b", 1) != course(tmp_path / "c", 2)


def test_a_broken_sensor_gives_nothing_until_it_is_mended(tmp_path, clock):
    with SimulatedBoard(tmp_path, clock) as board, open_power(target=board.target, root=tmp_path) as power:
        gauge = Gauge(power.main)
        board.break_sensor()
        clock.sleep(0.1)
        broken = gauge.read().total
        board.mend_sensor()
        clock.sleep(0.1)
        mended = gauge.read().total

    assert broken.value is None
    assert "no number in it" in broken.reason
    assert mended.value == pytest.approx(4.8, abs=0.3)


def test_the_energy_counter_wraps_around(tmp_path, clock):
    with SimulatedBoard(tmp_path, clock, "generic-x86_64", Load(idle_w=100.0)) as board:
        counted = []
        for _ in range(6):
            clock.sleep(1.0)
            counted.append(int((tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").read_text()))
        assert board.energy_j(1_000_000_000, clock.now_ns()) > 500

    assert any(now < before for before, now in pairwise(counted))
