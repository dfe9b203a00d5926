"""Draws what is found in a photo: draw_result.py [PHOTO] [MODEL]."""

import sys

import cv2

import edge_sdk
from edge_sdk.sinks.draw import draw

photo = sys.argv[1] if len(sys.argv) > 1 else "photo.jpg"
model = sys.argv[2] if len(sys.argv) > 2 else None

image = cv2.imread(photo)  # uint8 [h, w, 3], BGR
with edge_sdk.Detector(model) as detector:
    draw(image, detector(image), detector.class_names)
cv2.imwrite("drawn.jpg", image)
