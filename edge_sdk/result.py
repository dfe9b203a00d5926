"""What flows through the loop: a frame goes in, a result comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.detections import Detections

Method = Literal["counter", "sensor_total", "sensor_partial", "fit", "estimate", "external"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture; the image is a reused buffer, copy it to keep it.

    Args:
        image: uint8 [h, w, 3], BGR.
        id: Counts the source's frames from 0, dropped ones included.
        source: What it came from, with credentials removed; a file's own path in a folder.
        captured_ns: `time.monotonic_ns` right after the grab.
    """

    image: NDArray[np.uint8] = field(repr=False)
    id: int
    source: str
    captured_ns: int


@dataclass(frozen=True)
class Reading:
    """A sensor's value at a time; value None comes with its reason."""

    name: str
    value: float | None
    unit: Literal["w", "c", "mhz", "percent"]
    method: Method
    at_ns: int
    reason: str | None


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
    """What `Camera.detect` yields and every sink is given. power is None where no sensor is read."""

    frame: Frame
    detections: Detections
    timing: Timing
    power: Reading | None = None
