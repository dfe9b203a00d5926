"""Counts people in a zone with supervision's tools: supervision_zone.py [VIDEO] [MODEL]."""

import sys

import cv2
import numpy as np
import supervision as sv

import edge_sdk

video = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

zone, boxes, labels = None, sv.BoxAnnotator(), sv.LabelAnnotator()
with edge_sdk.Camera(video, model, classes=["person"]) as camera:
    for result in camera.detect():
        if zone is None:
            height, width = result.frame.image.shape[:2]
            left_half = np.array([[0, 0], [width // 2, 0], [width // 2, height], [0, height]])
            zone = sv.PolygonZone(left_half)
        people = result.detections.to_supervision(camera.detector.class_names)
        inside = zone.trigger(people)
        print(f"frame {result.frame.id}: {inside.sum()} of {len(people)} in the left half")
        picture = boxes.annotate(result.frame.image.copy(), people[inside])
        picture = labels.annotate(picture, people[inside])
cv2.imwrite("zone.jpg", picture)
