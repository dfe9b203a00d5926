"""Says in code how a model is fed and read: card_in_code.py [PHOTO] [MODEL]."""

import sys

import cv2

import edge_sdk
from edge_sdk.models.labels import COCO_80

photo = sys.argv[1] if len(sys.argv) > 1 else "photo.jpg"
model = sys.argv[2] if len(sys.argv) > 2 else "yolox_nano.onnx"

card = edge_sdk.ModelCard(
    head="yolox",
    input_hw=(416, 416),
    classes=COCO_80,
    colour="bgr",
    resize="letterbox_corner",
)
with edge_sdk.Detector(model, card=card) as detector:
    print(detector(cv2.imread(photo)))
