"""A sink of your own: one photo of each visit. own_sink.py [SOURCE] [MODEL]."""

import sys
from datetime import datetime
from pathlib import Path

import cv2

import edge_sdk
from edge_sdk.errors import SinkError
from edge_sdk.sinks.base import Sink


class VisitSink(Sink):
    """Keeps the first picture with somebody in it, after some seconds with nobody."""

    name = "visits"
    wants_image = True  # else `result.frame.image` would be empty
    complete = True  # of a file it gets every result, however slow it is

    def __init__(self, folder: Path, quiet_s: float = 5.0) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._quiet_ns = folder, quiet_s * 1e9
        self._last_ns = -self._quiet_ns

    def put(self, result: edge_sdk.Result) -> None:
        if len(result.detections) == 0:
            return
        before_ns, self._last_ns = self._last_ns, result.frame.captured_ns
        if self._last_ns - before_ns > self._quiet_ns:
            photo = self._folder / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.jpg"
            if not cv2.imwrite(str(photo), result.frame.image):
                raise SinkError(f"{photo}: could not be written")

    def close(self) -> None:
        """Every photo is whole already."""


source = sys.argv[1] if len(sys.argv) > 1 else "0"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(source, model, classes=["person"], confidence=0.5) as camera:
    for result in camera.detect(sinks=[VisitSink(Path("visits"))]):
        print(result.frame.id, result.detections)
print(camera.stats.sinks["visits"])
