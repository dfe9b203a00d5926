"""The live picture in a browser on this machine: http_page.py [SOURCE] [ADDRESS] [MODEL]."""

import sys

import edge_sdk
from edge_sdk.sinks.http import HttpSink

source = sys.argv[1] if len(sys.argv) > 1 else "0"
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8080"
model = sys.argv[3] if len(sys.argv) > 3 else None

with edge_sdk.Camera(source, model) as camera:
    names = camera.detector.class_names
    page = HttpSink(
        address,
        names,
        stats=lambda: camera.stats,
        camera=camera.source.name,
    )
    print("open", page.url)
    for _ in camera.detect(sinks=[page]):
        pass  # everything that is to happen, happens in the sink
