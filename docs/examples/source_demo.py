"""Detect in the built-in scene, with nothing attached: source_demo.py [SCENE] [MODEL]."""

import sys

import edge_sdk

scene = sys.argv[1] if len(sys.argv) > 1 else "demo"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(scene, model) as camera:
    for result in camera.detect(seconds=3):
        print(result.frame.id, result.detections)
