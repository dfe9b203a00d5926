"""Edge SDK: trained detectors on Jetson, Raspberry Pi and Snapdragon boards.

    import edge_sdk

    with edge_sdk.Camera() as camera:
        for result in camera.detect():
            print(result.detections, result.timing.total_ms)

Names are imported when they are first used: ``import edge_sdk`` loads neither OpenCV nor an engine.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.camera import Camera
    from edge_sdk.detections import Detection, Detections
    from edge_sdk.detector import Detector
    from edge_sdk.device import this_device
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.models.card import ModelCard
    from edge_sdk.plan import Plan
    from edge_sdk.result import Frame, Reading, Result, Timing
    from edge_sdk.targets import Target, identify

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Detection",
    "Detections",
    "Detector",
    "EdgeSdkError",
    "Frame",
    "ModelCard",
    "Plan",
    "Reading",
    "Result",
    "Target",
    "Timing",
    "identify",
    "this_device",
]

_HOMES = {
    "Camera": "edge_sdk.camera",
    "Detection": "edge_sdk.detections",
    "Detections": "edge_sdk.detections",
    "Detector": "edge_sdk.detector",
    "EdgeSdkError": "edge_sdk.errors",
    "Frame": "edge_sdk.result",
    "ModelCard": "edge_sdk.models.card",
    "Plan": "edge_sdk.plan",
    "Reading": "edge_sdk.result",
    "Result": "edge_sdk.result",
    "Target": "edge_sdk.targets",
    "Timing": "edge_sdk.result",
    "identify": "edge_sdk.targets",
    "this_device": "edge_sdk.device",
}

# Silent until the program that uses the SDK says otherwise.
logging.getLogger("edge_sdk").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
