"""Counts who goes through a door, and who stands before it: count_line.py [VIDEO] [MODEL]."""

import sys

import edge_sdk

video = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

# In fractions of the picture. From top to bottom: "in" is from left to right.
door = edge_sdk.Line("door", (0.5, 0), (0.5, 1))
queue = edge_sdk.Zone("queue", ((0, 0.5), (0.5, 0.5), (0.5, 1), (0, 1)))

counts: dict[str, int] = {}
with edge_sdk.Camera(
    video,
    model,
    classes=["person"],
    track=True,
    zones=[queue],
    lines=[door],
) as camera:
    for result in camera.detect():
        if dict(result.counts) != counts:
            counts = dict(result.counts)
            ids = [found.track_id for found in result.detections]
            print(f"frame {result.frame.id}: {counts}, ids {ids}")
