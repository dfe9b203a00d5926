"""Courses over time for plots."""

from __future__ import annotations

import numpy as np

from edge_sdk.conditions.base import Conditions
from edge_sdk.measure.trace import Trace
from edge_sdk.measure.tracks import channel_tracks, condition_tracks
from edge_sdk.result import Reading
from edge_sdk.sensors.base import Channel

SECOND = 1_000_000_000


def test_a_power_is_its_values_and_what_was_absent_is_none():
    trace = Trace(
        "ina3221",
        (Channel("VDD_IN", "power", "sensor_total", True),),
        0.02,
        np.array([SECOND, 2 * SECOND]),
        np.array([[5.0], [np.nan]]),
        {"VDD_IN": "gone (ENODEV)"},
    )

    (track,) = channel_tracks([trace], SECOND)

    assert (track.at_s, track.power_w) == ((0.0, 1.0), (5.0, None))
    assert (track.sensor, track.in_total, track.absent) == ("ina3221", True, "gone (ENODEV)")


def test_an_energy_becomes_the_power_between_its_samples():
    trace = Trace(
        "rapl",
        (Channel("package-0", "energy", "counter", True),),
        0.001,
        np.array([0, SECOND, 3 * SECOND]),
        np.array([[100.0], [110.0], [150.0]]),
    )

    (track,) = channel_tracks([trace], 0)

    assert (track.at_s, track.power_w) == ((1.0, 3.0), (10.0, 20.0))


def test_a_counter_that_was_reset_has_no_power_there():
    trace = Trace(
        "nvml",
        (Channel("gpu-0", "energy", "counter", True),),
        0.1,
        np.arange(4) * SECOND,
        np.array([[100.0], [110.0], [2.0], [12.0]]),
    )

    (track,) = channel_tracks([trace], 0)

    assert track.power_w == (10.0, None, 10.0)


def look(at_s, *temperatures):
    return Conditions(
        at_s * SECOND,
        temperatures=tuple(
            Reading(name, value, "c", None, at_s * SECOND, None if value is not None else "power-gated")
            for name, value in temperatures
        ),
    )


def test_a_temperature_that_comes_and_goes_has_gaps_with_the_reason():
    looks = [look(1, ("cpu", 50.0), ("gpu", None)), look(2, ("cpu", 51.0)), look(3, ("cpu", 52.0), ("gpu", 40.0))]

    cpu, gpu = condition_tracks(looks, SECOND)

    assert (cpu.name, cpu.unit, cpu.at_s, cpu.values, cpu.reason) == (
        "cpu", "c", (0.0, 1.0, 2.0), (50.0, 51.0, 52.0), None,
    )  # fmt: skip
    assert (gpu.values, gpu.reason) == ((None, None, 40.0), "power-gated")
