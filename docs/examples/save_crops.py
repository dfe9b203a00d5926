"""Cuts every object out of photos, one folder a class: save_crops.py [PHOTOS] [MODEL]."""

import sys
from pathlib import Path

import cv2

import edge_sdk

photos = sys.argv[1] if len(sys.argv) > 1 else "photos/"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(photos, model, confidence=0.5) as camera:
    for result in camera.detect():
        for number, found in enumerate(result.detections):
            left, top, right, bottom = (round(value) for value in found.xyxy)
            crop = result.frame.image[top:bottom, left:right]
            if crop.size == 0:
                continue
            folder = Path("crops", camera.detector.class_names[found.class_id])
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{Path(result.frame.source).stem}_{number}.jpg"), crop)
