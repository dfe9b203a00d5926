"""The rules of LoadGen as pure functions; tests/tools/test_compare_loadgen.py holds them against the library."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import UsageError
from edge_sdk.measure import loadgen_rules as rules

LATENCIES = st.lists(st.integers(1, 10**12), min_size=1, max_size=300)
FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(LATENCIES, FRACTIONS)
def test_a_percentile_is_the_observed_latency_at_floor_n_p(latencies: list[int], fraction: float) -> None:
    found = rules.percentile(latencies, fraction)
    assert found in latencies
    assert found == sorted(latencies)[math.floor(len(latencies) * fraction)]


@given(LATENCIES, FRACTIONS, FRACTIONS)
def test_a_percentile_never_falls_as_the_fraction_rises(latencies: list[int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert rules.percentile(latencies, low) <= rules.percentile(latencies, high)


def test_nothing_is_interpolated() -> None:
    assert rules.percentile([1, 1000], 0.5) == 1000  # NumPy's median of the two is 500.5
    assert rules.percentile(range(100), 0.9) == 90
    assert rules.percentile(range(100), 0.99) == 99
    assert rules.percentile([7.5], 0.999) == 7.5


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 90, math.nan])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        rules.percentile([1, 2], fraction)


def test_no_latency_has_no_percentile() -> None:
    with pytest.raises(UsageError, match="no latencies"):
        rules.percentile([], 0.5)
    assert rules.percentiles([]) == {}


@given(LATENCIES)
def test_the_figures_stand_in_order_between_least_and_most(latencies: list[int]) -> None:
    found = rules.percentiles(latencies)
    assert list(found) == ["p50", "p90", "p95", "p97", "p99", "p99.9", "min", "max", "mean"]
    ordered = [found["min"], *(found[name] for name in rules.PERCENTILES), found["max"]]
    assert ordered == sorted(ordered)
    assert found["min"] <= found["mean"] * (1 + 1e-12)
    assert found["mean"] <= found["max"] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("queries", "issued_s", "done"),
    [(100, 10.0, True), (99, 10.0, False), (100, 9.99, False), (100_000, 9.99, False), (101, 60.0, True)],
)
def test_a_run_ends_when_both_the_time_and_the_number_are_reached(queries: int, issued_s: float, done: bool) -> None:
    assert rules.enough(queries, issued_s) is done


def test_the_least_numbers_for_early_stopping_are_those_that_mlperf_names() -> None:
    # MLPerf Inference rules, "early stopping": single-stream needs 64 queries, multi-stream's 99th percentile 662.
    assert rules.early_stopping_queries(0.90) == 64
    assert rules.early_stopping_queries(0.99) == 662
    assert rules.early_stopping_percentile(range(63), 0.90) is None
    assert rules.early_stopping_percentile(range(64), 0.90) == 63


@pytest.mark.parametrize(
    ("queries", "discarded"), [(64, 0), (100, 2), (150, 5), (1000, 77), (5000, 449), (50000, 4843)]
)
def test_as_many_are_discarded_as_loadgen_said_it_would(queries: int, discarded: int) -> None:
    # "Would discard ... highest latency queries" in the summaries of runs of mlcommons-loadgen 6.0.17.
    assert rules.early_stopping_rank(queries, 0.90) == discarded + 1


@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.97, 0.99]), st.sampled_from([0.9, 0.99]))
def test_the_rank_is_the_largest_whose_binomial_odds_are_small(n: int, fraction: float, confidence: float) -> None:
    def odds(t: int) -> float:
        return math.fsum(
            math.comb(n, k) * (1 - fraction) ** k * fraction ** (n - k) for k in range(t + 1)
        )  # P(X <= t), as the textbook writes it

    rank = rules.early_stopping_rank(n, fraction, confidence=confidence)
    if rank is None:
        assert odds(1) >= (1 - confidence) * (1 - 1e-9)
    else:
        assert odds(rank) < (1 - confidence) * (1 + 1e-9)
        assert rank == n or odds(rank + 1) >= (1 - confidence) * (1 - 1e-9)


@given(st.lists(st.integers(1, 10**12), min_size=64, max_size=400))
def test_the_estimate_is_observed_and_no_lower_than_the_percentile(latencies: list[int]) -> None:
    estimate = rules.early_stopping_percentile(latencies, 0.90)
    assert estimate is not None
    assert estimate in latencies
    assert estimate >= rules.percentile(latencies, 0.90)


def test_the_odds_of_many_queries_are_no_underflow() -> None:
    assert 0.9**200_000 == 0.0
    rank = rules.early_stopping_rank(200_000, 0.90)
    assert rank is not None
    assert 19_000 < rank < 20_000  # a little below the 20,000 above the 90th percentile


@pytest.mark.parametrize(("fraction", "confidence"), [(0.0, 0.99), (1.0, 0.99), (0.9, 0.0), (0.9, 1.0)])
def test_early_stopping_wants_fractions_inside(fraction: float, confidence: float) -> None:
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        rules.early_stopping_percentile([1] * 100, fraction, confidence=confidence)
