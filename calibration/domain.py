"""What a set of pictures holds, and what so few or such pictures do not allow, in figures and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sdk.backends.base import count_of
from edge_sdk.calibration.diversity import traits
from edge_sdk.calibration.photos import LeftOut, Look
from edge_sdk.calibration.split import Side
from edge_sdk.datasets import Dataset
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.labels import name_of

FEW = 64  # acceptance photos below which the report says what cannot be decided; also what calibration wants
_HARDLY_ANY = 8  # acceptance photos below which nothing is decided
_UNSURE = 0.35  # median of the best confidence below which the model is said to be unsure


@dataclass(frozen=True)
class Spread:
    """Least, median and most of a figure."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value at least; rounded to two decimals."""
        low, middle, high = np.percentile(values, [0, 50, 100])
        return cls(round(float(low), 2), round(float(middle), 2), round(float(high), 2))


@dataclass(frozen=True)
class Domain:
    """What the chosen pictures hold.

    Args:
        pictures: On all three sides.
        width_px, height_px: Of the pictures.
        brightness: Mean of luma, 0..255.
        contrast: Standard deviation of luma, 0..255.
        detections: By the float model at its usual confidence.
        per_class: Of these, by class name, the most frequent first.
        without_detection: Pictures in which it finds nothing.
        best_confidence: The best detection's, over the pictures that have one; None where none has.
        labelled: Labelled objects by class name, the most frequent first; None where there are no labels.
    """

    pictures: int
    width_px: Spread
    height_px: Spread
    brightness: Spread
    contrast: Spread
    detections: int
    per_class: Mapping[str, int]
    without_detection: int
    best_confidence: Spread | None
    labelled: Mapping[str, int] | None


@dataclass(frozen=True)
class Chosen:
    """A chosen picture, the side that it is on, and why."""

    name: str
    index: int | None
    side: Side
    group: int
    reason: str


@dataclass(frozen=True)
class SetReport:
    """What became of a source's pictures.

    Args:
        source: What was named.
        layout: "photos", "video", "photos and video", "COCO", "YOLO" or "VOC".
        found: Photos and frames that the source holds.
        looked_at: Of these, those that were decoded and described; of many, an even sample.
        usable: Of these, those that differ and can be read.
        groups: Scenes and clips among the usable ones, each on one side.
        labels: Where accuracy comes from: "labels" or "teacher".
        chosen: By side, in the order of their choice.
        left_out: What takes no part, and why.
        domain: What the chosen ones hold.
        warnings: What this set does not allow, in sentences.
        digest: Of the set; see `CalibrationSet.digest`.
    """

    source: str
    layout: str
    found: int
    looked_at: int
    usable: int
    groups: int
    labels: str
    chosen: tuple[Chosen, ...]
    left_out: tuple[LeftOut, ...]
    domain: Domain
    warnings: tuple[str, ...]
    digest: str

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people, a sentence a line; the single photos are in `chosen` and `left_out`."""
        sides = Counter(one.side for one in self.chosen)
        out = Counter[str]()
        for one in self.left_out:
            out[one.cause] += one.count
        holds = ", ".join(f"{name} {many}" for name, many in list(self.domain.per_class.items())[:5])
        scenes = count_of(self.groups, "group")
        what = f"{self.source} ({self.layout})"
        lines = [
            f"{what}: {self.found} found, {self.looked_at} looked at, {self.usable} usable, {scenes}",
            f"calibration {sides['calibration']}, search {sides['search']}, acceptance {sides['acceptance']}; scored "
            + ("by the labels" if self.labels == "labels" else "against the float model's own detections"),
            f"the float model finds {count_of(self.domain.detections, 'object')}"
            + (f": {holds}" if holds else "")
            + f"; nothing in {self.domain.without_detection} of {self.domain.pictures}",
        ]
        if out:
            lines.append("left out: " + ", ".join(f"{many} {cause}" for cause, many in sorted(out.items())))
        return lines + [f"warning: {warning}" for warning in self.warnings]


def describe(
    looks: Sequence[Look], found: Sequence[Detections], classes: Sequence[str], labels: Dataset | None
) -> Domain:
    """The figures of the chosen pictures.

    Args:
        looks: At least one.
        found: The float model's detections in each.
        classes: Names by class id.
        labels: Of the same pictures.
    """
    own = np.array([traits(look) for look in looks])
    best = [float(one.confidence.max()) for one in found if len(one)]
    counts = Counter(name_of(classes, class_id) or str(class_id) for one in found for class_id in one.class_id.tolist())
    objects = None
    if labels is not None:
        objects = Counter(labels.classes[label] for photo in labels.photos for label in photo.class_id.tolist())
    return Domain(
        pictures=len(looks),
        width_px=Spread.of([look.hw[1] for look in looks]),
        height_px=Spread.of([look.hw[0] for look in looks]),
        brightness=Spread.of(own[:, 0].tolist()),
        contrast=Spread.of(own[:, 1].tolist()),
        detections=sum(counts.values()),
        per_class=_most_first(counts),
        without_detection=len(found) - len(best),
        best_confidence=Spread.of(best) if best else None,
        labelled=None if objects is None else _most_first(objects),
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def warnings_of(
    domain: Domain,
    card: ModelCard,
    *,
    calibration: int,
    acceptance: int,
    usable: int,
    groups: int,
    largest: int,
    broken: int,
    cut: bool,
) -> list[str]:
    """What these pictures do not allow.

    Args:
        domain: The chosen pictures.
        card: Of the model.
        calibration: Pictures that ranges come from.
        acceptance: Pictures that decide.
        usable: Pictures that there were to choose from.
        groups: Scenes and clips among them, before any was cut.
        largest: Pictures of the largest.
        broken: Photos that could not be read.
        cut: Whether a scene or clip lies on several sides, in stretches.
    """
    warnings = []
    if calibration < FEW:
        warnings.append(
            f"ranges come from {count_of(calibration, 'picture')}: what those do not show is clipped. {FEW} varied "
            "ones for calibration, and as many again to search and accept with, are a good set"
        )
    if acceptance < _HARDLY_ANY:
        warnings.append(
            f"the result is accepted on {count_of(acceptance, 'picture')}: that shows that the model still finds what "
            "it found there, and tells no drop from chance"
        )
    elif acceptance < FEW:
        # Measured on COCO photos with YOLOX-nano: .0077 at 32, .0064 at 64, .0050 at 146.
        warnings.append(
            f"the result is accepted on {acceptance} pictures: that decides about large drops only. On COCO photos the "
            "paired difference of two mAPs has a standard deviation of .008 at 32 pictures and .005 at 146"
        )
    if cut:
        warnings.append(
            f"all pictures are of {count_of(groups, 'scene or clip' if groups == 1 else 'scene')}, too few to give "
            "each side its own: calibration, search and acceptance are stretches of the same, so the accuracy says "
            "nothing about other places. Add photos or clips of others"
        )
    elif largest * 2 > usable:
        warnings.append(
            f"{largest} of {usable} pictures are of one scene or clip, which stays on one side: that is why the sides "
            "are so unequal. Name it alone, or add photos or clips of others"
        )
    if domain.without_detection * 2 > domain.pictures:
        warnings.append(
            f"the float model finds nothing in {domain.without_detection} of {domain.pictures} pictures: either they "
            "hold none of its classes, or they look unlike what it was trained on, or its card is wrong. On such "
            "pictures its accuracy cannot be judged"
        )
    elif domain.best_confidence is not None and domain.best_confidence.median < _UNSURE:
        warnings.append(
            f"the float model is unsure: its best detection of a picture has a confidence of "
            f"{domain.best_confidence.median:.2f} in the median. These pictures may look unlike what it was trained on"
        )
    if domain.width_px.median * 2 < card.input_hw[1] and domain.height_px.median * 2 < card.input_hw[0]:
        warnings.append(
            f"the pictures are small: {domain.width_px.median:.0f}x{domain.height_px.median:.0f} pixels in the median, "
            f"enlarged to {card.input_hw[1]}x{card.input_hw[0]}. Use them as the camera gives them"
        )
    if broken:
        warnings.append(f"{count_of(broken, 'photo')} could not be read and took no part")
    return warnings
