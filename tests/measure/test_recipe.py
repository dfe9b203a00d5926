"""The power recipe on simulated boards: what it finds, how sure it is, and what it refuses."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_sdk.conditions.base import Conditions
from edge_sdk.conditions.reader import ConditionsReader
from edge_sdk.errors import UsageError
from edge_sdk.measure.clock import SystemClock
from edge_sdk.measure.recipe import Recipe, run
from edge_sdk.measure.verdict import judge, throttle_stretches
from edge_sdk.sensors.base import Channel
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.testing.fake_shell import FakeShell
from edge_sdk.testing.simulated_board import Load, SimulatedBoard, SimulatedClock

BOARDS = ("jetson-orin-nano", "jetson-agx-thor", "generic-x86_64")


@contextmanager
def opened(root: Path, kind="jetson-orin-nano", load=None, seed=0, clock=None, shell=None):
    """A simulated board with its sensors open, and a function that runs the recipe on it."""
    clock = SimulatedClock() if clock is None else clock
    shell = FakeShell({}) if shell is None else shell
    root.mkdir(exist_ok=True)
    with (
        SimulatedBoard(root, clock, kind, load, seed) as board,
        open_power(target=board.target, root=root, shell=shell) as power,
    ):
        reader = ConditionsReader(root, shell)

        def recipe(settings=None, query=board.infer, **more):
            return run(query, power, reader.read, settings, clock=clock, **more)

        yield board, recipe


def truth_mj(board, found):
    """The board's true gross and net energy per inference over the work windows of a run."""
    work = [one for one in found.stretches if one.kind == "work"]
    count = sum(one.inferences for one in work)
    gross = 1000 * sum(board.energy_j(one.start_ns, one.end_ns) for one in work) / count
    return gross, gross - 1000 * sum(board.idle_energy_j(one.start_ns, one.end_ns) for one in work) / count


@pytest.mark.parametrize("kind", BOARDS)
def test_the_energy_is_within_two_percent_of_the_true_one(tmp_path, kind):
    with opened(tmp_path, kind) as (board, recipe):
        found = recipe()
        gross, net = truth_mj(board, found)

    energy = judge(found)
    assert energy.rejected == ()
    assert energy.gross_mj.value == pytest.approx(gross, rel=0.02)
    assert energy.net_mj.value == pytest.approx(net, rel=0.02)
    assert energy.repeats == 3
    assert [one.kind for one in energy.windows] == ["idle", "work", "idle", "work", "idle", "work", "idle"]


@pytest.mark.parametrize(
    "kind",
    [
        "jetson-orin-nano",
        pytest.param("jetson-agx-thor", marks=pytest.mark.slow),
        pytest.param("generic-x86_64", marks=pytest.mark.slow),
    ],
)
def test_the_interval_holds_the_truth_in_nine_runs_of_ten(tmp_path, kind):
    """100 seeded runs; 95 % intervals should hold it in about 95."""
    held_gross = held_net = 0
    for seed in range(100):
        with opened(tmp_path / str(seed), kind, seed=seed) as (board, recipe):
            found = recipe()
            gross, net = truth_mj(board, found)
        energy = judge(found)
        assert energy.rejected == (), f"seed {seed}"
        assert energy.gross_mj.value == pytest.approx(gross, rel=0.02), f"seed {seed}"
        held_gross += energy.gross_mj.low <= gross <= energy.gross_mj.high
        held_net += energy.net_mj.low <= net <= energy.net_mj.high

    assert held_gross >= 90
    assert held_net >= 90


def test_the_interval_is_no_wider_than_it_is_useful(tmp_path):
    """One that held every truth by being endless would pass the test above."""
    with opened(tmp_path) as (_, recipe):
        energy = judge(recipe())

    assert (energy.net_mj.high - energy.net_mj.low) / 2 < 0.05 * energy.net_mj.value


def test_a_short_run_in_real_time_finds_about_the_same(tmp_path):
    with opened(tmp_path, load=Load(latency_s=0.02), clock=SystemClock()) as (board, recipe):
        found = recipe(Recipe(settle_s=0.3, idle_s=2.0, work_s=2.0))
        gross, net = truth_mj(board, found)

    energy = judge(found)
    assert energy.rejected == ()
    assert energy.gross_mj.value == pytest.approx(gross, rel=0.1)  # a tenth of the recipe's samples
    assert energy.net_mj.value == pytest.approx(net, rel=0.2)


@pytest.mark.slow
def test_a_full_run_in_real_time_is_within_two_percent(tmp_path):
    with opened(tmp_path, clock=SystemClock()) as (board, recipe):
        found = recipe()
        gross, net = truth_mj(board, found)

    energy = judge(found)
    assert energy.gross_mj.value == pytest.approx(gross, rel=0.02)
    assert energy.net_mj.value == pytest.approx(net, rel=0.02)
    assert energy.net_mj.low <= net <= energy.net_mj.high


class TestRejected:
    def test_a_board_that_throttles_at_any_time(self, tmp_path):
        with opened(tmp_path) as (board, recipe):
            count = 0

            def query():
                nonlocal count
                count += 1
                if count in (500, 600):
                    board.throttle(count == 500)
                board.infer()

            found = recipe(query=query)

        energy = judge(found)
        assert energy.rejected == ("the board throttled: gpu-throttle-alert",)
        assert (energy.gross_mj, energy.net_mj) == (None, None)
        (stretch,) = throttle_stretches(found)
        assert (stretch.cause, round(stretch.end_s - stretch.start_s)) == ("gpu-throttle-alert", round(100 * 0.025))

    def test_idle_power_that_drifts(self, tmp_path):
        with opened(tmp_path, load=Load(drift_w_per_s=0.01)) as (_, recipe):
            energy = judge(recipe())

        (reason,) = energy.rejected
        assert reason.startswith("idle power drifted: ")
        assert "where at most 5% are allowed" in reason

    def test_a_slow_drift_below_five_percent_is_taken_out_by_the_idle_windows_on_both_sides(self, tmp_path):
        with opened(tmp_path, load=Load(drift_w_per_s=0.0025)) as (board, recipe):
            found = recipe()
            _, net = truth_mj(board, found)

        assert judge(found).net_mj.value == pytest.approx(net, rel=0.02)

    def test_a_gap_in_the_samples(self, tmp_path):
        with opened(tmp_path) as (board, recipe):
            count = 0

            def query():
                nonlocal count
                count += 1
                if count == 700:
                    board.break_sensor()
                if count == 750:
                    board.mend_sensor()
                board.infer()

            energy = judge(recipe(query=query))

        (reason,) = energy.rejected
        assert reason.startswith("the samples do not cover work window 2: a gap of 1.")
        assert energy.gross_mj is None

    def test_a_sensor_that_is_stale(self, tmp_path):
        with opened(tmp_path) as (board, recipe):
            board.clock.sleep(1.0)
            board.freeze_sensor()
            energy = judge(recipe())

        (reason,) = energy.rejected
        assert reason.endswith("throughout: it is stale, or too coarse for this load")

    def test_a_power_mode_that_changes(self, tmp_path):
        modes = iter(["NV Power Mode: 15W\n0\n", "NV Power Mode: 25W\n1\n"])
        shell = FakeShell({"nvpmodel": lambda _: next(modes)})
        with opened(tmp_path, shell=shell) as (_, recipe):
            energy = judge(recipe())

        (reason,) = energy.rejected
        assert "power mode" in reason
        assert "15W" in reason
        assert "25W" in reason

    def test_a_net_energy_that_drowns_in_the_noise_while_the_gross_one_stands(self, tmp_path):
        with opened(tmp_path, load=Load(work_w=0.01, wander_w=0.05)) as (_, recipe):
            energy = judge(recipe())

        assert energy.rejected == ()
        assert energy.gross_mj is not None
        assert energy.net_mj is None
        assert "is not twice the noise" in energy.net_refused

    def test_a_load_below_one_step_of_the_sensor(self, tmp_path):
        quiet = Load(work_w=0.015, duty=1.0, wander_w=0.0, noise_w=0.0, jitter=0.0)
        with opened(tmp_path, load=quiet) as (_, recipe):
            energy = judge(recipe())

        assert energy.net_mj is None


class TestTheRun:
    def test_windows_last_for_fifty_refreshes_of_a_slow_sensor(self):
        assert Recipe().stretched(1.0) == Recipe(idle_s=50.0, work_s=50.0)
        assert Recipe().stretched(0.013) == Recipe()
        assert Recipe().stretched(10.0) == Recipe(settle_s=30.0, idle_s=500.0, work_s=500.0)

    def test_a_meter_that_shows_what_was_two_of_its_values_ago_is_waited_for(self):
        """One value in 10 s, of the 10 s before, and as old again when it is read; 5 W idle and 10 W at work."""
        clock, busy_from_s, busy_until_s = SimulatedClock(), [], []
        last_s = -1.0

        def query():
            nonlocal last_s
            begin_s = clock.now_ns() / 1e9
            if begin_s - last_s > 1e-6:
                busy_from_s.append(begin_s)
                busy_until_s.append(begin_s)
            clock.sleep(0.5)
            busy_until_s[-1] = last_s = clock.now_ns() / 1e9

        class Late:
            name, refresh_s = "late", 10.0
            channels = (Channel("power", "power", "external", in_total=True),)

            def read(self):
                end_s = (clock.now_ns() / 1e9) // 10 * 10 - 10
                busy_s = sum(
                    max(0.0, min(end_s, until_s) - max(end_s - 10, from_s))
                    for from_s, until_s in zip(busy_from_s, busy_until_s, strict=True)
                )
                return [5.0 + 5.0 * busy_s / 10]

            def close(self):
                pass

        found = run(query, Power([Late()], None), lambda _: Conditions(at_ns=0), clock=clock)

        energy = judge(found)
        assert energy.rejected == ()
        assert energy.net_mj.value == pytest.approx(2500, rel=0.005)  # 5 W for half a second

    def test_the_default_recipe_takes_no_shortcut_and_a_shorter_one_says_so(self):
        assert Recipe().shortcuts == ()
        assert Recipe(work_s=2.0, repeats=2).shortcuts == (
            "work windows of 2 s, where the recipe wants 10 s",
            "repeats: 2, where the recipe wants 3",
        )

    @pytest.mark.parametrize("wrong", [{"work_s": 0}, {"idle_s": -1}, {"settle_s": float("nan")}, {"repeats": 1}])
    def test_a_recipe_that_means_nothing_is_refused(self, wrong):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Recipe(**wrong)

    def test_work_begins_before_its_window_so_that_the_sensor_shows_it(self, tmp_path):
        with opened(tmp_path) as (board, recipe):
            queries = []

            def query():
                queries.append(board.clock.now_ns())
                board.infer()

            found = recipe(query=query)

        work = found.stretches[1]
        assert sum(one < work.start_ns for one in queries) * 0.025 == pytest.approx(0.5, abs=0.05)
        assert work.inferences == sum(work.start_ns <= one < work.end_ns for one in queries)

    def test_progress_goes_up_and_says_what_is_done(self, tmp_path):
        told = []
        with opened(tmp_path) as (_, recipe):
            recipe(progress=lambda part, doing: told.append((part, doing)))

        parts = [part for part, _ in told]
        assert parts == sorted(parts)
        assert parts[-1] > 0.95
        assert list(dict.fromkeys(doing for _, doing in told)) == [
            "settling", "idle 1 of 4", "work 1 of 3", "idle 2 of 4", "work 2 of 3", "idle 3 of 4", "work 3 of 3",
            "idle 4 of 4",
        ]  # fmt: skip

    def test_without_a_total_it_is_refused(self):
        with pytest.raises(UsageError, match="no total to integrate"):
            run(lambda: None, Power([], "none"), lambda _: None)

    def test_a_query_that_raises_ends_the_run_and_leaves_no_thread(self, tmp_path):
        import threading

        before = threading.active_count()

        def query():
            raise RuntimeError("the engine failed")

        with (
            opened(tmp_path, clock=SystemClock()) as (_, recipe),
            pytest.raises(RuntimeError, match="the engine failed"),
        ):
            recipe(Recipe(settle_s=0.05, idle_s=0.05, work_s=0.1), query=query)
        time.sleep(0.05)
        assert threading.active_count() == before
