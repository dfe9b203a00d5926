"""Detect with the camera on the board's connector: source_csi.py [CAMERA] [MODEL]."""

import sys

import edge_sdk

source = sys.argv[1] if len(sys.argv) > 1 else "csi:0"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(source, model, width=1280, height=720, fps=30) as camera:
    for result in camera.detect(frames=30):
        print(result.detections, f"{result.timing.total_ms:.0f} ms")
