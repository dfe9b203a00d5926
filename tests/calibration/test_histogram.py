"""The growing histogram: nothing is lost, and no order of photos shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.calibration.histogram import BINS, GrowingHistogram, Histogram, merged

# No values below 1e-30: in units of a bin for values of 1e6 they would be no float32 any more.
VALUES = st.floats(-1e6, 1e6, width=32).map(lambda value: 0.0 if abs(value) < 1e-30 else value)
BATCHES = st.lists(st.lists(VALUES, min_size=1, max_size=20), min_size=1, max_size=6)


def counted(*batches: object) -> Histogram:
    growing = GrowingHistogram()
    for batch in batches:
        growing.add(np.asarray(batch, np.float32))
    return growing.snapshot()


def same(one: Histogram, other: Histogram) -> bool:
    head = ("exponent", "first", "zeros", "low", "high")
    return all(getattr(one, name) == getattr(other, name) for name in head) and np.array_equal(one.counts, other.counts)


def bell(size: int = 20_000, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.5, 2.0, size).astype(np.float32)


@given(batches=BATCHES, order=st.randoms(use_true_random=False))
def test_the_order_of_batches_changes_nothing(batches: list[list[float]], order: object) -> None:
    shuffled = list(batches)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same(counted(*batches), counted(*shuffled))


@given(batches=BATCHES)
def test_batches_give_what_all_values_at_once_give(batches: list[list[float]]) -> None:
    assert same(counted(*batches), counted([value for batch in batches for value in batch]))


@given(batches=BATCHES)
def test_merging_histograms_gives_what_counting_all_values_gives(batches: list[list[float]]) -> None:
    assert same(merged([counted(batch) for batch in batches]), counted(*batches))


@given(batches=BATCHES)
def test_every_value_is_in_the_bin_that_covers_it(batches: list[list[float]]) -> None:
    histogram = counted(*batches)
    values = np.asarray([value for batch in batches for value in batch], np.float32).astype(np.float64)
    expected, _ = np.histogram(values, np.append(histogram.edges[:-1], np.inf))
    assert np.array_equal(histogram.counts, expected)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.zeros == (values == 0).sum()
    assert len(histogram.counts) <= BINS


def test_zero_is_always_an_edge_and_inside() -> None:
    for values in ([3.0, 3.5], [-7.0], [-1.0, 1.0], [0.0]):
        edges = counted(values).edges
        assert 0.0 in edges
        assert edges[0] <= min(values)
        assert edges[-1] > max(values)


def test_the_bins_are_as_narrow_as_their_number_allows() -> None:
    histogram = counted(bell(), [40.0])
    assert BINS / 2 < len(histogram.counts) <= BINS


def test_a_large_value_after_tiny_ones_takes_no_memory() -> None:
    histogram = counted([1e-25, -1e-25], [1e6])
    assert histogram.total == 3
    assert histogram.counts[-histogram.first] == 1
    assert len(histogram.counts) <= BINS


def test_nothing_and_nothing_but_zeros_are_histograms_too() -> None:
    assert counted().total == 0
    assert counted([]).total == 0
    zeros = counted([0.0, -0.0], [0.0])
    assert (zeros.total, zeros.zeros, zeros.low, zeros.high) == (3, 3, 0.0, 0.0)
    assert zeros.quantile(0.5) == 0.0
    assert zeros.power == 0.0


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.5, 0.999, 1.0])
def test_quantiles_are_those_of_the_values_within_a_bin(fraction: float) -> None:
    values = bell()
    histogram = counted(values)
    nearest = np.quantile(values, fraction, method="inverted_cdf")
    assert histogram.quantile(fraction) == pytest.approx(nearest, abs=histogram.width)


def test_quantiles_of_absolute_values_see_both_sides() -> None:
    values = bell()
    histogram = counted(values).absolute()
    assert histogram.quantile(0.999) == pytest.approx(np.quantile(np.abs(values), 0.999), abs=2 * histogram.width)
    assert histogram.total == values.size
    assert histogram.low == 0.0
    assert histogram.high == np.abs(values).max()
    below = counted([-5.0, -3.0]).absolute()
    assert (below.low, below.high) == (3.0, 5.0)


def test_power_is_that_of_the_values() -> None:
    values = np.maximum(bell(), 0)
    assert counted(values).power == pytest.approx(float((values.astype(np.float64) ** 2).mean()), rel=1e-5)


def test_coarser_bins_hold_the_same_values() -> None:
    values = bell()
    histogram = counted(values).coarser(5)
    expected, _ = np.histogram(values, histogram.edges)
    assert np.array_equal(histogram.counts, expected)
