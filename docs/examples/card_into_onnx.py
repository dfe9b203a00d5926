"""Writes a model card into an ONNX file: card_into_onnx.py [MODEL] [CLASS ...]."""

import json
import sys
from pathlib import Path

import onnx

import edge_sdk
from edge_sdk.models.metadata import CARD_KEY

source = Path(sys.argv[1] if len(sys.argv) > 1 else "helmets.onnx")
classes = sys.argv[2:] or ["helmet", "vest", "person", "glove"]

model = onnx.load(source)
card = {"head": "yolox", "classes": classes, "licence": "my own"}
kept = {entry.key: entry.value for entry in model.metadata_props}
onnx.helper.set_model_props(model, {**kept, CARD_KEY: json.dumps(card)})
target = source.with_name(f"{source.stem}_with_card.onnx")
onnx.save(model, target)

with edge_sdk.Detector(target) as detector:
    print(f"{target}: head {detector.head.name}, {', '.join(detector.class_names)}")
