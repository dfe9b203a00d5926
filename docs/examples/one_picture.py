"""What is in one picture: one_picture.py [PHOTO] [MODEL]."""

import sys

import cv2

import edge_sdk

photo = sys.argv[1] if len(sys.argv) > 1 else "photo.jpg"
model = sys.argv[2] if len(sys.argv) > 2 else None

image = cv2.imread(photo)  # uint8 [h, w, 3], BGR
with edge_sdk.Detector(model, confidence=0.4) as detector:
    for found in detector(image):
        left, top, right, bottom = found.xyxy
        name = detector.class_names[found.class_id]
        print(f"{name} {found.confidence:.2f} at {left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}")
