"""Fewer points of a long trace, for drawing, with its peaks kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 2000
"""What one line of a plot has: a screen has not many more columns."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a trace.

    Args:
        x: Rising.
        y: None where the trace has no value.
        every: Width in x of the buckets of which the lowest and the highest value are drawn; None: all is drawn.
        points: How many the trace has.
    """

    x: tuple[float, ...]
    y: tuple[float | None, ...]
    every: float | None
    points: int


def decimate(x: Sequence[float], y: Sequence[float | None], most: int = MOST_POINTS) -> Drawn:
    """The lowest and the highest value of each of so many buckets that about `most` points remain.

    Buckets have equal numbers of points. One that lacks a value somewhere draws a gap there, so that no line leads over
    it. First and last point are always drawn.

    Args:
        x: Rising.
        y: As many.
        most: At least 4.
    """
    points = len(x)
    if points <= most:
        return Drawn(tuple(x), tuple(y), None, points)
    times = np.asarray(x, np.float64)
    values = np.array([np.nan if one is None else one for one in y], np.float64)
    size = -(-points // (most // 2))
    buckets = -(-points // size)
    padded = np.full(buckets * size, np.nan)
    padded[:points] = values
    rows = padded.reshape(buckets, size)
    none = np.isnan(rows)
    start = np.arange(buckets) * size
    lowest = start + np.where(none, np.inf, rows).argmin(axis=1)
    highest = start + np.where(none, -np.inf, rows).argmax(axis=1)
    gaps = start + none.argmax(axis=1)
    kept: NDArray[np.int64] = np.unique(
        np.concatenate(([0, points - 1], lowest[~none.all(axis=1)], highest[~none.all(axis=1)], gaps[none.any(axis=1)]))
    )
    kept = kept[kept < points]  # the padding of the last bucket is no gap
    return Drawn(
        tuple(times[kept].tolist()),
        tuple(None if np.isnan(one) else one for one in values[kept].tolist()),
        float((times[-1] - times[0]) / (points - 1) * size),
        points,
    )
