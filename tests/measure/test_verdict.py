"""The interval's arithmetic."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.base import Conditions
from edge_sdk.measure.recipe import Run, Stretch
from edge_sdk.measure.trace import Trace
from edge_sdk.measure.verdict import judge, student
from edge_sdk.sensors.base import Channel


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (2.9, 4.303), (10, 2.228), (30, 2.042), (60, 2.000), (120, 1.980)],
)
def test_students_quantile_is_that_of_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, abs=0.003)


def test_of_endless_freedom_it_is_the_normal_one():
    assert student(float("inf")) == pytest.approx(1.96)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_freedom_is_never_a_wider_interval(one, other):
    assert student(max(one, other)) <= student(min(one, other))


def windows(powers_w, *, seconds=10, inferences=100, gpu_w=None):
    """A run of windows of these powers, one sample a second; the first is idle, the next work, and so on.

    Args:
        powers_w: Of the rail "in".
        seconds: Of a window.
        inferences: In one of work.
        gpu_w: Of a second rail, "gpu", in each window; NaN where it has no value.
    """
    at_ns = np.arange(len(powers_w) * seconds + 1, dtype=np.int64) * 1_000_000_000
    rails = [powers_w] if gpu_w is None else [powers_w, gpu_w]
    values = np.repeat(np.asarray(rails, np.float64).T, seconds, axis=0)
    values = np.concatenate([values, values[-1:]])
    stretches = []
    for place in range(len(powers_w)):
        start, end = place * seconds * 1_000_000_000, ((place + 1) * seconds - 1) * 1_000_000_000
        kind = "work" if place % 2 else "idle"
        stretches.append(Stretch(kind, place // 2, start, end, inferences if kind == "work" else 0))
    channels = tuple(Channel(name, "power", "sensor_total", in_total=True) for name in ("in", "gpu")[: len(rails)])
    main = Trace("test", channels, 1.0, at_ns, values, {"gpu": "power-gated"} if gpu_w is not None else {})
    quiet = Conditions(at_ns=0)
    return Run(0, int(at_ns[-1]), tuple(stretches), main, (main,), (), quiet, quiet, ())


@pytest.mark.parametrize("repeats", [3, 10])
def test_noise_of_idle_windows_that_repeats_share_is_in_the_net_interval(repeats):
    """True net power is 3 W, 270 mJ an inference; only the idle windows scatter, and each serves two repeats."""
    chance = random.Random(5)  # noqa: S311  to be had again
    held = 0
    for _ in range(200):
        powers = [5 + chance.gauss(0, 0.04) if place % 2 == 0 else 8.0 for place in range(2 * repeats + 1)]
        net = judge(windows(powers)).net_mj
        assert net is not None
        held += net.low <= 270 <= net.high
    assert held / 200 >= 0.92


POWERS = [5.0, 8.0, 5.01, 8.02, 5.0, 8.01, 5.02]
GATED = float("nan")


def test_a_rail_that_is_gated_while_the_board_is_idle_leaves_the_gross_energy_alone():
    """Idle power lacks it: the difference would hold all of it, idle or not."""
    energy = judge(windows(POWERS, gpu_w=[GATED, 1, GATED, 1, GATED, 1, GATED]))

    assert energy.rejected == ()
    assert energy.gross_mj is not None
    assert energy.net_mj is None
    assert energy.net_refused.startswith(
        "rails of the total came and went: without gpu in idle window 1, idle window 2"
    )
    assert energy.method == "sensor_partial"


def test_a_rail_that_is_in_some_work_windows_only_is_a_reason_to_reject():
    energy = judge(windows(POWERS, gpu_w=[1, 1, 1, GATED, 1, 1, 1]))

    assert energy.rejected == ("rails of the total came and went: without gpu in work window 2",)
    assert energy.gross_mj is None


def test_a_rail_that_is_never_there_is_missing_everywhere_and_the_run_stands():
    energy = judge(windows(POWERS, gpu_w=[GATED] * 7))

    assert energy.rejected == ()
    assert energy.net_mj is not None
    assert (energy.method, energy.missing) == ("sensor_partial", "without gpu (power-gated)")
