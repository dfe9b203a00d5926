"""What a candidate's drop of mAP is expected to be, from its damage and from what was measured, each as sure as it is.

On few photos the drop itself is mostly noise: a paired drop on 39 photos had a standard deviation of 0.007, and ordered
two masks as 64 other photos do in 55 of 100 cases, where the damage against the float model's own detections (see
`edge_sdk.calibration.score`) did in 70, and the damage on all photos in 71 (25 masks of YOLOX-nano, 150 splits of 128
photos). The damage counts what moves, to whichever side; what is lost is what does not average out, and goes with its
square: drop = k damage^2, with k 0.2 to 0.9 for damages of 0.1 to 0.7 (YOLOX-nano, PicoDet-S 320). So k is estimated
from all candidates together, starting from what those two had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.calibration.outcome import Candidate, Drop

_K, _K_SD = 0.6, 0.35  # of the two models, and how far another may be from them
# Where the float model's own detections are the truth, every box that moves counts against the file: a damage of 0.33
# was a drop of 0.55 (YOLOX-nano, one set of photos).
_K_TAUGHT, _K_TAUGHT_SD = 4.0, 4.0
_CURVE_SD = 0.4  # how far one candidate may be from its model's curve, as a share
_LEAST_K = 0.1
_LEAST_SD = 0.0005  # of a drop; not even a file that is almost float is known better
# Between the errors of two candidates' drops on the same photos (25 masks of YOLOX-nano, 39 photos: 0.40).
_CORRELATION = 0.4


@dataclass(frozen=True)
class Curve:
    """drop = k damage^2.

    Args:
        k: Drop of mAP by squared damage.
        sd: Standard deviation of `k`.
    """

    k: float
    sd: float

    def drop(self, damage: float) -> float:
        """Of mAP, by a damage of 0..1."""
        return self.k * damage * damage

    def sd_of(self, damage: float) -> float:
        """Standard deviation of `drop`."""
        return max(_LEAST_SD, self.drop(damage) * math.hypot(self.sd / self.k, _CURVE_SD))

    def damage(self, drop: float) -> float:
        """The damage that a drop is expected of, for a budget; 0 for a drop below 0."""
        return math.sqrt(max(0.0, drop) / self.k)


def fit_curve(measured: Sequence[Drop] = (), *, taught: bool = False) -> Curve:
    """The curve of a model, from what its candidates were measured to lose on the same photos.

    The usual k with its uncertainty, and each candidate's, weighed by theirs. Candidates err together, as the photos
    are the same, and so count for fewer.

    Args:
        measured: Of candidates; what has no damage says nothing. None: the usual curve.
        taught: The float model's own detections are the truth.
    """
    usual, usual_sd = (_K_TAUGHT, _K_TAUGHT_SD) if taught else (_K, _K_SD)
    told = [one for one in measured if one.damage > 0 and math.isfinite(one.drop)]
    alike = 1 + _CORRELATION * (len(told) - 1)
    weight = 1 / usual_sd**2
    total = usual * weight
    for one in told:
        square = one.damage**2
        sd = math.hypot(standard_error(one), _CURVE_SD * usual * square)
        weight += square**2 / sd**2 / alike
        total += square * one.drop / sd**2 / alike
    return Curve(max(_LEAST_K, total / weight), weight**-0.5)


def standard_error(drop: Drop) -> float:
    """Of the measured drop, from its interval."""
    return max(_LEAST_SD, (drop.high - drop.low) / (2 * 1.96))


@dataclass(frozen=True)
class Expected:
    """What a candidate's drop is expected to be.

    Args:
        drop: Of mAP.
        sd: Its standard deviation.
    """

    drop: float
    sd: float

    @property
    def high(self) -> float:
        """With 97.5 % certainty not above this."""
        return self.drop + 1.96 * self.sd


def expected(candidate: Candidate, curve: Curve | None) -> Expected | None:
    """The measured drop and the one by its damage, weighed by how sure each is.

    Args:
        candidate: The file as it was given, and one with no layer in the low precision, are what the drop is against.
        curve: Of this model; None where the damage has no say, as with a metric of the user's own.

    Returns:
        None where its accuracy was not measured.
    """
    found = candidate.accuracy
    if found is None:
        return None
    if candidate.kind == "float":
        return Expected(0.0, 0.0)
    se = standard_error(found)
    if curve is None:
        return Expected(found.drop, se)
    guess, sd = curve.drop(found.damage), curve.sd_of(found.damage)
    if found.drop - guess > 1.96 * math.hypot(se, sd):  # the photos contradict the curve: it is not believed
        return Expected(found.drop, se)
    weight, other = 1 / sd**2, 1 / se**2
    return Expected((guess * weight + found.drop * other) / (weight + other), (weight + other) ** -0.5)
