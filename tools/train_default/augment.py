"""What a photo may look like to a cheap camera: mosaic, scale, flip, colour, low light, blur, noise.

Every random choice comes from the generator that is handed in, so a step of the training is the same after a kill.
Boxes stay float32 xyxy in pixels of the picture that is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from photos import Photo

GREY = 114
CELL = 8
"""Pixels a side of a cell of the weights: the finest stride of the detector."""
_LEAST_VISIBLE = 0.3
_LEAST_SIDE = 3.0

Picture = NDArray[np.uint8]
Generator = np.random.Generator
Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Draw = Callable[[], tuple[Photo, Picture]]
"""Gives the next photo and its pixels."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture to train on.

    Args:
        picture: uint8 [h, w, 3], BGR.
        boxes, labels: float32 [n, 4] and int64 [n].
        weights: float32 [h / CELL, w / CELL, classes]: how far a missing box means absence, 0 in ignored regions.
    """

    picture: Picture
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


class Canvas:
    """A picture under construction."""

    def __init__(self, height: int, width: int, classes: int) -> None:
        self.picture = np.full((height, width, 3), GREY, np.uint8)
        # Grey margins hold nothing, and everybody knows.
        self.weights = np.ones((height // CELL, width // CELL, classes), np.float32)
        self.boxes: list[NDArray[np.float32]] = []
        self.labels: list[NDArray[np.int64]] = []

    def paste(self, photo: Photo, pixels: Picture, scale: float, at: tuple[float, float], window: Window) -> None:
        """Puts a photo in, scaled, its top-left corner `at` (x, y), cut to `window`."""
        left, top, right, bottom = window
        size_of = pixels.shape[1::-1]
        # The middle of a pixel is at a half: without this the picture would lie half a pixel's growth beside its boxes.
        half = (scale - 1) / 2
        shift = np.array([[scale, 0, at[0] - left + half], [0, scale, at[1] - top + half]])
        # Area averages where the photo shrinks, as a camera's own scaler does; else small things alias.
        if scale < 0.7:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            shift[0, 0] = shift[1, 1] = 1.0
            shift[:, 2] -= half
        size = (right - left, bottom - top)
        self.picture[top:bottom, left:right] = cv2.warpAffine(
            pixels, shift, size, flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY)
        )
        offset = np.array([*at, *at], np.float32)
        covered = _clipped(np.array([[0, 0, *size_of]], np.float32) * scale + offset, window)[0]
        self.weights[_cells(_rounded(covered))] = photo.known
        for box, label in zip(photo.ignored * scale + offset, photo.ignored_labels, strict=True):
            inside = _clipped(box[None], window)[0]
            if inside[2] > inside[0] and inside[3] > inside[1]:
                self.weights[(*_cells(_rounded(inside)), label)] = 0.0
        moved = photo.boxes * scale + offset
        inside = _clipped(moved, window)
        sides = inside[:, 2:] - inside[:, :2]
        visible = sides.clip(0).prod(axis=1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(axis=1), 1e-6)
        present = (sides > 0).all(axis=1)
        kept = present & (visible > _LEAST_VISIBLE) & (sides.min(axis=1) >= _LEAST_SIDE)
        for box, label in zip(inside[present & ~kept], photo.labels[present & ~kept], strict=True):
            self.weights[(*_cells(_rounded(box)), label)] = 0.0  # a sliver: neither there nor absent
        self.boxes.append(inside[kept])
        self.labels.append(photo.labels[kept])

    def sample(self) -> Sample:
        return Sample(self.picture, np.concatenate(self.boxes), np.concatenate(self.labels), self.weights)


def one(canvas: Canvas, draw: Draw, random: Generator, least: float = 0.6, most: float = 1.8) -> None:
    """One photo, at `least` to `most` times the size at which it fits, anywhere."""
    photo, pixels = draw()
    height, width = canvas.picture.shape[:2]
    scale = _fitting(pixels, height, width) * float(np.exp(random.uniform(np.log(least), np.log(most))))
    free = width - pixels.shape[1] * scale, height - pixels.shape[0] * scale
    canvas.paste(photo, pixels, scale, (free[0] * random.random(), free[1] * random.random()), (0, 0, width, height))


def mosaic(canvas: Canvas, draw: Draw, random: Generator) -> None:
    """Four photos around a point, each at 0.7 to 1.6 times the size at which it would fill its part."""
    height, width = canvas.picture.shape[:2]
    middle_x = int(random.uniform(0.3, 0.7) * width / CELL) * CELL
    middle_y = int(random.uniform(0.3, 0.7) * height / CELL) * CELL
    for left, right in ((0, middle_x), (middle_x, width)):
        for top, bottom in ((0, middle_y), (middle_y, height)):
            photo, pixels = draw()
            filling = max((bottom - top) / pixels.shape[0], (right - left) / pixels.shape[1])
            scale = filling * random.uniform(0.7, 1.6)
            free = (right - left) - pixels.shape[1] * scale, (bottom - top) - pixels.shape[0] * scale
            at = left + free[0] * random.random(), top + free[1] * random.random()
            canvas.paste(photo, pixels, scale, at, (left, top, right, bottom))


def centred(photo: Photo, pixels: Picture, height: int, width: int) -> Sample:
    """A photo as the detector gets it when it is used: letterboxed."""
    canvas = Canvas(height, width, len(photo.known))
    scale = _fitting(pixels, height, width)
    at = (width - pixels.shape[1] * scale) / 2, (height - pixels.shape[0] * scale) / 2
    canvas.paste(photo, pixels, scale, at, (0, 0, width, height))
    return canvas.sample()


def flipped(sample: Sample, random: Generator) -> Sample:
    """Mirrored left to right, half of the time."""
    if random.random() < 0.5:
        return sample
    width = sample.picture.shape[1]
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(
        np.ascontiguousarray(sample.picture[:, ::-1]),
        boxes,
        sample.labels,
        np.ascontiguousarray(sample.weights[:, ::-1]),
    )


def looks(picture: Picture, random: Generator) -> Picture:
    """Another light and another camera: hue, saturation, brightness; sometimes grey, dark, blurred or noisy."""
    hue, saturation, value = random.uniform(-1, 1, 3) * (0.015, 0.6, 0.4)
    steps = np.arange(256, dtype=np.float32)
    hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    tables = [(steps + hue * 180) % 180, steps * (1 + saturation), steps * (1 + value)]
    hsv = cv2.LUT(hsv, np.stack([table.clip(0, 255) for table in tables], axis=-1).astype(np.uint8)[None])
    picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if random.random() < 0.05:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    noise = random.uniform(2, 10) if random.random() < 0.1 else 0.0
    if random.random() < 0.1:  # low light: darker by a gamma, and the gain that makes up for it adds noise
        gamma = random.uniform(1.5, 2.5)
        picture = cv2.LUT(picture, (255 * (steps / 255) ** gamma * random.uniform(0.5, 1.0)).astype(np.uint8))
        noise = random.uniform(4, 14)
    if random.random() < 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 1.5))
    if noise:
        grains = random.standard_normal(picture.shape, np.float32) * noise
        picture = (picture + grains).clip(0, 255).astype(np.uint8)
    return picture


def _fitting(pixels: Picture, height: int, width: int) -> float:
    return min(height / pixels.shape[0], width / pixels.shape[1])


def _clipped(boxes: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    left, top, right, bottom = window
    return np.stack(
        [
            boxes[:, 0].clip(left, right),
            boxes[:, 1].clip(top, bottom),
            boxes[:, 2].clip(left, right),
            boxes[:, 3].clip(top, bottom),
        ],
        axis=1,
    )


def _rounded(box: NDArray[np.float32]) -> Window:
    left, top, right, bottom = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    return left, top, right, bottom


def _cells(window: Window) -> tuple[slice, slice]:
    left, top, right, bottom = window
    return slice(top // CELL, -(-bottom // CELL)), slice(left // CELL, -(-right // CELL))
