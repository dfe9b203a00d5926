"""The first walk: a frame goes from a source through the detector to a result, and on to the sinks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

import edge_sdk
from edge_sdk.sinks.jsonl import JsonlSink
from edge_sdk.sinks.video import VideoSink


def test_a_clip_becomes_lines_and_a_clip_with_the_same_boxes(yolox: Path, highway: Path, tmp_path: Path) -> None:
    """Straight from the design: source, detector, result, then every sink is given that result."""
    with edge_sdk.Camera(highway, yolox) as camera:
        names = camera.detector.class_names
        with JsonlSink(tmp_path / "a.jsonl", names) as lines, VideoSink(tmp_path / "a.mp4", names, 25) as clip:
            results = []
            for result in camera.detect(frames=6):
                lines.put(result)
                clip.put(result)
                results.append(result.detections)
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for record, detections in zip(records, results, strict=True):
        assert [box["xyxy"] for box in record["detections"]] == [
            pytest.approx(box, abs=0.01) for box in detections.xyxy.tolist()
        ]
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 6


def test_supervision_draws_what_the_sdk_found(yolox: Path, bear: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="the extra 'supervision' is not installed")
    image = cv2.imread(str(bear))
    with edge_sdk.Detector(yolox) as detector:
        found = detector(image)
    there = found.to_supervision()
    drawn = supervision.BoxAnnotator().annotate(image.copy(), there)
    assert (drawn != image).any()
    back = edge_sdk.Detections.from_supervision(there)
    assert (back.xyxy == found.xyxy).all()
    assert (back.class_id == found.class_id).all()
