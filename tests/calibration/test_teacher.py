"""The float model as the teacher of photos without labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.calibration.teacher import FLOOR, MAX_BOXES, Teacher, teacher_key
from edge_sdk.errors import BadFrameError, SinkError
from edge_sdk.measure.accuracy import evaluate
from edge_sdk.sources.files import photos_in, read_photo

from .scenes import scene, write_colour_detector, write_scenes

Pictures = list[tuple[str, "partial[np.ndarray]"]]


@pytest.fixture
def detector(tmp_path: Path) -> Iterator[edge_sdk.Detector]:
    with edge_sdk.Detector(write_colour_detector(tmp_path / "colours.onnx"), threads=1, confidence=0.6) as one:
        yield one


@pytest.fixture
def pictures() -> Pictures:
    return [(f"{seed:064x}", partial(scene, seed)) for seed in range(4)]


def test_it_says_what_the_detector_says(detector: edge_sdk.Detector, pictures: Pictures) -> None:
    teacher = Teacher(detector)
    teacher.learn(pictures)
    total = 0
    for key, read in pictures:
        found = teacher.detections(key, 0.6)
        with detector.lock:
            prepared = detector.prepare(read(), detector.own)
            own = detector.decode(detector.infer(prepared), prepared, multi_label=True, clip=False)
        np.testing.assert_array_equal(found.xyxy, own.xyxy)
        np.testing.assert_array_equal(found.confidence, own.confidence)
        np.testing.assert_array_equal(found.class_id, own.class_id)
        total += len(own)
    assert total > 10


def test_weak_detections_are_kept_and_left_out_of_the_labels(detector: edge_sdk.Detector, pictures: Pictures) -> None:
    teacher = Teacher(detector)
    teacher.learn(pictures)
    for key, _ in pictures:
        weak, usual = teacher.detections(key, 0), teacher.detections(key)
        assert FLOOR < weak.confidence.min() < 0.25 <= usual.confidence.min()
        assert len(usual) < len(weak) <= MAX_BOXES
        assert (np.diff(weak.confidence) <= 0).all()


def test_the_detectors_own_threshold_is_set_back_even_after_an_error(detector: edge_sdk.Detector) -> None:
    def gone() -> np.ndarray:
        raise BadFrameError("gone")

    with pytest.raises(BadFrameError):
        Teacher(detector).learn([("0" * 64, gone)])
    assert detector.confidence == 0.6


def test_each_picture_is_run_once_and_never_again_with_a_folder(
    detector: edge_sdk.Detector, pictures: Pictures, tmp_path: Path
) -> None:
    first = Teacher(detector, tmp_path / "teacher")
    first.learn(pictures)
    first.learn(pictures)
    assert first.runs == len(pictures)
    second = Teacher(detector, tmp_path / "teacher")
    second.learn(pictures)
    assert second.runs == 0
    for key, _ in pictures:
        np.testing.assert_array_equal(first.detections(key, 0).xyxy, second.detections(key, 0).xyxy)
    assert sum(path.stat().st_size for path in (tmp_path / "teacher").rglob("*.npz")) < 4096 * len(pictures)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_a_damaged_file_is_made_anew(
    damage: bytes, detector: edge_sdk.Detector, pictures: Pictures, tmp_path: Path
) -> None:
    Teacher(detector, tmp_path / "t").learn(pictures)
    next((tmp_path / "t").rglob("*.npz")).write_bytes(damage)
    again = Teacher(detector, tmp_path / "t")
    again.learn(pictures)
    assert again.runs == 1


def test_another_model_threshold_or_class_filter_has_another_key(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    keys = {teacher_key(detector)}
    detector.classes = ["red"]
    keys.add(teacher_key(detector))
    with edge_sdk.Detector(write_colour_detector(tmp_path / "other.onnx", sharpness=19), threads=1) as other:
        keys.add(teacher_key(other))
    with edge_sdk.Detector(detector.path, threads=1, iou=0.3) as other:
        keys.add(teacher_key(other))
    assert len(keys) == 4
    with edge_sdk.Detector(detector.path, threads=1, confidence=0.9) as same:
        assert teacher_key(same) in keys


def test_a_folder_that_cannot_be_written_says_so(
    detector: edge_sdk.Detector, pictures: Pictures, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError):
        Teacher(detector, tmp_path / "file").learn(pictures)


def test_progress_is_told(detector: edge_sdk.Detector, pictures: Pictures) -> None:
    told: list[tuple[int, int]] = []
    Teacher(detector).learn(pictures, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_model_scores_fully_against_its_own_labels(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    paths = write_scenes(tmp_path / "photos", range(6))
    teacher = Teacher(detector)
    keys = [f"{number:064x}" for number in range(6)]
    teacher.learn([(key, partial(read_photo, path)) for key, path in zip(keys, paths, strict=True)])
    dataset = teacher.dataset(list(zip(paths, keys, strict=True)))
    assert dataset.classes == ("red", "green")
    assert evaluate(detector, dataset).map == pytest.approx(1.0)


def test_a_real_model_scores_fully_against_its_own_labels_too(shared: Path, yolox: Path) -> None:
    pytest.importorskip("pycocotools")
    paths = photos_in(shared / "data/coco_calib/images")[:3]
    with edge_sdk.Detector(yolox, threads=1) as detector:
        teacher = Teacher(detector)
        teacher.learn([(path.name, partial(read_photo, path)) for path in paths])
        assert evaluate(detector, teacher.dataset([(path, path.name) for path in paths])).map == pytest.approx(1.0)
