"""The model that tools/build_yolov8_layout.py makes is taken for a YOLOv8 and behaves like a detector."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import edge_sdk

pytest.importorskip("onnx")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "build_yolov8_layout.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_yolov8_layout", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "yolov8_layout.onnx"
    path.write_bytes(tool.build().SerializeToString())
    return path


def test_it_is_read_as_a_yolov8_without_being_told(model: Path) -> None:
    with edge_sdk.Detector(model, threads=1) as detector:
        assert detector.head.name == "yolov8"
        assert [output.shape for output in detector.session.outputs] == [(1, 84, 8400)]
        assert (detector.card.input_hw, detector.card.std) == ((640, 640), (255.0, 255.0, 255.0))
        assert detector.class_names[79] == "class 79"


def test_its_outputs_are_those_of_a_detector(model: Path, shared: Path) -> None:
    photos = sorted((shared / "data/coco_eval/images").glob("*.jpg"))[:4]
    with edge_sdk.Detector(model, threads=1) as detector:
        for photo in photos:
            picture = cv2.imread(str(photo))
            prepared = detector.prepare(picture, detector.own)
            outputs = detector.infer(prepared)
            boxes, scores = outputs["output0"][0, :4], outputs["output0"][0, 4:]
            assert ((scores >= 0) & (scores <= 1)).all()
            assert (scores.max(axis=0) > 0.25).mean() < 0.03  # of the cells
            assert np.isfinite(boxes).all()
            assert (boxes[2:] > 0).all()
            assert np.abs(boxes[:2] - 320).max() < 360
            found = detector.decode(outputs, prepared)
            assert 0 < len(found) < 100
            assert len(set(found.class_id.tolist())) > 1


def test_the_same_seed_makes_the_same_file(tool: ModuleType) -> None:
    assert tool.build(3).SerializeToString() == tool.build(3).SerializeToString()
    assert tool.build(3).SerializeToString() != tool.build(4).SerializeToString()
