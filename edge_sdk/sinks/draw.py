"""Boxes, names, landmarks, zones and lines on a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections
from edge_sdk.models.labels import name_of
from edge_sdk.zones import Line, Zone

# Distinguishable on most photos, BGR: the Okabe-Ito palette (jfly.uni-koeln.de/color), made for all kinds of
# colour vision, without its black.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters that are no letter with an accent, as plain ones.
_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
_LONGEST_NAME = 60  # letters; names come with the model, from anywhere
_ZONE_COLOUR, _LINE_COLOUR = _COLOURS[6], _COLOURS[3]
_ZONE_FILL = 0.2  # the part that its colour takes in a zone
_FARTHEST = 32767  # pixels


def draw(image: NDArray[np.uint8], detections: Detections, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Draws in place.

    Args:
        image: uint8 [h, w, 3] BGR.
        detections: In pixels of `image`.
        class_names: Names by class id.

    Returns:
        `image` itself.
    """
    line, scale = _sizes(image)
    # The best box is drawn last, over the others.
    last = (image.shape[1] - 1, image.shape[0] - 1)
    for detection in reversed(list(detections)):
        colour = _COLOURS[detection.class_id % len(_COLOURS)]
        left, top, right, bottom = (
            _pixel(value, limit) for value, limit in zip(detection.xyxy, (*last, *last), strict=True)
        )
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        for x, y in detection.landmarks or ():
            if 0 <= x <= last[0] and 0 <= y <= last[1]:
                cv2.circle(image, (round(x), round(y)), line + 1, colour, -1)
        name = _drawable(name_of(class_names, detection.class_id) or "", f"class {detection.class_id}")
        tracked = detection.track_id is not None and detection.track_id >= 0  # -1 is no track yet
        track = f" #{detection.track_id}" if tracked else ""
        _label(image, f"{name}{track} {detection.confidence:.2f}", left, top, colour, scale, line)
    return image


def draw_counters(
    image: NDArray[np.uint8], zones: Sequence[Zone], lines: Sequence[Line], counts: Mapping[str, int]
) -> NDArray[np.uint8]:
    """Draws zones and lines with their counts, in place; an arrow across a line shows which way is "in".

    Args:
        image: uint8 [h, w, 3] BGR.
        zones: Of the `Counters` that counted.
        lines: Of the same.
        counts: As in `Result.counts`; what is missing there is drawn without a count.

    Returns:
        `image` itself.
    """
    thickness, scale = _sizes(image)
    image_hw = (image.shape[0], image.shape[1])
    for zone in zones:
        corners = _whole(zone.pixels(image_hw))
        _tint(image, corners)
        cv2.polylines(image, [corners], True, _ZONE_COLOUR, thickness)
    for line in lines:
        start, end = line.pixels(image_hw)
        along = (end - start) / np.linalg.norm(end - start)
        inward = np.array([along[1], -along[0]])  # to the left of start to end, where y points down
        middle = (start + end) / 2
        ends = _whole(np.stack([start, end, middle, middle + inward * max(image.shape[:2]) / 20])).tolist()
        cv2.line(image, ends[0], ends[1], _LINE_COLOUR, 2 * thickness)
        cv2.arrowedLine(image, ends[2], ends[3], _LINE_COLOUR, 2 * thickness, tipLength=0.4)
    # Labels last, over everything.
    for index, zone in enumerate(zones):
        left, top = min(_whole(zone.pixels(image_hw)).tolist(), key=lambda corner: corner[1])
        text = _drawable(zone.name, f"zone {index + 1}") + _count(counts, zone.name)
        _label(image, text, left, top, _ZONE_COLOUR, scale, thickness)
    for index, line in enumerate(lines):
        left, top = _whole(line.pixels(image_hw))[0].tolist()
        ways = "".join(_count(counts, f"{line.name} {way}", f"{way} ") for way in ("in", "out"))
        _label(image, _drawable(line.name, f"line {index + 1}") + ways, left, top, _LINE_COLOUR, scale, thickness)
    return image


def _tint(image: NDArray[np.uint8], corners: NDArray[np.int32]) -> None:
    """Mixes the zones' colour into a polygon."""
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0) + 1
    part = image[top:bottom, left:right]
    if part.size:
        filled = cv2.fillPoly(part.copy(), [corners], _ZONE_COLOUR, offset=(-int(left), -int(top)))
        part[:] = cv2.addWeighted(filled, _ZONE_FILL, part, 1 - _ZONE_FILL, 0)


def _count(counts: Mapping[str, int], name: str, way: str = "") -> str:
    return f" {way}{counts[name]}" if name in counts else ""


def _sizes(image: NDArray[np.uint8]) -> tuple[int, float]:
    """Thickness of lines in pixels, and the scale of letters, that suit a picture."""
    size = max(image.shape[:2])
    return max(1, round(size / 500)), max(0.35, size / 1800)


def _whole(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Points as OpenCV draws them, int32 [n, 2]; those far outside come nearer, within its range."""
    near: NDArray[np.int32] = np.rint(np.clip(points, 0, _FARTHEST)).astype(np.int32)
    return near


def _pixel(value: float, last: int) -> int:
    """The nearest pixel of the picture; what is no number is 0."""
    return round(min(max(0.0, value), float(last)))


def _drawable(name: str, otherwise: str) -> str:
    """A name in the drawing font, which has ASCII alone: accents are dropped; other scripts are replaced."""
    plain = unicodedata.normalize("NFKD", name.translate(_PLAIN)).encode("ascii", "ignore").decode()
    shown = "".join(letter for letter in plain if letter.isprintable())[:_LONGEST_NAME].strip()
    return shown if any(letter.isalnum() for letter in shown) else otherwise


def _label(
    image: NDArray[np.uint8], text: str, left: int, top: int, colour: tuple[int, int, int], scale: float, line: int
) -> None:
    """White or black text, whichever reads better, on a bar above the box, or inside it at the picture's top."""
    (width, height), base = cv2.getTextSize(text, _FONT, scale, line)
    bar = height + base
    y = top - bar if top >= bar else max(0, min(top, image.shape[0] - bar))
    x = max(0, min(left, image.shape[1] - width))
    cv2.rectangle(image, (x, y), (x + width, y + bar), colour, -1)
    blue, green, red = colour
    bright = 0.114 * blue + 0.587 * green + 0.299 * red > 140  # ITU-R BT.601 luma
    cv2.putText(
        image,
        text,
        (x, y + height + base // 2),
        _FONT,
        scale,
        (0, 0, 0) if bright else (255, 255, 255),
        line,
        cv2.LINE_AA,
    )
