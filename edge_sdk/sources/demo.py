"""The demo scene: two moving people cut from a real photo, for a machine with nothing attached.

The photo is matplotlib's documented sample, the portrait of Grace Hopper (US Navy, public domain), which its wheel
ships for this use. The scene is a function of the frame's number, so every machine sees the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import MissingDependencyError, SourceError, UsageError, extra_hint
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request
from edge_sdk.sources.files import read_photo
from edge_sdk.sources.pace import Pace
from edge_sdk.sources.slots import Slots

WIDTH, HEIGHT, FPS = 1280, 720, 30.0
SMALLEST, LARGEST = 64, 4096
PHOTO = "grace_hopper.jpg"
PHOTO_SIZE = (512, 600)  # width, height
SHOWN = 0.97  # of a figure; the rest is below the lower edge


# The portrait's outline, in pixels of the 512x600 photo, from the hat clockwise; drawn by hand.
OUTLINE = (
    (215, 42), (240, 24), (275, 24), (300, 42), (330, 55), (352, 80), (367, 92), (371, 135), (370, 175), (376, 190),
    (370, 225), (362, 262), (350, 292), (332, 310), (345, 330), (380, 350), (430, 367), (475, 382), (492, 392),
    (505, 425), (512, 450), (512, 600), (12, 600), (20, 500), (28, 430), (45, 392), (70, 375), (140, 350), (180, 335),
    (196, 312), (180, 290), (165, 270), (160, 240), (155, 205), (156, 180), (153, 145), (152, 110), (165, 90),
    (175, 78), (190, 55),
)  # fmt: skip
EDGE_PX = 2.0  # how soft the outline is


@dataclass(frozen=True)
class Walker:
    """How one figure moves: lengths in parts of the scene's height or width, times in seconds.

    The figure always reaches below the lower edge, as somebody who stands before a camera does.
    """

    tall: float  # mean height
    swell: float  # how far the height goes up and down: nearer and further
    centre: float  # across
    reach: float  # across, to each side
    period_s: tuple[float, float]  # across, and of the height
    phase: float
    mirrored: bool


# Drawn in this order: the far figure, then the near one before it.
WALKERS = (
    Walker(0.55, 0.05, centre=0.50, reach=0.38, period_s=(17.0, 7.0), phase=2.2, mirrored=True),
    Walker(0.90, 0.12, centre=0.50, reach=0.26, period_s=(11.0, 5.0), phase=0.0, mirrored=False),
)


class DemoKind:
    """The built-in scene: ``demo`` in real time, ``demo:fast`` as fast as it is read."""

    name = "demo"
    example = "demo"
    rank = 0

    def claims(self, spec: str) -> bool:
        """``demo``, or ``demo:`` and a pace."""
        return spec == "demo" or spec.startswith("demo:")

    def open(self, spec: str, request: Request) -> DemoSource:
        """Loads the photo and prepares the figures."""
        if spec not in ("demo", "demo:fast"):
            raise SourceError(f"{spec}: there is demo, in real time, and demo:fast, as fast as it is read")
        return DemoSource(
            Scene(read_photo(sample_photo()), request.width or WIDTH, request.height or HEIGHT),
            name=spec,
            live=spec == "demo",
            fps=request.fps or FPS,
        )

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """The demo is asked for by name, never found."""
        return ()


class Scene:
    """Draws the frames; one thread at a time, since what it needs meanwhile lies ready.

    Args:
        photo: uint8 [h, w, 3] BGR, a portrait.
        width: Of the frames, in pixels.
        height: The same.
    """

    def __init__(self, photo: NDArray[np.uint8], width: int, height: int) -> None:
        if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
            raise UsageError(f"the demo scene is {SMALLEST} to {LARGEST} pixels wide and high, not {width}x{height}")
        self.width, self.height = width, height
        # The backdrop: the same photo, blurred until nobody is in it, so that its colours fit.
        backdrop = cv2.resize(cv2.GaussianBlur(photo, (0, 0), photo.shape[1] / 8), (width, height))
        self._backdrop = cv2.convertScaleAbs(backdrop, alpha=0.8, beta=20)
        opacity = cutout(photo.shape[0], photo.shape[1])
        figure = (photo * (opacity[..., None] / np.float32(255))).astype(np.uint8)
        veil = np.repeat(255 - opacity[..., None], 3, axis=2)
        self._figures = {
            False: (figure, veil),
            True: (np.ascontiguousarray(figure[:, ::-1]), np.ascontiguousarray(veil[:, ::-1])),
        }
        tallest = math.ceil(height * max(walker.tall + walker.swell for walker in WALKERS)) + 1
        self._scaled = np.empty((2, tallest, _width_of(photo, tallest), 3), np.uint8)
        self._dimmed = np.empty((height, width, 3), np.uint8)

    def frame(self, frame_id: int, fps: float = FPS, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture with this number.

        Args:
            frame_id: From 0.
            fps: How many of them are a second.
            out: uint8 [height, width, 3], drawn into; None makes a new array.

        Returns:
            uint8 [height, width, 3] BGR.
        """
        image = np.empty_like(self._backdrop) if out is None else out
        np.copyto(image, self._backdrop)
        for walker in WALKERS:
            self._draw(image, walker, frame_id / fps)
        return image

    def _draw(self, image: NDArray[np.uint8], walker: Walker, at_s: float) -> None:
        figure, veil = self._figures[walker.mirrored]
        across = math.sin(2 * math.pi * at_s / walker.period_s[0] + walker.phase)
        nearer = math.sin(2 * math.pi * at_s / walker.period_s[1] + walker.phase)
        tall = round(self.height * (walker.tall + walker.swell * nearer))
        wide = _width_of(figure, tall)
        left = round(self.width * (walker.centre + walker.reach * across) - wide / 2)
        top = self.height - round(tall * SHOWN)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(self.width, left + wide), min(self.height, top + tall)
        if x0 >= x1 or y0 >= y1:
            return
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        figure = cv2.resize(figure, (wide, tall), dst=self._scaled[0, :tall, :wide])[part]
        veil = cv2.resize(veil, (wide, tall), dst=self._scaled[1, :tall, :wide])[part]
        behind = image[y0:y1, x0:x1]
        dimmed = cv2.multiply(behind, veil, dst=self._dimmed[: y1 - y0, : x1 - x0], scale=1 / 255)
        np.copyto(behind, cv2.add(dimmed, figure, dst=dimmed))


class DemoSource:
    """The scene as a camera. Frames that are not read in time are gone when it is live; it has no end."""

    total = None

    def __init__(self, scene: Scene, *, name: str = "demo", live: bool = True, fps: float = FPS) -> None:
        self.name = name
        self.live = live
        self.fps: float | None = fps
        self._scene = scene
        self._size = scene.height, scene.width, 3
        self._slots = Slots()
        self._rate = fps
        self._pace = Pace(fps if live else None, live)
        self._next_id = 0

    def read(self) -> Frame | None:
        """The frame that is due; None once closed."""
        frame_id = self._pace.wait_for(self._next_id)
        if frame_id is None:
            return None
        self._next_id = frame_id + 1
        captured_ns = time.monotonic_ns()
        image = self._scene.frame(frame_id, self._rate, self._slots.take(self._size))
        return Frame(image, frame_id, self.name, captured_ns)

    def close(self) -> None:
        """Ends the scene; a waiting `read` returns None."""
        self._pace.close()


def _width_of(figure: NDArray[np.uint8], tall: int) -> int:
    return max(1, round(tall * int(figure.shape[1]) / int(figure.shape[0])))


def sample_photo() -> Path:
    """Where matplotlib keeps its sample photo; matplotlib itself is imported only where a system moved its data.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        SourceError: It came without its sample data.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f"the demo scene is made from a photo in matplotlib: {extra_hint('demo')}")
    photo = Path(spec.submodule_search_locations[0]) / "mpl-data" / "sample_data" / PHOTO
    if not photo.is_file():  # Debian keeps the data under /usr/share
        photo = Path(importlib.import_module("matplotlib").get_data_path()) / "sample_data" / PHOTO
    if not photo.is_file():
        raise SourceError(
            f"demo: matplotlib is here without its sample photo; {extra_hint('demo')} in a new venv brings it"
        )
    return photo


def cutout(height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [height, width]: 255 over the figure of the sample photo at this size, 0 around it."""
    scale = np.array([width, height], np.float64) / PHOTO_SIZE
    opacity = np.zeros((height, width), np.uint8)
    cv2.fillPoly(opacity, [np.rint(np.array(OUTLINE) * scale).astype(np.int32)], 255)
    return np.asarray(cv2.GaussianBlur(opacity, (0, 0), EDGE_PX), np.uint8)


KIND = DemoKind()
