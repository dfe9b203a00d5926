"""Boxes, names and landmarks on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections

# Distinguishable on most photos, BGR: the Okabe-Ito palette (jfly.uni-koeln.de/color), made for all kinds of
# colour vision, without its black.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
    for detection in reversed(list(detections)):
        colour = _COLOURS[detection.class_id % len(_COLOURS)]
        left, top, right, bottom = (round(value) for value in detection.xyxy)
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        for x, y in detection.landmarks or ():
            cv2.circle(image, (round(x), round(y)), line + 1, colour, -1)
        name = class_names[detection.class_id] if detection.class_id < len(class_names) else str(detection.class_id)
        track = f" #{detection.track_id}" if detection.track_id is not None else ""
        _label(image, f"{name}{track} {detection.confidence:.2f}", left, top, colour, scale, line)
    return image


def _label(
    image: NDArray[np.uint8], text: str, left: int, top: int, colour: tuple[int, int, int], scale: float, line: int
) -> None:
    """White or black text, whichever reads better, on a bar above the box, or inside it at the picture's top."""
    # The drawing font has ASCII alone: other letters would show as '??'.
    text = text.encode("ascii", "replace").decode()
    (width, height), base = cv2.getTextSize(text, _FONT, scale, line)
    bar = height + base
    y = top - bar if top >= bar else top
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
