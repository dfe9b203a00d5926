"""Joules out of samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.measure.energy import integrate
from edge_sdk.measure.trace import Trace
from edge_sdk.sensors.base import Channel

SECOND = 1_000_000_000
BOARD = Channel("VDD_IN", "power", "sensor_total", in_total=True)
COUNTER = Channel("package-0", "energy", "counter", in_total=True, missing="the package alone")


def trace(at_s, values, *channels: Channel, refresh_s: float = 0.02, absent=None) -> Trace:
    at_ns = np.round(np.asarray(at_s, float) * SECOND).astype(np.int64)
    table = np.asarray(values, float).reshape(len(at_ns), -1)
    return Trace("sensor", channels or (BOARD,), refresh_s, at_ns, table, absent or {})


def test_constant_power_is_power_times_time():
    steady = trace(np.arange(0, 12, 0.02), np.full(600, 5.0))

    found = integrate(steady, 1 * SECOND, 11 * SECOND)

    assert found.energy_j == pytest.approx(50.0)
    assert found.mean_w == pytest.approx(5.0)
    assert (found.reason, found.method, found.missing) == (None, "sensor_total", None)


def test_the_edges_are_interpolated_between_the_samples_on_both_sides():
    ramp = trace([0, 0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3, 4])

    found = integrate(ramp, SECOND // 20, 7 * SECOND // 20)  # 0.05 s at 0.5 W to 0.35 s at 3.5 W

    assert found.energy_j == pytest.approx((0.5 + 3.5) / 2 * 0.3)


@given(
    st.lists(st.floats(0, 100), min_size=5, max_size=60),
    st.floats(0.01, 0.05),
    st.floats(0.05, 0.45),
    st.floats(0.55, 0.95),
)
def test_a_window_is_the_sum_of_its_parts(watts, period, start, end):
    samples = trace(np.arange(len(watts)) * period, watts, refresh_s=period)
    whole = len(watts) * period
    edges = [round(part * (whole - period) * SECOND) for part in (start, (start + end) / 2, end)]

    parts = [integrate(samples, edges[0], edges[1]), integrate(samples, edges[1], edges[2])]
    both = integrate(samples, edges[0], edges[2])

    if all(part.energy_j is not None for part in parts):
        assert both.energy_j == pytest.approx(parts[0].energy_j + parts[1].energy_j, abs=1e-6)


@given(st.lists(st.floats(0, 50), min_size=8, max_size=80), st.floats(0.0, 0.2), st.floats(0.8, 1.0))
def test_a_counter_of_a_power_gives_the_energy_of_that_power(watts, start, end):
    at_s = np.arange(len(watts)) * 0.02
    power = trace(at_s, watts)
    counted = np.concatenate(([0.0], np.cumsum((np.array(watts[1:]) + watts[:-1]) / 2 * 0.02)))
    counter = trace(at_s, counted, COUNTER)
    window = [int(round(part * (len(watts) - 1)) * 0.02 * SECOND) for part in (start, end)]  # at samples
    if window[1] - window[0] < SECOND // 20:
        return

    by_power, by_counter = integrate(power, *window), integrate(counter, *window)

    assert by_counter.energy_j == pytest.approx(by_power.energy_j, abs=1e-6)
    assert (by_counter.method, by_counter.missing) == ("counter", "the package alone")


@pytest.mark.parametrize("first_again", [0.0, 49.0])
def test_a_counter_that_falls_was_reset_and_gives_no_energy(first_again):
    """By whatever: a driver that was loaded anew. The difference over it may well be positive, and is wrong."""
    counted = np.arange(600) * 0.1
    counted[400:] = np.arange(200) * 0.1 + first_again / 2
    counted[:400] += first_again

    found = integrate(trace(np.arange(600) * 0.02, counted, COUNTER), SECOND, 11 * SECOND)

    assert found.energy_j is None
    assert found.reason == "the energy counter of package-0 was reset"


def test_a_counter_that_was_reset_before_the_window_counts_on():
    counted = np.concatenate((np.arange(50) + 900.0, np.arange(600) * 0.1))

    found = integrate(trace(np.arange(650) * 0.02, counted, COUNTER), 2 * SECOND, 12 * SECOND)

    assert found.energy_j == pytest.approx(50.0)


def test_a_gap_gives_no_energy_and_says_how_long_it_is():
    at_s = [*np.arange(0, 4, 0.02), *np.arange(6, 12, 0.02)]
    holed = trace(at_s, np.full(len(at_s), 5.0))

    found = integrate(holed, SECOND, 11 * SECOND)

    assert found.energy_j is None
    assert found.reason == "a gap of 2.02 s in the samples, where at most 0.50 s are allowed"
    assert found.longest_gap_s == pytest.approx(2.02)


def test_a_gap_outside_of_the_window_does_no_harm():
    at_s = [*np.arange(0, 1, 0.02), *np.arange(4, 12, 0.02)]
    holed = trace(at_s, np.full(len(at_s), 5.0))

    assert integrate(holed, 5 * SECOND, 11 * SECOND).energy_j == pytest.approx(30.0)


def test_samples_that_end_within_the_window_are_a_gap():
    assert "a gap of 5.0" in (integrate(trace(np.arange(0, 6, 0.02), np.full(300, 5.0)), 0, 11 * SECOND).reason or "")


def test_values_that_are_absent_for_long_are_a_gap():
    watts = np.full(600, 5.0)
    watts[100:200] = np.nan

    found = integrate(trace(np.arange(600) * 0.02, watts, absent={"VDD_IN": "negative: -0.4"}), SECOND, 11 * SECOND)

    assert found.energy_j is None
    assert "a gap of 2.02 s" in found.reason
    assert found.reason.endswith("; VDD_IN: negative: -0.4")


def test_a_few_absent_values_are_bridged():
    watts = np.full(600, 5.0)
    watts[100:105] = np.nan

    assert integrate(trace(np.arange(600) * 0.02, watts), SECOND, 11 * SECOND).energy_j == pytest.approx(50.0)


def test_a_slow_meter_may_have_long_intervals():
    slow = trace(np.arange(0, 70, 1.0), np.full(70, 8.0), refresh_s=1.0)

    assert integrate(slow, 5 * SECOND, 65 * SECOND).energy_j == pytest.approx(480.0)


def test_a_rail_that_is_never_there_makes_the_total_partial_and_is_named():
    rails = (Channel("CPU", "power", "sensor_total", True), Channel("GPU", "power", "sensor_total", True))
    values = np.column_stack([np.full(600, 2.0), np.full(600, np.nan)])

    found = integrate(
        trace(np.arange(600) * 0.02, values, *rails, absent={"GPU": "channel disabled"}), SECOND, 11 * SECOND
    )

    assert found.energy_j == pytest.approx(20.0)
    assert (found.method, found.missing) == ("sensor_partial", "without GPU (channel disabled)")


def test_a_rail_outside_of_the_total_is_not_added():
    rails = (BOARD, Channel("VDD_SOC", "power", "sensor_total", False))
    values = np.column_stack([np.full(600, 5.0), np.full(600, 1.0)])

    assert integrate(trace(np.arange(600) * 0.02, values, *rails), SECOND, 11 * SECOND).mean_w == pytest.approx(5.0)


def test_without_a_channel_of_the_total_there_is_no_energy():
    part = trace(np.arange(600) * 0.02, np.full(600, 5.0), Channel("VDD_SOC", "power", "sensor_total", False))

    found = integrate(part, SECOND, 11 * SECOND)

    assert (found.energy_j, found.method) == (None, None)
    assert found.reason == "no channel of this sensor is the board's total"


def test_a_window_without_a_sample_has_no_energy():
    found = integrate(trace([0.0], [5.0]), 0, SECOND // 100)

    assert found.energy_j is None


def test_updates_count_only_new_values():
    found = integrate(trace(np.arange(10) * 0.02, [5, 5, 6, 6, 6, 5, 5, 5, 7, 7]), 0, 18 * SECOND // 100)

    assert (found.samples, found.updates) == (10, 3)


class TestQuantisation:
    def test_a_value_that_stands_still_is_uncertain_by_its_step(self):
        step = Channel("VIN", "power", "sensor_total", True, step=0.393)

        found = integrate(trace(np.arange(600) * 0.02, np.full(600, 1.965), step), SECOND, 11 * SECOND)

        assert found.quantisation_w == pytest.approx(0.393 / np.sqrt(12))

    @given(st.floats(0, 1), st.integers(0, 1000))
    def test_noise_of_a_step_averages_it_out_and_the_claim_holds(self, offset, seed):
        step = 0.393
        watts = 2 + step * offset + np.random.default_rng(seed).normal(0, 0.7 * step, 5000)
        seen = np.round(watts / step) * step

        found = integrate(
            trace(np.arange(5000) * 0.02, seen, Channel("VIN", "power", "sensor_total", True, step=step)),
            0,
            4999 * SECOND // 50,
        )

        assert found.quantisation_w < 0.01 * step
        assert abs(np.mean(seen) - np.mean(watts)) < 0.02 * step

    def test_two_channels_add_in_squares(self):
        steps = tuple(Channel(name, "power", "sensor_total", True, step=0.3) for name in ("A", "B"))

        found = integrate(trace(np.arange(600) * 0.02, np.full((600, 2), 1.2), *steps), SECOND, 11 * SECOND)

        assert found.quantisation_w == pytest.approx(np.sqrt(2) * 0.3 / np.sqrt(12))
