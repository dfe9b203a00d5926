"""How many people a video shows, second by second: count_people.py [VIDEO] [MODEL]."""

import sys
from collections import defaultdict

import edge_sdk

video = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

most: defaultdict[int, int] = defaultdict(int)
with edge_sdk.Camera(video, model, classes=["person"], confidence=0.4) as camera:
    fps = camera.source.fps or 25.0
    for result in camera.detect():
        second = int(result.frame.id / fps)
        most[second] = max(most[second], len(result.detections))

for second, people in most.items():
    print(f"{second:4d} s  {people}")
