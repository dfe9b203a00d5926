"""Two cameras share one model, each in a thread of its own: two_cameras.py [SOURCE] [SOURCE] [MODEL]."""

import sys
from concurrent.futures import ThreadPoolExecutor

import edge_sdk

sources = sys.argv[1:3] if len(sys.argv) > 2 else ["0", "1"]
model = sys.argv[3] if len(sys.argv) > 3 else None

with edge_sdk.Detector(model, classes=["person"]) as detector:

    def watch(source: str) -> str:
        with edge_sdk.Camera(source, detector) as camera:
            people = max((len(result.detections) for result in camera.detect(seconds=30)), default=0)
            return f"{camera.source.name}: {people} people at most, {camera.stats.processed} frames"

    with ThreadPoolExecutor(len(sources)) as pool:
        for line in pool.map(watch, sources):
            print(line)
