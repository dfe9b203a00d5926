"""Zones that say how many objects are in them, and lines that count those which cross them."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint

log = logging.getLogger("edge_sdk")

Point = tuple[float, float]

# Far below any real area, in pixels and in fractions, and above what rounding makes of none.
_NO_AREA = 1e-9
# An object counts as across a line from its second frame there on: feet that jitter on a line are no crowd.
_FRAMES_ACROSS = 2
# Updates for which a line remembers where an object was that is not seen. Ids never come back after a tracker's memory
# has ended, a second or so; this is only to have an end.
_REMEMBERED = 300


@dataclass(frozen=True)
class Zone:
    """An area of the picture.

    Args:
        name: What it is called; unique in its `Counters`.
        polygon: Three or more corners (x, y), in order round the area. In pixels of the source picture, from its top
            left; or, where no value is above 1, in fractions of its width and height, which fit pictures of any size.

    Raises:
        UsageError: The name is empty, or the corners enclose no area, or an outline that touches or crosses itself.
    """

    name: str
    polygon: tuple[Point, ...]

    def __post_init__(self) -> None:
        _check_name("zone", self.name)
        points = _checked(f"zone {self.name!r}", self.polygon)
        if len(points) > 1 and points[0] == points[-1]:  # closed by hand
            points = points[:-1]
        if len(points) < 3:
            raise UsageError(f"zone {self.name!r}: an area needs 3 corners or more, not {len(points)}")
        if all(abs(_turn(points[0], *two)) < _NO_AREA for two in combinations(points[1:], 2)):
            raise UsageError(f"zone {self.name!r}: its corners lie on one line and enclose no area")
        if _touches_itself(points):
            raise UsageError(f"zone {self.name!r}: its outline touches or crosses itself; give the corners in order")
        object.__setattr__(self, "polygon", points)

    @property
    def corners(self) -> tuple[Point, ...]:
        """All its points, as given."""
        return self.polygon

    def pixels(self, image_hw: tuple[int, int]) -> NDArray[np.float64]:
        """The corners in a picture of this size, float64 [n, 2] in pixels."""
        return _pixels(self.polygon, image_hw)


@dataclass(frozen=True)
class Line:
    """A line with two sides. Seen in the picture from its start towards its end, "in" is from right to left.

    A line drawn from left to right is crossed "in" upwards; one drawn from top to bottom, to the right.

    Args:
        name: What it is called; unique in its `Counters`.
        start: (x, y), in pixels or fractions, as a zone's corners.
        end: The other end, in the same unit.

    Raises:
        UsageError: The name is empty, or the line has no length.
    """

    name: str
    start: Point
    end: Point

    def __post_init__(self) -> None:
        _check_name("line", self.name)
        start, end = _checked(f"line {self.name!r}", (self.start, self.end))
        if start == end:
            raise UsageError(f"line {self.name!r}: it starts where it ends")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)

    @property
    def corners(self) -> tuple[Point, ...]:
        """All its points, as given."""
        return (self.start, self.end)

    def pixels(self, image_hw: tuple[int, int]) -> NDArray[np.float64]:
        """Start and end in a picture of this size, float64 [2, 2] in pixels."""
        return _pixels(self.corners, image_hw)


def parse_zone(text: str) -> Zone:
    """A zone as it is written on a command line: ``queue=100,200 400,200 400,600 100,600``.

    Raises:
        UsageError: It is written otherwise, or is no zone.
    """
    name, points = _parse("zone", text, "queue=100,200 400,200 400,600 100,600")
    return Zone(name, points)


def parse_line(text: str) -> Line:
    """A line as it is written on a command line: ``door=0.5,0 0.5,1``.

    Raises:
        UsageError: It is written otherwise, or is no line.
    """
    name, points = _parse("line", text, "door=0.5,0 0.5,1")
    if len(points) != 2:
        raise UsageError(f"line {name!r}: it has a start and an end, not {len(points)} points")
    return Line(name, *points)


class Counters:
    """Counts the objects in zones and across lines. One thread at a time, frames in their order.

    An object is where it stands: the middle of its box's lower edge, for zones and lines alike. A zone counts what is
    in it now. A line counts since the beginning, and needs ids: an object that was on one side and is found on the
    other in two frames has crossed. Only where the object is beside the line, between its ends, is looked at.

    Args:
        zones: Any number.
        lines: Any number.
        classes: Ids of the classes that are counted; None counts all.

    Attributes:
        zones, lines: As given.
        counts: The latest, by name: ``{"queue": 2, "door in": 3, "door out": 1}``.

    Raises:
        UsageError: Two of the counts would have one name.
        MissingDependencyError: supervision is not installed.
    """

    def __init__(
        self, zones: Sequence[Zone] = (), lines: Sequence[Line] = (), *, classes: Collection[int] | None = None
    ) -> None:
        self.zones = tuple(zones)
        self.lines = tuple(lines)
        self._classes = None if classes is None else sorted(classes)
        names = [zone.name for zone in self.zones]
        names += [f"{line.name} {way}" for line in self.lines for way in ("in", "out")]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two zones or lines would count as {name!r}; give each a name of its own")
        self._totals = dict.fromkeys(names, 0)
        self._supervision = _supervision()
        self._image_hw: tuple[int, int] | None = None
        self._areas: list[Any] = []
        self._gates: list[Any] = []
        self._unseen: dict[int, int] = {}  # updates since an object was seen, by id

    @property
    def counts(self) -> Mapping[str, int]:
        return MappingProxyType(dict(self._totals))

    def update(self, detections: Detections, image_hw: tuple[int, int]) -> Mapping[str, int]:
        """Counts the objects of the next frame.

        Args:
            detections: In pixels of the picture; for lines with ids from a `Tracker`.
            image_hw: The picture's height and width. When it changes, fractions go with it and pixels stay; counts
                go on.

        Returns:
            How many are in each zone, and how many have crossed each line in either direction so far.

        Raises:
            UsageError: There are lines and no ids; or a zone or line is not within the first picture.
        """
        if self.lines and detections.track_id is None:
            raise UsageError(f"line {self.lines[0].name!r}: lines need tracking, and these detections have no ids")
        if image_hw != self._image_hw:
            self._place(image_hw)
        if self._classes is not None:
            detections = detections[np.isin(detections.class_id, self._classes)]
        feet = _feet(detections, image_hw)
        standing = self._points(feet)
        for zone, area in zip(self.zones, self._areas, strict=True):
            self._totals[zone.name] = int(area.trigger(standing).sum())
        if self.lines and detections.track_id is not None:
            known = detections.track_id >= 0
            self._cross(feet[known], detections.track_id[known])
        return self.counts

    def _cross(self, feet: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        self._unseen = {key: updates + 1 for key, updates in self._unseen.items() if updates < _REMEMBERED}
        self._unseen.update(dict.fromkeys(ids.tolist(), 0))
        absent = [key for key, updates in self._unseen.items() if updates > 0]
        everybody = np.concatenate([ids, np.array(absent, np.int64)])
        for line, gate in zip(self.lines, self._gates, strict=True):
            # A line zone forgets who is missing in a few frames, as detectors cause all the time, and then misses the
            # crossing. Who is out of sight is put beyond the line's end, where the zone remembers and does not look.
            start, end = gate.vector.start, gate.vector.end
            beyond = np.array([2 * end.x - start.x, 2 * end.y - start.y], np.float32)
            points = np.vstack([feet, np.broadcast_to(beyond, (len(absent), 2))])
            entered, left = gate.trigger(self._points(points, everybody))
            self._totals[f"{line.name} in"] += int(entered.sum())
            self._totals[f"{line.name} out"] += int(left.sum())

    def _points(self, xy: NDArray[np.float32], ids: NDArray[np.int64] | None = None) -> Any:
        """Boxes without extent, so that every anchor is the point."""
        return self._supervision.Detections(xyxy=np.hstack([xy, xy]), tracker_id=ids)

    def _place(self, image_hw: tuple[int, int]) -> None:
        """Puts zones and lines into a picture of this size."""
        height, width = image_hw
        shapes: list[Zone | Line] = [*self.zones, *self.lines]
        for shape in shapes:
            kind = type(shape).__name__.lower()
            points = shape.pixels(image_hw)
            beyond = points[(points > (width, height)).any(axis=1)]
            if self._image_hw is None and len(beyond):
                raise UsageError(
                    f"{kind} {shape.name!r}: {beyond[0][0]:g},{beyond[0][1]:g} is outside the picture, which is "
                    f"{width}x{height} pixels"
                )
            if self._image_hw is not None and not _in_fractions(shape.corners):
                log.warning(
                    "the picture is %dx%d now; %s %r is given in pixels and stays where it was: fractions would adapt",
                    width, height, kind, shape.name,
                )  # fmt: skip
        sv, anchors = self._supervision, (self._supervision.Position.CENTER,)
        self._areas = [
            sv.PolygonZone(np.rint(zone.pixels(image_hw)).astype(int), triggering_anchors=anchors)
            for zone in self.zones
        ]
        self._gates = [
            sv.LineZone(*(sv.Point(float(x), float(y)) for x, y in line.pixels(image_hw)), anchors, _FRAMES_ACROSS)
            for line in self.lines
        ]
        self._image_hw = image_hw


def _feet(detections: Detections, image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The middle of each box's lower edge, float32 [n, 2].

    It is kept to the picture's pixels: the feet of a box that ends with the picture, as of somebody too near to be
    seen whole, would lie outside a zone that ends with it too.
    """
    boxes = detections.xyxy
    feet = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
    last = np.array([image_hw[1] - 1, image_hw[0] - 1], np.float32)
    within: NDArray[np.float32] = np.clip(feet, 0, last)
    return within


def _check_name(kind: str, name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise UsageError(f"a {kind} needs a name to be counted under, in letters that can be shown; not {name!r}")


def _checked(what: str, points: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    """The points as numbers that can mean something."""
    try:
        checked = tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: points are pairs of numbers x, y; not {points!r}") from error
    values = [value for point in checked for value in point]
    for value in values:
        if not 0 <= value < math.inf:
            raise UsageError(f"{what}: {value:g} is outside every picture; pixels and fractions count from 0")
    if not _in_fractions(checked) and any(0 < value < 1 for value in values):
        raise UsageError(f"{what}: it mixes fractions, which end at 1, with pixels; give all in one of the two")
    return checked


def _in_fractions(points: Sequence[Point]) -> bool:
    return all(value <= 1 for point in points for value in point)


def _pixels(points: Sequence[Point], image_hw: tuple[int, int]) -> NDArray[np.float64]:
    scale = (image_hw[1], image_hw[0]) if _in_fractions(points) else (1, 1)
    return np.array(points, np.float64) * scale


def _parse(kind: str, text: str, example: str) -> tuple[str, tuple[Point, ...]]:
    name, equals, rest = text.partition("=")
    if not equals:
        raise UsageError(f"{kind} {text!r}: it has no name; write it as {example!r}")
    points = []
    for word in rest.split():
        x, _, y = word.partition(",")
        try:
            points.append((float(x), float(y)))
        except ValueError:
            raise UsageError(f"{kind} {text!r}: {word!r} is no point x,y; write it as {example!r}") from None
    return name.strip(), tuple(points)


def _turn(a: Point, b: Point, c: Point) -> float:
    """Twice the area of the triangle, its sign the way round: 0 where the three lie on one line."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the stretches a to b and c to d have a point in common."""
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(
        _turn(p, q, r) == 0
        and min(p[0], q[0]) <= r[0] <= max(p[0], q[0])
        and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])
        for p, q, r in ends
    )


def _touches_itself(corners: Sequence[Point]) -> bool:
    """Whether two sides meet that are no neighbours, or a side runs back along the one before it."""
    n = len(corners)
    sides = [(corners[i], corners[(i + 1) % n]) for i in range(n)]
    apart = [(i, j) for i, j in combinations(range(n), 2) if j - i not in (1, n - 1)]
    if any(_meet(*sides[i], *sides[j]) for i, j in apart):
        return True
    return any(
        _turn(a, b, c) == 0 and (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) <= 0
        for (a, b), (_, c) in zip(sides, sides[1:] + sides[:1], strict=True)
    )


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise MissingDependencyError(f"zones and lines need supervision: {extra_hint('tracking')}") from error
    return supervision
