"""The rule by which latency is called steady, on made-up latencies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.measure.warm_up import MIN_RUNS, length, warm_up


def taking(times: Iterable[float]) -> Callable[[], float]:
    """A detector that takes these times, and then the last of them for ever."""
    given_times = iter(list(times))
    last = 0.0

    def detect() -> float:
        nonlocal last
        last = next(given_times, last)
        return last

    return detect


def test_a_detector_that_is_steady_at_once_is_warm_after_the_first() -> None:
    found = warm_up(taking([0.125]), 0.4)
    assert found.runs == 1
    assert found.seconds == pytest.approx(0.4)
    assert found.spent_runs == 1 + 2 * MIN_RUNS
    assert found.spent_s == pytest.approx(0.4 + 10 * 0.125)


def test_a_first_detection_as_fast_as_the_rest_is_no_warm_up() -> None:
    assert warm_up(taking([0.1]), 0.1).runs == 0


def test_slow_ones_are_counted_one_by_one_though_the_windows_are_long() -> None:
    slow = [0.03, 0.02, 0.015]
    found = warm_up(taking([*slow, 0.01]), 0.2)
    assert found.runs == 1 + len(slow)
    assert found.seconds == pytest.approx(0.2 + sum(slow))


def test_latency_that_falls_slowly_is_not_steady_until_it_stops_falling() -> None:
    falling = [0.1 * 0.97**number for number in range(40)]  # 14 % from window to window
    found = warm_up(taking(falling), 0.1)
    assert found.runs is not None
    assert 25 <= found.runs <= 45


def test_a_clock_that_is_raised_after_a_while_is_seen_on_a_fast_model() -> None:
    # 1 ms a detection: five of them and five more would look steady long before the clock is raised after 0.3 s.
    found = warm_up(taking([0.001] * 300 + [0.0008]), 0.001)
    assert found.runs is not None
    assert 299 <= found.runs <= 301  # the median of five is of the new ones when three are


def test_latency_that_jumps_for_ever_is_never_steady() -> None:
    found = warm_up(taking(itertools.islice(itertools.cycle([0.1] * 5 + [0.2] * 5), 1000)), 0.1, limit_s=5.0)
    assert (found.runs, found.seconds) == (None, None)
    assert 5.0 <= found.spent_s < 7.5
    assert found.spent_runs > 30


def test_a_slow_model_is_judged_by_two_windows_whatever_the_limit() -> None:
    found = warm_up(taking([3.0]), 9.0, limit_s=1.0)
    assert found.runs == 1
    assert found.spent_runs == 1 + 2 * MIN_RUNS


def test_a_single_hiccup_is_no_warm_up() -> None:
    assert warm_up(taking([0.1, 0.1, 0.1, 0.5, 0.1, 0.1]), 0.3).runs == 1


def test_progress_is_told_up_to_the_limit() -> None:
    told: list[float] = []
    warm_up(taking([0.1] * 5 + [0.2] * 5 + [0.1] * 5 + [0.3]), 0.1, limit_s=2.0, told=told.append)
    assert told == sorted(told)
    assert told[0] == pytest.approx(0.05)
    assert told[-1] <= 1.0


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=60), st.floats(1e-6, 10))
def test_the_length_is_never_more_than_there_is(times: list[float], level: float) -> None:
    assert 0 <= length(times, level) <= max(0, len(times) - MIN_RUNS)
