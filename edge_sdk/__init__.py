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
    from edge_sdk.calibration.export import export
    from edge_sdk.calibration.planner import calibrate
    from edge_sdk.camera import Camera
    from edge_sdk.detections import Detection, Detections
    from edge_sdk.detector import Detector
    from edge_sdk.device import this_device
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.measure.meter import PowerMeter
    from edge_sdk.measure.profile import profile
    from edge_sdk.measure.recipe import Recipe
    from edge_sdk.measure.record import Profile
    from edge_sdk.measure.running import PowerStats
    from edge_sdk.models.card import ModelCard
    from edge_sdk.pipeline.books import Stats
    from edge_sdk.pipeline.supervisor import Reconnect
    from edge_sdk.plan import Plan
    from edge_sdk.result import Event, Frame, Reading, Result, Timing
    from edge_sdk.targets import Target, identify
    from edge_sdk.tracking import Tracker
    from edge_sdk.zones import Line, Zone

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Detection",
    "Detections",
    "Detector",
    "EdgeSdkError",
    "Event",
    "Frame",
    "Line",
    "ModelCard",
    "Plan",
    "PowerMeter",
    "PowerStats",
    "Profile",
    "Reading",
    "Recipe",
    "Reconnect",
    "Result",
    "Stats",
    "Target",
    "Timing",
    "Tracker",
    "Zone",
    "calibrate",
    "export",
    "identify",
    "profile",
    "this_device",
]

_HOMES = {
    "Camera": "edge_sdk.camera",
    "Detection": "edge_sdk.detections",
    "Detections": "edge_sdk.detections",
    "Detector": "edge_sdk.detector",
    "EdgeSdkError": "edge_sdk.errors",
    "Event": "edge_sdk.result",
    "Frame": "edge_sdk.result",
    "Line": "edge_sdk.zones",
    "ModelCard": "edge_sdk.models.card",
    "Plan": "edge_sdk.plan",
    "PowerMeter": "edge_sdk.measure.meter",
    "PowerStats": "edge_sdk.measure.running",
    "Profile": "edge_sdk.measure.record",
    "Reading": "edge_sdk.result",
    "Recipe": "edge_sdk.measure.recipe",
    "Reconnect": "edge_sdk.pipeline.supervisor",
    "Result": "edge_sdk.result",
    "Stats": "edge_sdk.pipeline.books",
    "Target": "edge_sdk.targets",
    "Timing": "edge_sdk.result",
    "Tracker": "edge_sdk.tracking",
    "Zone": "edge_sdk.zones",
    "calibrate": "edge_sdk.calibration.planner",
    "export": "edge_sdk.calibration.export",
    "identify": "edge_sdk.targets",
    "profile": "edge_sdk.measure.profile",
    "this_device": "edge_sdk.device",
}

# Names whose module needs an extra as soon as it is imported.
_EXTRAS = {"calibrate": "calibrate"}

# Silent until the program that uses the SDK says otherwise.
logging.getLogger("edge_sdk").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if name not in _EXTRAS or str(error.name).startswith("edge_sdk"):
            raise
        from edge_sdk.errors import MissingDependencyError, extra_hint

        raise MissingDependencyError(f"{error.name} is not installed: {extra_hint(_EXTRAS[name])}") from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
