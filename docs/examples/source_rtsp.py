"""Detect in a stream: source_rtsp.py [URL] [MODEL]."""

import sys

import edge_sdk

url = sys.argv[1] if len(sys.argv) > 1 else "rtsp://user:password@192.168.0.20/stream1"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(url, model) as camera:
    for result in camera.detect(seconds=5):
        print(result.frame.source, len(result.detections))
