"""A histogram that grows with what it is given: one pass, a fixed size, and the same result in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Bins of a full histogram. A range clipped to a tenth of the extremes still has six bins for each of 256 levels.
BINS = 1 << 14

# So many values at a time: what is computed on the way stays in a core's own cache.
_PIECE = 1 << 16

# The narrowest bin is 2**-100 wide: its inverse, and any float32 in units of it, are finite float32.
_NARROWEST = -100


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a tensor's values fell where. Bins are a power of two wide and zero is always an edge.

    Bin i covers [(first + i) * width, (first + i + 1) * width), and the bins reach from `low` to `high` and to zero.

    Args:
        exponent: The width is 2**exponent.
        first: Place of the first bin, in widths; at most 0.
        counts: int64 [n], n at most 2**14.
        zeros: Values that are exactly zero; they are counted in the bin that begins at zero too.
        low, high: The least and the greatest value, exactly; 0 where there is none.
    """

    exponent: int
    first: int
    counts: NDArray[np.int64]
    zeros: int
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of a bin, in the tensor's units."""
        return float(2.0**self.exponent)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """float64 [n + 1], rising."""
        return np.asarray((self.first + np.arange(len(self.counts) + 1)) * self.width, np.float64)

    @property
    def spread(self) -> NDArray[np.int64]:
        """int64 [n]: the counts without exact zeros, which are a spike and no part of any bin's spread."""
        spread: NDArray[np.int64] = self.counts.copy()
        spread[-self.first] -= self.zeros
        return spread

    @property
    def power(self) -> float:
        """Mean of the squared values, as far as bins tell: values lie evenly in theirs."""
        left = self.edges[:-1]
        squares = left**2 + left * self.width + self.width**2 / 3
        return float((self.spread * squares).sum()) / max(1, self.total)

    def quantile(self, fraction: float) -> float:
        """The value that this fraction of all values lies at or below; never outside of `low` and `high`."""
        below = np.cumsum(self.counts)
        wanted = fraction * below[-1]
        bin_ = min(int(np.searchsorted(below, wanted)), len(below) - 1)
        inside = 1 - (below[bin_] - wanted) / max(1, self.counts[bin_])
        value = (self.first + bin_ + inside) * self.width
        return float(min(max(value, self.low), self.high))

    def absolute(self) -> Histogram:
        """The histogram of the absolute values."""
        below, above = self.counts[: -self.first][::-1], self.counts[-self.first :]
        counts = np.zeros(max(len(below), len(above)), np.int64)
        counts[: len(above)] += above
        counts[: len(below)] += below
        peak = max(-self.low, self.high)
        return Histogram(self.exponent, 0, counts, self.zeros, max(0.0, self.low, -self.high), peak)

    def coarser(self, by: int) -> Histogram:
        """The same with bins 2**by times as wide: exactly what wider bins would have counted."""
        first, counts = _coarsened(self.first, self.counts, by)
        return Histogram(self.exponent + by, first, counts, self.zeros, self.low, self.high)


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """All values in one histogram, such as those of tensors that must share a scale.

    Args:
        histograms: At least one.
    """
    growing = GrowingHistogram()
    for histogram in histograms:
        growing.absorb(histogram)
    return growing.snapshot()


class Scratch:
    """Working memory for `GrowingHistogram.add`, used by one thread at a time."""

    def __init__(self) -> None:
        self.scaled = np.empty(_PIECE, np.float32)
        self.places = np.empty(_PIECE, np.int64)


@dataclass
class GrowingHistogram:
    """A histogram in the making.

    The first values that are not zero fix the narrowest bins that hold them in `BINS`; where later ones do not fit,
    neighbouring bins are joined in pairs until they do. Edges are whole multiples of a power of two, so that joining
    loses nothing but width: the result is that of counting with the final width from the beginning, whatever the order.
    """

    _exponent: int | None = None  # None: nothing but zeros so far
    _first: int = 0
    _counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    _zeros: int = 0
    _low: float = float("inf")
    _high: float = float("-inf")

    def add(
        self,
        values: NDArray[np.float32],
        extremes: tuple[float, float] | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """Counts values.

        Args:
            values: float32 of any shape, all finite.
            extremes: Their least and greatest, where the caller has them already.
            scratch: Working memory of this thread, for who counts in many histograms.
        """
        if not values.size:
            return
        low, high = (float(values.min()), float(values.max())) if extremes is None else extremes
        zeros = int(values.size - np.count_nonzero(values))
        self._zeros += zeros
        self._make_room(low, high)
        if self._exponent is None or zeros == values.size:
            self._counts[-self._first] += zeros
            return
        flat, work = values.reshape(-1), scratch or Scratch()
        factor = np.float32(2.0**-self._exponent)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            scaled, places = work.scaled[: piece.size], work.places[: piece.size]
            # All three steps are exact: by a power of two, and whole numbers below 2**15.
            np.multiply(piece, factor, out=scaled)
            np.floor(scaled, out=scaled)
            np.subtract(scaled, np.float32(self._first), out=scaled)
            np.copyto(places, scaled, casting="unsafe")
            self._counts += np.bincount(places, minlength=len(self._counts))

    def absorb(self, histogram: Histogram) -> None:
        """Counts what another histogram has counted."""
        if not histogram.total:
            return
        self._zeros += histogram.zeros
        if histogram.zeros == histogram.total:
            self._make_room(0.0, 0.0)
            self._counts[-self._first] += histogram.zeros
            return
        if self._exponent is not None and self._exponent < histogram.exponent:
            self._coarsen(histogram.exponent - self._exponent)
        self._make_room(histogram.low, histogram.high, histogram.exponent)
        assert self._exponent is not None  # noqa: S101  there is a value that is not zero
        first, counts = _coarsened(histogram.first, histogram.counts, self._exponent - histogram.exponent)
        place = first - self._first
        self._counts[place : place + len(counts)] += counts

    def snapshot(self) -> Histogram:
        """What has been counted so far."""
        if not self._counts.any():
            return Histogram(0, 0, np.zeros(1, np.int64), 0, 0.0, 0.0)
        # Adding zero turns -0.0 into 0.0, so that not even a sign depends on the order.
        low, high = self._low + 0.0, self._high + 0.0
        return Histogram(self._exponent or 0, self._first, self._counts.copy(), self._zeros, low, high)

    def _make_room(self, low: float, high: float, least: int = _NARROWEST) -> None:
        """Widens until bins from `low` to `high`, zero and all so far are no more than `BINS`."""
        self._low, self._high = min(self._low, low), max(self._high, high)
        low, high = min(0.0, self._low), max(0.0, self._high)
        if low == high:
            return
        if self._exponent is None:
            self._exponent = max(least, _NARROWEST, int(np.frexp(high - low)[1]) - BINS.bit_length() - 1)
        exponent = self._exponent
        while _place(high, exponent) - _place(low, exponent) >= BINS:
            exponent += 1
        self._coarsen(exponent - self._exponent)
        first, end = _place(low, exponent), _place(high, exponent) + 1
        before, after = self._first - first, end - self._first - len(self._counts)
        if before > 0 or after > 0:
            self._counts = np.pad(self._counts, (max(0, before), max(0, after)))
            self._first -= max(0, before)

    def _coarsen(self, by: int) -> None:
        if by and self._exponent is not None:
            self._exponent += by
            self._first, self._counts = _coarsened(self._first, self._counts, by)


def _place(value: float, exponent: int) -> int:
    return int(np.floor(np.ldexp(value, -exponent)))


def _coarsened(first: int, counts: NDArray[np.int64], by: int) -> tuple[int, NDArray[np.int64]]:
    """First place and counts of bins 2**by times as wide."""
    if not by:
        return first, counts
    places = np.arange(first, first + len(counts)) >> min(by, 62)
    joined = np.zeros(places[-1] - places[0] + 1, np.int64)
    np.add.at(joined, places - places[0], counts)
    return int(places[0]), joined
