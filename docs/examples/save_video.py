"""Draws what is found and writes it as a video: save_video.py [SOURCE] [MODEL]."""

import sys
from pathlib import Path

import edge_sdk
from edge_sdk.sinks.video import VideoSink

source = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(source, model) as camera:
    fps, live = camera.source.fps or 10.0, camera.source.live
    sink = VideoSink(Path("annotated.mp4"), camera.detector.class_names, fps, live=live)
    for result in camera.detect(seconds=60, sinks=[sink]):
        print(result.frame.id, result.detections)
