"""Energy and extremes since the first value: no stretch is counted that was not measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.measure.tally import Tally
from edge_sdk.result import Method, Reading


def reading(at_s: float, value: float | None, method: Method | None = "sensor_total") -> Reading:
    reason = None if value is not None else "gated"
    return Reading("board", value, "w", method if value is not None else None, round(at_s * 1e9), reason)


def tally(*readings: Reading, longest_s: float = 3.0, spans: bool = False) -> Tally:
    made = Tally(longest_s, spans=spans)
    for one in readings:
        made.add(one)
    return made


def test_nothing_is_known_before_the_first_value() -> None:
    made = tally(reading(0, None), reading(1, None))
    assert (made.energy_j, made.mean_w, made.min_w, made.peak_w, made.gaps) == (None, None, None, None, 0)


def test_one_value_is_no_energy_yet() -> None:
    made = tally(reading(0, 5.0))
    assert (made.energy_j, made.mean_w, made.measured_s) == (0.0, None, 0.0)
    assert (made.min_w, made.peak_w, made.method) == (5.0, 5.0, "sensor_total")


def test_between_two_values_power_changes_evenly() -> None:
    made = tally(reading(0, 4.0), reading(1, 6.0), reading(3, 10.0))
    assert made.energy_j == pytest.approx(5.0 + 16.0)
    assert made.measured_s == pytest.approx(3.0)
    assert made.mean_w == pytest.approx(7.0)
    assert (made.min_w, made.peak_w) == (4.0, 10.0)


def test_a_stretch_without_a_value_is_a_gap_and_no_energy() -> None:
    made = tally(reading(0, 4.0), reading(1, 4.0), reading(2, None), reading(3, None), reading(4, 8.0), reading(5, 8.0))
    assert made.energy_j == pytest.approx(12.0)
    assert made.measured_s == pytest.approx(2.0)
    assert made.gaps == 1


def test_two_values_too_far_apart_are_a_gap() -> None:
    made = tally(reading(0, 4.0), reading(1, 4.0), reading(60, 4.0), reading(61, 4.0))
    assert made.energy_j == pytest.approx(8.0)
    assert made.gaps == 1


def test_a_mean_over_the_time_before_is_multiplied_by_it_however_long_it_was() -> None:
    made = tally(reading(0, None), reading(1, 10.0), reading(60, 2.0), spans=True)
    assert made.energy_j == pytest.approx(10.0 + 2.0 * 59)
    assert made.measured_s == pytest.approx(60)
    assert made.gaps == 0


def test_energy_that_was_once_measured_in_part_stays_so() -> None:
    made = tally(reading(0, 4.0), reading(1, 3.0, "sensor_partial"), reading(2, 4.0))
    assert made.method == "sensor_partial"


def test_a_reading_that_is_no_later_is_left_out() -> None:
    made = tally(reading(0, 4.0), reading(1, 4.0), reading(1, 99.0), reading(0.5, 99.0), reading(2, 4.0))
    assert made.energy_j == pytest.approx(8.0)
    assert made.peak_w == 4.0


values = st.none() | st.floats(0, 200)


@given(st.lists(st.tuples(st.floats(0.1, 10), values), max_size=60), st.booleans())
def test_energy_lies_between_the_lowest_and_the_highest_power(steps: list[tuple[float, float | None]], spans) -> None:
    made, now = Tally(3.0, spans=spans), 0.0
    for step, value in steps:
        now += step
        made.add(reading(now, value))
    present = [value for _, value in steps if value is not None]
    if not present:
        assert made.energy_j is None
        return
    assert made.energy_j is not None
    assert made.measured_s <= now + 1e-6
    assert min(present) * made.measured_s - 1e-6 <= made.energy_j <= max(present) * made.measured_s + 1e-6
    assert (made.min_w, made.peak_w) == (min(present), max(present))
    assert 0 <= made.gaps <= len(steps)
