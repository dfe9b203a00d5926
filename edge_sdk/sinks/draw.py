"""Boxes, names and landmarks on a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections
from edge_sdk.models.labels import name_of

# Distinguishable on most photos, BGR: the Okabe-Ito palette (jfly.uni-koeln.de/color), made for all kinds of
# colour vision, without its black.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters that are no letter with an accent, as plain ones.
_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
_LONGEST_NAME = 60  # letters; names come with the model, from anywhere


def draw(image: NDArray[np.uint8], detections: Detections, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Draws in place.

    Args:
        image: uint8 [h, w, 3] BGR.
        detections: In pixels of `image`.
        class_names: Names by class id.

    Returns:
        `image` itself.
    """
    size = max(image.shape[:2])
    line = max(1, round(size / 500))
    scale = max(0.35, size / 1800)
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
        name = _drawable(class_names, detection.class_id)
        track = f" #{detection.track_id}" if detection.track_id is not None else ""
        _label(image, f"{name}{track} {detection.confidence:.2f}", left, top, colour, scale, line)
    return image


def _pixel(value: float, last: int) -> int:
    """The nearest pixel of the picture; what is no number is 0."""
    return round(min(max(0.0, value), float(last)))


def _drawable(class_names: Sequence[str], class_id: int) -> str:
    """A class's name in the drawing font, which has ASCII alone: accents are dropped; other scripts become the id."""
    name = name_of(class_names, class_id) or ""
    plain = unicodedata.normalize("NFKD", name.translate(_PLAIN)).encode("ascii", "ignore").decode()
    shown = "".join(letter for letter in plain if letter.isprintable())[:_LONGEST_NAME].strip()
    return shown if any(letter.isalnum() for letter in shown) else f"class {class_id}"


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
