"""Ways to choose the range of an activation from its histogram, and the error that a range would make.

A method is a function of a histogram and a scheme, and gives a low and a high end, or None where it does not apply.
Methods propose; what decides is `ErrorModel`, which knows the grid that the engine really uses: zero is exact in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.calibration.histogram import Histogram

Floats = NDArray[np.float64]
Errors = Callable[[Floats, Floats], Floats]
"""Lows and highs, float64 [k] each, to the errors of these ranges, float64 [k]."""

# The minimum of x * sigmoid(x), which is -0.27846, as Q-YOLO (arXiv 2307.04816) rounds it.
SILU_LOW = -0.2785

# Thresholds are first looked for in a histogram of no more bins than these, then in the full one.
_COARSE_BINS = 2048
# The search goes down to 1/256 of the extremes in steps of 12 %; then 9 steps of 4 % and of 1 % about the best.
_FACTORS = np.exp2(-np.linspace(0, 8, 49))
_NEAR = (np.exp2(np.linspace(-1 / 6, 1 / 6, 9)), np.exp2(np.linspace(-1 / 24, 1 / 24, 9)))
# Values at a time: 64 thousand float64 fit a core's own cache.
_BLOCK = 1 << 16

# Entropy means nothing where levels are as fine as the bins.
_MOST_GROUPS = 256
_THRESHOLDS = 256
_TOKEN = 1e-4  # as ONNX Runtime's calibrator smooths empty bins


@dataclass(frozen=True)
class Scheme:
    """How a target stores an activation: real = (stored - zero_point) * scale.

    Args:
        name: Such as "uint8".
        lowest, highest: The stored values that are used.
        symmetric: The zero point is 0; else it is the whole number that fits the range best. Zero is exact in both.
    """

    name: str
    lowest: int
    highest: int
    symmetric: bool

    def grid(self, low: ArrayLike, high: ArrayLike) -> tuple[Floats, Floats]:
        """Scale and zero point for ranges, of the shape of `low` and `high`.

        As ONNX Runtime's quantizer has it (``onnxruntime.quantization.quant_utils.compute_scale_zp``): the range is
        widened to hold zero, the scale is a float32, and the zero point is rounded half to even. A range without width
        has scale 1.
        """
        bottom, top = np.minimum(np.asarray(low, np.float64), 0), np.maximum(np.asarray(high, np.float64), 0)
        if self.symmetric:
            top = np.maximum(-bottom, top)
            bottom = -top
        scale = ((top - bottom) / (self.highest - self.lowest)).astype(np.float32).astype(np.float64)
        scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
        zero = np.zeros_like(scale) if self.symmetric else np.rint(self.lowest - bottom / scale)
        return scale, np.clip(zero, self.lowest, self.highest)

    def reach(self, low: float, high: float) -> tuple[float, float]:
        """The least and the greatest value that the grid for a range can hold; 0, 0 where the range has no width.

        A range that is widened to its reach has the same grid.
        """
        if low >= 0 >= high:
            return 0.0, 0.0
        scale, zero = self.grid(low, high)
        return float((self.lowest - zero) * scale), float((self.highest - zero) * scale)


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("uint8", 0, 255, symmetric=False),  # ONNX Runtime on x86, QNN
        Scheme("int8", -128, 127, symmetric=False),  # ONNX Runtime on Arm, LiteRT
        Scheme("int8_symmetric", -127, 127, symmetric=True),  # TensorRT
        Scheme("uint16", 0, 65535, symmetric=False),  # QNN
        Scheme("int16_symmetric", -32767, 32767, symmetric=True),  # LiteRT
    )
}


class ErrorModel:
    """Expected squared error of quantizing a tensor, for any range, out of its histogram.

    Values lie evenly in their bin, cut off at the exact least and greatest value; exact zeros make no error. The error
    of a grid, integrated from 0 to x, has a closed form, so that a range costs one evaluation at each edge between
    bins of different height, with no loop over levels.

    Args:
        histogram: Of the tensor.
        scheme: Of the target.
    """

    def __init__(self, histogram: Histogram, scheme: Scheme) -> None:
        self._scheme = scheme
        edges = np.clip(histogram.edges, histogram.low, histogram.high)
        widths, counts = np.diff(edges), histogram.spread / max(1, histogram.total)
        # Values that all are at the upper end have no width: a point.
        point = counts[widths <= 0].sum()
        density = np.divide(counts, widths, out=np.zeros_like(widths), where=widths > 0)
        falls = -np.diff(density, prepend=0.0, append=0.0)
        self._edges, self._falls = edges[falls != 0], falls[falls != 0]
        self._point = (histogram.high, float(point))

    def __call__(self, low: ArrayLike, high: ArrayLike) -> Floats:
        """Mean squared error for each range, in the tensor's units squared.

        Args:
            low, high: float [k].
        """
        scale, zero = self._scheme.grid(low, high)
        bottom, levels = (self._scheme.lowest - zero) * scale, self._scheme.highest - self._scheme.lowest
        value, weight = self._point
        nearest = bottom + np.clip(np.rint((value - bottom) / scale), 0, levels) * scale
        errors = np.asarray((value - nearest) ** 2 * weight)
        rows = max(1, _BLOCK // max(1, len(self._edges)))
        for start in range(0, len(errors), rows):
            part = slice(start, start + rows)
            integral = _integral(self._edges, bottom[part, None], scale[part, None], levels)
            # Not a BLAS product: its threads cost more than they bring here, and their number shows in the last digit.
            errors[part] += np.einsum("ij,j->i", integral, self._falls)
        return np.maximum(errors, 0.0)


def _integral(at: Floats, bottom: Floats, step: Floats, levels: int) -> Floats:
    """The squared distance to the nearest of bottom + 0..levels * step, integrated up to `at`, but for a constant.

    Each whole cell about a level adds step**3 / 12; outside of the outermost levels the distance goes on growing.
    """
    steps = (at - bottom) / step
    cell = np.floor(steps + 0.5)
    np.clip(cell, 0, levels, out=cell)
    steps -= cell
    inside = steps * steps
    inside *= steps
    inside *= 4
    inside += cell
    return inside * (step**3 / 12)


# --- the methods ---------------------------------------------------------------------------------


def minmax(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
    """All that was seen."""
    del scheme
    return histogram.low, histogram.high


def percentile(percent: float) -> Callable[[Histogram, Scheme], tuple[float, float]]:
    """All but the outermost values: as many are cut at both ends together as `percent` leaves of a hundred."""

    def method(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
        if scheme.symmetric:
            peak = histogram.absolute().quantile(percent / 100)
            return -peak, peak
        tail = (1 - percent / 100) / 2
        return min(0.0, histogram.quantile(tail)), max(0.0, histogram.quantile(1 - tail))

    return method


def entropy(histogram: Histogram, scheme: Scheme) -> tuple[float, float] | None:
    """The threshold whose quantized distribution says most of the true one: least Kullback-Leibler divergence.

    After S. Migacz, 8-bit inference with TensorRT (GTC 2017): the reference has what lies outside put into its last
    bin, the candidate has its bins replaced by the mean over the filled bins of their level. The candidate is constant
    over a level, so that the sum over bins is one over levels, out of cumulated counts: all thresholds in one go.
    """
    one_sided = not scheme.symmetric and (histogram.low >= 0 or histogram.high <= 0)
    groups = (scheme.highest - scheme.lowest + 1) // (1 if one_sided else 2)
    values = _coarse(histogram.absolute())
    counts = values.spread.astype(np.float64)
    bins, total = len(counts), counts.sum()
    if groups > _MOST_GROUPS or bins <= groups or not total:
        return None
    ends = np.unique(np.linspace(groups, bins, min(_THRESHOLDS, bins - groups + 1)).astype(np.int64))
    below = np.concatenate(([0.0], np.cumsum(counts)))
    filled = np.concatenate(([0], np.cumsum(counts > 0)))
    borders = ends[:, None] * np.arange(groups + 1) // groups  # [thresholds, groups + 1]
    mass, places = np.diff(below[borders]), np.diff(filled[borders]).astype(np.float64)
    outside = total - below[ends]
    reference = mass.copy()
    reference[:, -1] += outside
    places[:, -1] += (outside > 0) & (counts[ends - 1] == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where the last level is empty but for what lies outside, the candidate has a token share instead of none: no
        # divergence is infinite, else a single far outlier would rule out every threshold but itself.
        share = np.where(mass > 0, mass / below[ends][:, None], _TOKEN)
        candidate = np.log(share / places)
        cross = np.where(reference > 0, reference * candidate, 0.0).sum(axis=1)
    terms = np.concatenate(([0.0], np.cumsum(_xlogx(counts))))
    own = terms[ends - 1] + _xlogx(counts[ends - 1] + outside)
    divergence = (own - cross) / total - np.log(total)
    threshold = float(ends[np.nanargmin(divergence)]) * values.width
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def silu(histogram: Histogram, scheme: Scheme) -> tuple[float, float] | None:
    """For what a SiLU gives: the low end stays at its minimum, the high end is searched (Q-YOLO, arXiv 2307.04816)."""
    if scheme.symmetric or not SILU_LOW <= histogram.low < 0 or histogram.high <= -SILU_LOW:
        return None
    return _least(histogram, scheme, SILU_LOW, histogram.high, moves_low=False)


def mse(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
    """The range of least expected squared error; never more than that of all that was seen."""
    if scheme.symmetric:
        peak = max(-histogram.low, histogram.high)
        _, high = _least(histogram, scheme, 0.0, peak, moves_low=False)
        return -high, high
    return _least(histogram, scheme, min(0.0, histogram.low), max(0.0, histogram.high))


RangeMethod = Callable[[Histogram, Scheme], "tuple[float, float] | None"]

# The simplest first: of two that are as good, the earlier is taken.
METHODS: Mapping[str, RangeMethod] = {
    "minmax": minmax,
    "p99.999": percentile(99.999),
    "p99.99": percentile(99.99),
    "p99.9": percentile(99.9),
    "silu": silu,
    "entropy": entropy,
    "mse": mse,
}


def _coarse(histogram: Histogram) -> Histogram:
    return histogram.coarser(max(0, (len(histogram.counts) - 1).bit_length() - _COARSE_BINS.bit_length() + 1))


def _xlogx(values: Floats) -> Floats:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)), np.float64)


def _least(
    histogram: Histogram, scheme: Scheme, low: float, high: float, *, moves_low: bool = True
) -> tuple[float, float]:
    rough, exact = ErrorModel(_coarse(histogram), scheme), ErrorModel(histogram, scheme)
    return search(rough, exact, low, high, moves_low=moves_low)


def search(rough: Errors, exact: Errors, low: float, high: float, *, moves_low: bool = True) -> tuple[float, float]:
    """The best range within low..high: both ends together, then one at a time, then ever closer about the best.

    Args:
        rough: Gives the error of ranges quickly.
        exact: Gives it exactly.
        low, high: The widest range.
        moves_low: Whether the low end is searched.
    """
    moves_low = moves_low and low < 0
    moves_high = high > 0
    best = (low, high)

    def improve(error: Errors, lows: Floats, highs: Floats) -> None:
        nonlocal best
        # The best so far comes first, so that it stays unless another is truly better.
        lows = np.concatenate(([best[0]], np.broadcast_to(lows, np.broadcast_shapes(lows.shape, highs.shape))))
        highs = np.concatenate(([best[1]], np.broadcast_to(highs, (len(lows) - 1,))))
        place = int(np.argmin(error(lows, highs)))
        best = float(lows[place]), float(highs[place])

    if moves_low and moves_high:
        improve(rough, low * _FACTORS, high * _FACTORS)
    for error, steps in ((rough, None), (rough, _NEAR[0]), (exact, _NEAR[1])):
        for end in ("high", "low"):
            here_low, here_high = np.array([best[0]]), np.array([best[1]])
            if end == "high" and moves_high:
                highs = high * _FACTORS if steps is None else np.minimum(high, best[1] * steps)
                improve(error, here_low, highs)
            elif end == "low" and moves_low:
                lows = low * _FACTORS if steps is None else np.maximum(low, best[0] * steps)
                improve(error, lows, here_high)
    improve(exact, np.array([low]), np.array([high]))
    return best
