"""Uses a head that lies in a folder of your own: use_own_head.py [END2END] [PHOTO]."""

import sys
from pathlib import Path

import cv2

import edge_sdk
from edge_sdk.models import heads

model = sys.argv[1] if len(sys.argv) > 1 else "yolov7-tiny-end2end.onnx"
photo = sys.argv[2] if len(sys.argv) > 2 else "photo.jpg"

heads.__path__.append(str(Path(__file__).parent / "heads"))  # before the first Detector
with edge_sdk.Detector(model) as detector:
    print("head", detector.head.name)
    print(detector(cv2.imread(photo)))
