"""Detect in every frame of a video: source_video.py [VIDEO] [MODEL]."""

import sys

import edge_sdk

video = sys.argv[1] if len(sys.argv) > 1 else "clip.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(video, model) as camera:
    for result in camera.detect(frames=20):
        print(result.frame.id, len(result.detections), f"{result.timing.infer_ms:.1f} ms")
