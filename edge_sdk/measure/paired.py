"""Two models on the same labelled photos: what one loses against the other, with an interval.

A photo that is hard for one model is hard for the other, so their difference is known better than either figure: both
are resampled with the same draws of photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import UsageError
from edge_sdk.measure.accuracy import Matched, draws, resampled

RESAMPLES = 1000
# The bootstrap's standard error of a drop of mAP is too small by this factor: drops on two halves of 39 photos each
# lay apart by 1.15 of it (4 masks of YOLOX-nano, 40 splits of 128 photos; 91 % coverage without the factor, and 99 %
# with the jackknife's standard error, whose intervals are half as wide again).
_SHORT = 1.15


@dataclass(frozen=True, eq=False)
class Paired:
    """One figure of a model beside a reference's.

    Args:
        value: The model's, on all photos.
        drop: The reference's less this one; above 0 is worse.
        low, high: 95 % interval of `drop`.
        photos: How many.
        draws: float64 [resamples], the drop in each resample; the same draws for every model of one seed and as many
            photos, so drops may be compared draw by draw. Empty where there was nothing to resample.
    """

    value: float
    drop: float
    low: float
    high: float
    photos: int
    draws: NDArray[np.float64]


def paired(reference: Matched, model: Matched, *, seed: int = 0, resamples: int = RESAMPLES) -> Paired:
    """What a model's mAP50-95 loses against a reference's, both matched on the same photos.

    The interval is the drop and 1.96 standard errors either way, as in `edge_sdk.measure.accuracy`, and for its reason;
    the bootstrap's standard error is widened by what it was found to lack.

    Args:
        reference: Usually the float model.
        model: The other.
        seed: Of the resamples.
        resamples: How many.

    Raises:
        UsageError: They were matched on other photos or classes.
    """
    if reference.photos != model.photos or reference.classes != model.classes:
        raise UsageError("two models can only be compared on the same photos and classes")
    count = len(model.photos)
    weights = draws(count, resamples, seed)
    drops = resampled(reference, weights) - resampled(model, weights)
    value = model.map()
    return _paired(value, reference.map() - value, drops, count, _SHORT)


def paired_values(
    reference: Sequence[float], model: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """What a mean over photos loses: for metrics that give a value a photo, higher being better.

    Args:
        reference: A value a photo, of the float model.
        model: Of the other, for the same photos.
        seed: Of the resamples.
        resamples: How many.

    Raises:
        UsageError: Not as many values, or none.
    """
    lost = np.asarray(reference, np.float64) - np.asarray(model, np.float64)
    if not lost.size or len(reference) != len(model):
        raise UsageError(f"{len(reference)} values of the reference and {len(model)} of the model")
    drops = draws(lost.size, resamples, seed) @ lost / lost.size
    factor = float(np.sqrt(lost.size / max(1, lost.size - 1)))  # of a mean, whose bootstrap lacks just this
    return _paired(float(np.mean(model)), float(lost.mean()), drops, lost.size, factor)


def _paired(value: float, drop: float, drops: NDArray[np.float64], count: int, factor: float) -> Paired:
    if count < 2:
        return Paired(value, drop, -1.0, 1.0, count, drops)  # one photo says nothing of others
    spread = 1.96 * factor * float(np.std(drops))
    return Paired(value, drop, drop - spread, drop + spread, count, drops)
