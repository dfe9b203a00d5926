"""Writes what is found to a file, one JSON object a frame: write_jsonl.py [SOURCE] [MODEL]."""

import sys

import edge_sdk
from edge_sdk.sinks.jsonl import JsonlSink

source = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(source, model) as camera:
    sink = JsonlSink("detections.jsonl", camera.detector.class_names)
    for result in camera.detect(seconds=60, sinks=[sink]):
        print(result.frame.id, result.detections)

stats = camera.stats
print(f"{stats.captured} captured, {stats.processed} processed, dropped: {dict(stats.dropped)}")
print(f"inference p50 {stats.percentiles['infer_ms']['p50']:.1f} ms")
