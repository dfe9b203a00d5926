"""What flows through the loop: a frame goes in, a result comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections

Method = Literal["counter", "sensor_total", "sensor_partial", "fit", "estimate", "external"]
State = Literal["starting", "streaming", "stalled", "reconnecting", "stopped", "failed"]

_NO_IMAGE = np.empty((0, 0, 3), np.uint8)
_NO_IMAGE.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    The image is one of a few buffers that are filled in turn. It stays as it is for as long as somebody holds it or a
    view of it; who keeps many makes the camera allocate more, so keep a copy.

    Args:
        image: uint8 [h, w, 3], BGR.
        id: Counts the source's frames from 0, dropped ones included, and goes on after a reconnection.
        source: What it came from, with credentials removed; a file's own path in a folder.
        captured_ns: `time.monotonic_ns` right after the grab.
    """

    image: NDArray[np.uint8] = field(repr=False)
    id: int
    source: str
    captured_ns: int


@dataclass(frozen=True)
class Reading:
    """A sensor's value at a time; value None comes with its reason.

    Args:
        name: Such as "board", "VDD_IN", "cpu-thermal".
        value: In `unit`; None where there is none.
        unit: Watts, degrees Celsius, megahertz or percent.
        method: How a power came about; None for what is no power. "counter": from an energy counter. "sensor_total":
            measured, all that the board can measure of its supply. "sensor_partial": measured, and `reason` says what
            is missing. "fit": a published or a user's line through measured values. "estimate": modelled, not measured.
            "external": by a meter outside the board.
        at_ns: `time.monotonic_ns` of the reading.
        reason: Why there is no value, or what is missing from it; None where there is nothing to say.
    """

    name: str
    value: float | None
    unit: Literal["w", "c", "mhz", "percent"]
    method: Method | None
    at_ns: int
    reason: str | None = None


@dataclass(frozen=True)
class Timing:
    """One frame's stages in milliseconds; total is from capture to result, so it holds the waiting too."""

    wait_ms: float
    preprocess_ms: float
    infer_ms: float
    decode_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Result:
    """What `Camera.detect` yields and every sink is given.

    Args:
        frame: The picture.
        detections: What was found in it.
        timing: What it cost, and how old the frame is.
        power: None where no sensor is read.
        counts: Of zones and lines, by name, where there are any: ``{"door in": 3, "door out": 1, "queue": 2}``.
    """

    frame: Frame
    detections: Detections
    timing: Timing
    power: Reading | None = None
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def with_image(self, image: NDArray[np.uint8]) -> Result:
        """The same result with another picture of the same scene."""
        return replace(self, frame=replace(self.frame, image=image))

    def without_image(self) -> Result:
        """The same result with an empty picture, [0, 0, 3]."""
        return self.with_image(_NO_IMAGE)


@dataclass(frozen=True)
class Event:
    """A change of a camera's state.

    Args:
        state: What it is now.
        previous: What it was.
        at_ns: `time.monotonic_ns` of the change.
        reason: Why, in a line, credentials removed; empty where there is nothing to say.
    """

    state: State
    previous: State
    at_ns: int
    reason: str = ""
