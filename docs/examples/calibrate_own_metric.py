"""Calibrates so that the number of people stays: calibrate_own_metric.py [MODEL] [PHOTOS] [SECONDS]."""

import sys

import cv2

import edge_sdk
from edge_sdk.datasets import Dataset

model = sys.argv[1] if len(sys.argv) > 1 else "yolox_nano.onnx"
photos = sys.argv[2] if len(sys.argv) > 2 else "photos"
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else None


def people_counted(detector: edge_sdk.Detector, dataset: Dataset) -> list[float]:
    """Of each photo, minus the error of the count: more is better."""
    values = []
    for photo in dataset.photos:
        found = int((detector(cv2.imread(str(photo.path))).class_id == 0).sum())
        values.append(-abs(found - int((photo.class_id == 0).sum())))
    return values


# A tenth of a person in a photo may be lost: a drop is in the unit of the metric.
plan = edge_sdk.calibrate(model, photos, metric=people_counted, max_map_drop=0.1, time_budget_s=seconds)
print(f"{sum(choice.precision == 'int8' for choice in plan.choices)} groups in INT8")
