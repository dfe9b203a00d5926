"""How far a probe's detections are from the float model's, photo by photo.

No labels are needed: the float model's own detections are the teacher. Candidates far below the usual threshold count
too, each with the square of what its score lies above the floor: so a small damage shows before the first box is lost,
nothing jumps where a box passes the floor, and hundreds of faint candidates do not outweigh the few sure boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector, Prepared
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint

FLOOR = 0.05  # candidates scored above it count
# Added to a photo's mass, in boxes of score 1: without it one faint false box in an empty photo would count as total
# damage.
_REST = 1.0
# The IoU from which on COCO counts a box at all; from there its credit grows in a line to 1, which is what the mean
# over COCO's thresholds 0.5, 0.55, ... 0.95 gives a box with the teacher's as truth, without the steps.
_LEAST_IOU = 0.5

# COCO's bounds of small and medium, the side of a square in pixels (cocodataset.org, "Detection Evaluation").
_SIDES = (32.0, 96.0)


def damages(teacher: Sequence[Detections], probe: Sequence[Detections], *, floor: float = FLOOR) -> NDArray[np.float64]:
    """Damage of each photo: 0 for the same detections, towards 1 where nothing is left of them.

    A box has the mass m = (score - `floor`)^2. Boxes of one class are paired so that their agreement is largest, a
    pair's being credit(IoU) * min(m, m'). With M and M' the masses of both sides and A the sum over pairs::

        damage = (M + M' - 2 A) / (M + M' + 1)

    A lost box costs its mass, and so does a false one; a score that moves costs the difference; a box that moves costs
    what it loses of its credit, all of it at an IoU of 0.5. This is one minus the Dice coefficient of two weighted
    sets.

    Args:
        teacher: Of the float model, one a photo.
        probe: Of the model that is judged, for the same photos.
        floor: 0..1; boxes scored lower are as if they were not there.

    Returns:
        float64 [photos], each in 0..1.

    Raises:
        UsageError: The two are not as many.
        MissingDependencyError: SciPy is not installed.
    """
    if len(teacher) != len(probe):
        raise UsageError(f"{len(teacher)} photos of the teacher, {len(probe)} of the probe")
    return np.array([_damage(a, b, floor) for a, b in zip(teacher, probe, strict=True)], np.float64)


def _damage(teacher: Detections, probe: Detections, floor: float) -> float:
    mine, theirs = _masses(teacher, floor), _masses(probe, floor)
    total = float(mine.sum() + theirs.sum())
    return max(0.0, total - 2 * _agreement(teacher, probe, mine, theirs)) / (total + _REST)


def _masses(found: Detections, floor: float) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = found.confidence.astype(np.float64)
    return np.square(np.fmax(np.minimum(scores, 1.0) - floor, 0.0))  # fmax makes NaN 0


def _agreement(teacher: Detections, probe: Detections, mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The largest sum that pairing boxes of one class can reach."""
    rows, columns = np.nonzero(_may_pair(teacher, probe))
    ious = paired_iou(teacher.xyxy[rows], probe.xyxy[columns])
    near = np.flatnonzero(ious > _LEAST_IOU)
    rows, columns = rows[near], columns[near]
    gains = (ious[near] - _LEAST_IOU) / (1 - _LEAST_IOU) * np.minimum(mine[rows], theirs[columns])
    # A pair of which neither has another partner needs no assignment, and most are such.
    alone = (np.bincount(rows, minlength=1)[rows] == 1) & (np.bincount(columns, minlength=1)[columns] == 1)
    settled = float(gains[alone].sum())
    if alone.all():
        return settled
    left, row = np.unique(rows[~alone], return_inverse=True)
    right, column = np.unique(columns[~alone], return_inverse=True)
    gain = np.zeros((len(left), len(right)))
    gain[row, column] = gains[~alone]
    chosen = _assignment()(gain, maximize=True)
    return settled + float(gain[chosen].sum())


def _may_pair(teacher: Detections, probe: Detections) -> NDArray[np.bool_]:
    """Whether boxes are of one class and meet, [n, m]; only to leave out most pairs early."""
    left, top, right, bottom = teacher.xyxy.T[:, :, None]
    other_left, other_top, other_right, other_bottom = probe.xyxy.T[:, None, :]
    may: NDArray[np.bool_] = np.asarray(teacher.class_id[:, None] == probe.class_id[None, :])
    may &= (left < other_right) & (other_left < right)
    may &= (top < other_bottom) & (other_top < bottom)
    return may


def paired_iou(mine_xyxy: Array, theirs_xyxy: Array) -> NDArray[np.float64]:
    """Intersection over union of boxes [n, 4] with those of the same row, float64 [n]; 0 where both lack an area."""
    a, b = mine_xyxy.astype(np.float64), theirs_xyxy.astype(np.float64)
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    overlap = sides[:, 0] * sides[:, 1]
    union = _areas(a) + _areas(b) - overlap
    ratios: NDArray[np.float64] = np.zeros(len(a))
    np.divide(overlap, union, out=ratios, where=union > 0)
    return ratios


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)


def noise_to_signal(
    teacher: Sequence[Mapping[str, Array]], probe: Sequence[Mapping[str, Array]]
) -> NDArray[np.float64]:
    """Power of the outputs' error over that of the float outputs, the mean over outputs.

    For models that nothing decodes, and photos in which the teacher finds nothing.

    Args:
        teacher: Outputs by name, one a photo.
        probe: The same of the model that is judged.

    Returns:
        float64 [photos]; infinite where an output is not finite.
    """
    if len(teacher) != len(probe):
        raise UsageError(f"{len(teacher)} photos of the teacher, {len(probe)} of the probe")
    ratios = np.zeros(len(teacher))
    for number, (wanted, given) in enumerate(zip(teacher, probe, strict=True)):
        for name, reference in wanted.items():
            # Not through BLAS, whose threads cost more than so few numbers.
            power, lost = (float(np.square(a).sum(dtype=np.float64)) for a in (reference, given[name] - reference))
            ratio = lost / power if power > 0 else float(lost > 0)
            ratios[number] += (ratio if np.isfinite(ratio) else np.inf) / len(wanted)
    return ratios


def snr_db(ratios: NDArray[np.float64]) -> float:
    """Signal to noise in dB of the mean of `noise_to_signal`; infinite where the outputs are the same."""
    mean = float(np.mean(ratios))
    return float("inf") if mean == 0 else float(-10 * np.log10(mean))


@dataclass(frozen=True)
class Judged:
    """One probe against the teacher.

    Args:
        damages: float64 [photos], of `damages`; the same photos in every probe, so differences may be bootstrapped.
        noise: float64 [photos], of `noise_to_signal`.
    """

    damages: NDArray[np.float64]
    noise: NDArray[np.float64]

    @property
    def damage(self) -> float:
        """The mean over photos."""
        return float(self.damages.mean())

    @property
    def snr_db(self) -> float:
        """Of the outputs."""
        return snr_db(self.noise)


class Judge:
    """Holds probes' outputs against the float model's, read as the user's detector reads them.

    Args:
        detector: Of the float model; it decodes. Its `confidence` is set to `floor` while it does.
        prepared: The photos, each in a `Prepared` of its own.
        outputs: The float model's, one a photo.
        floor: Candidates above it count.

    Raises:
        UsageError: No photos, or not as many outputs.
    """

    def __init__(
        self,
        detector: Detector,
        prepared: Sequence[Prepared],
        outputs: Sequence[Mapping[str, Array]],
        *,
        floor: float = FLOOR,
    ) -> None:
        if not prepared or len(prepared) != len(outputs):
            raise UsageError(f"{len(prepared)} photos and {len(outputs)} outputs: must be as many, and at least one")
        self._detector, self._prepared, self._outputs, self._floor = detector, tuple(prepared), tuple(outputs), floor
        self.teacher = self.read(outputs)

    @property
    def blind(self) -> bool:
        """Whether the teacher finds too little for its detections to judge by: less than one certain box in all."""
        return sum(float(_masses(one, self._floor).sum()) for one in self.teacher) < (1 - self._floor) ** 2

    def read(self, outputs: Sequence[Mapping[str, Array]]) -> list[Detections]:
        """A probe's detections above the floor, one a photo."""
        detector = self._detector
        with detector.lock:
            usual, detector.confidence = detector.confidence, self._floor
            try:
                return [detector.decode(one, place) for one, place in zip(outputs, self._prepared, strict=True)]
            finally:
                detector.confidence = usual

    def __call__(self, outputs: Sequence[Mapping[str, Array]]) -> Judged:
        """Judges a probe's outputs, one a photo."""
        return Judged(
            damages(self.teacher, self.read(outputs), floor=self._floor), noise_to_signal(self._outputs, outputs)
        )


def choose_probe_photos(teacher: Sequence[Detections], count: int = 16, seed: int = 0) -> list[int]:
    """Photos with many and varied detections, as indices in rising order.

    Each photo is chosen for what it adds to the sum of square roots, over classes and three sizes, of the mass found
    so far: a second dog is worth less than the first cat. (Concave over modular: Lin and Bilmes, A Class of Submodular
    Functions for Document Summarization, ACL 2011; the greedy choice is within 1 - 1/e of the best.)

    Args:
        teacher: The float model's detections, one a photo.
        count: How many; all where there are fewer.
        seed: Decides between equals.

    Raises:
        UsageError: `count` is below 1.
    """
    if count < 1:
        raise UsageError(f"count must be 1 or more, not {count}")
    cells: dict[tuple[int, int], int] = {}
    rows: list[list[tuple[int, float]]] = []
    for found in teacher:
        sides = np.sqrt(_areas(found.xyxy.astype(np.float64)))
        places = zip(found.class_id.tolist(), np.searchsorted(_SIDES, sides).tolist(), strict=True)
        numbers = [cells.setdefault(place, len(cells)) for place in places]
        rows.append(list(zip(numbers, _masses(found, FLOOR).tolist(), strict=True)))
    mass = np.zeros((len(teacher), max(1, len(cells))))
    for photo, row in enumerate(rows):
        for cell, value in row:
            mass[photo, cell] += value
    order = np.random.default_rng(seed).permutation(len(teacher))
    held = np.zeros(mass.shape[1])
    left = [int(photo) for photo in order]
    chosen: list[int] = []
    while left and len(chosen) < count:
        gains = np.sqrt(held + mass[left]).sum(axis=1)
        best = left.pop(int(np.argmax(gains)))  # the first of equals, and `order` is the seed's
        held += mass[best]
        chosen.append(best)
    return sorted(chosen)


def _assignment() -> Callable[..., Any]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingDependencyError(f"SciPy is not installed: {extra_hint('calibrate')}") from error
    solve: Callable[..., Any] = linear_sum_assignment
    return solve
