"""Detect in photos: source_photos.py [PHOTO, FOLDER or 'PATTERN'] [MODEL]."""

import sys

import edge_sdk

photos = sys.argv[1] if len(sys.argv) > 1 else "photos/"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(photos, model) as camera:
    for result in camera.detect(frames=10):
        print(result.frame.source, len(result.detections))
