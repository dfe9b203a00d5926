"""Mean average precision, against pycocotools' own figures and on real models."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk import Detections, datasets
from edge_sdk.datasets import Dataset, LabelledPhoto
from edge_sdk.errors import DatasetError, MissingDependencyError
from edge_sdk.measure.accuracy import Accuracy, evaluate

pytest.importorskip("pycocotools")

NAMES = ("cat", "dog", "bird", "cow", "fox")


class Told:
    """Stands in for a detector: finds in a photo what it is told to, by the number in the photo's first pixel."""

    def __init__(self, found: Mapping[int, Detections], names: tuple[str, ...] = NAMES) -> None:
        self.class_names = names
        self.confidence = 0.25
        self.lock = threading.Lock()
        self.own = object()
        self.asked: list[tuple[float, bool, bool]] = []
        self._found = found

    def prepare(self, picture, into):
        return int(picture[0, 0, 0])

    def infer(self, number):
        return number

    def decode(self, outputs, prepared, *, multi_label=False, clip=True):
        assert outputs == prepared
        self.asked.append((self.confidence, multi_label, clip))
        return self._found.get(prepared, Detections.empty())


def corners(rng: np.random.Generator, n: int) -> np.ndarray:
    left_top = rng.uniform(0, 300, (n, 2))
    return np.concatenate([left_top, left_top + rng.uniform(4, 200, (n, 2))], axis=1).astype(np.float32)


def photo_at(folder: Path, number: int) -> Path:
    path = folder / f"{number:03d}.png"
    cv2.imwrite(str(path), np.full((1, 1, 3), number, np.uint8))
    return path


def random_case(folder: Path, count: int, seed: int, classes: int = 5) -> tuple[Dataset, dict[int, Detections]]:
    """Photos whose boxes are found roughly, with crowds, ties, doubles, misses and more than a hundred boxes."""
    rng = np.random.default_rng(seed)
    photos, found = [], {}
    for number in range(count):
        n = int(rng.integers(0, 7))
        truth, ids = corners(rng, n), rng.integers(0, classes, n)
        area = (truth[:, 2:] - truth[:, :2]).prod(axis=1) * rng.uniform(0.4, 1, n)
        photos.append(
            LabelledPhoto(
                photo_at(folder, number),
                truth,
                ids.astype(np.int32),
                rng.uniform(size=n) < 0.15,
                area.astype(np.float32),
            )
        )
        near = np.concatenate([truth + rng.normal(0, spread, truth.shape) for spread in (2, 8, 25)])
        noise = corners(rng, 130 if number % 9 == 0 else 5)
        boxes = np.concatenate([near, noise]).astype(np.float32)
        kinds = np.concatenate([np.tile(ids, 3), rng.integers(0, classes, len(noise))])
        scores = np.round(rng.uniform(0.02, 1, len(boxes)), 2).astype(np.float32)  # two digits: many ties
        found[number] = Detections(boxes, scores, kinds.astype(np.int32))
    return Dataset("COCO", NAMES[:classes], tuple(photos)), found


def own_figures(dataset: Dataset, found: Mapping[int, Detections], kept: list[int]) -> tuple[list[float], list[float]]:
    """pycocotools' own mAP, mAP50 and mAP75, and AP of each class, for the labels in `kept` (NaN: no object)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, rows = [], []
    for number, photo in enumerate(dataset.photos):
        for box, k, crowd, area in zip(photo.boxes_xyxy, photo.class_id, photo.crowd, photo.area, strict=True):
            x, y, right, bottom = map(float, box)
            truth.append({"id": len(truth) + 1, "image_id": number, "category_id": int(k), "iscrowd": int(crowd),
                          "area": float(area), "bbox": [x, y, right - x, bottom - y]})  # fmt: skip
        ranked = sorted(found[number], key=lambda one: -one.confidence)
        for one in [one for one in ranked if one.class_id in kept][:100]:
            x, y, right, bottom = one.xyxy
            rows.append({"image_id": number, "category_id": one.class_id, "score": one.confidence,
                         "bbox": [x, y, right - x, bottom - y]})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO()
        table.dataset = {
            "images": [{"id": number} for number in range(len(dataset.photos))],
            "annotations": truth,
            "categories": [{"id": k, "name": name} for k, name in enumerate(dataset.classes)],
        }
        table.createIndex()
        judge = COCOeval(table, table.loadRes(rows), "bbox")
        judge.params.catIds = kept
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    by_class = judge.eval["precision"][:, :, :, 0, 2]  # all areas, 100 boxes
    return judge.stats[:3].tolist(), [float(np.where(by_class[:, :, k] < 0, np.nan, by_class[:, :, k]).mean())
                                      for k in range(len(kept))]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_pycocotools_own(tmp_path: Path, seed: int) -> None:
    dataset, found = random_case(tmp_path, 19, seed)
    measured = evaluate(Told(found), dataset)
    (whole, at50, at75), by_class = own_figures(dataset, found, list(range(5)))
    assert 0.05 < whole < 0.95
    assert (measured.map, measured.map50, measured.map75) == pytest.approx((whole, at50, at75), abs=1e-6)
    assert list(measured.per_class) == list(NAMES)
    assert list(measured.per_class.values()) == pytest.approx(by_class, abs=1e-6)
    assert measured.images == 19


def test_a_real_model_on_real_photos_gets_pycocotools_own_figure(shared: Path, yolox: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    whole = datasets.load(shared / "data/coco_eval")
    dataset = Dataset(whole.layout, whole.classes, whole.photos[:12])
    rows = []
    with edge_sdk.Detector(yolox, threads=1) as detector, contextlib.redirect_stdout(io.StringIO()):
        measured = evaluate(detector, dataset)
        truth = COCO(str(shared / "data/coco_eval/instances.json"))
        ids = {category["name"]: category["id"] for category in truth.dataset["categories"]}
        images = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
        detector.confidence = 0.01
        for photo in dataset.photos:
            prepared = detector.prepare(cv2.imread(str(photo.path)), detector.own)
            for one in detector.decode(detector.infer(prepared), prepared, multi_label=True, clip=False)[:100]:
                left, top, right, bottom = one.xyxy
                rows.append({"image_id": images[photo.path.name], "score": one.confidence,
                             "category_id": ids[detector.class_names[one.class_id]],
                             "bbox": [left, top, right - left, bottom - top]})  # fmt: skip
        judge = COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.params.imgIds = [images[photo.path.name] for photo in dataset.photos]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert measured.map > 0.2
    assert [measured.map, measured.map50, measured.map75] == pytest.approx(judge.stats[:3].tolist(), abs=1e-6)


def test_every_class_above_a_hundredth_counts_and_nothing_is_cut(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 3, 0)
    detector = Told(found)
    evaluate(detector, dataset)
    assert detector.asked == [(0.01, True, False)] * 3
    assert detector.confidence == 0.25  # as it was


def test_the_detectors_threshold_comes_back_when_the_work_fails(tmp_path: Path) -> None:
    dataset, _ = random_case(tmp_path, 3, 0)
    detector = Told({})
    detector.infer = lambda number: 1 / 0
    with pytest.raises(ZeroDivisionError):
        evaluate(detector, dataset)
    assert detector.confidence == 0.25


def test_classes_are_matched_by_name_not_by_id(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 15, 3)
    plain = evaluate(Told(found), dataset)
    turned = {n: Detections(one.xyxy, one.confidence, (4 - one.class_id).astype(np.int32)) for n, one in found.items()}
    other = evaluate(Told(turned, tuple(f" {name.upper()}" for name in reversed(NAMES))), dataset)
    assert other == plain


def test_labelled_classes_that_the_model_has_not_are_left_out_and_named(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 15, 4)
    measured = evaluate(Told(found, ("cat", "dog", "bird", "x", "y")), dataset)
    (whole, _, _), by_class = own_figures(dataset, found, [0, 1, 2])
    assert measured.classes_not_in_model == ("cow", "fox")
    assert measured.map == pytest.approx(whole, abs=1e-6)
    assert list(measured.per_class.values()) == pytest.approx(by_class, abs=1e-6)


def test_boxes_of_classes_that_nobody_labelled_take_no_place_among_the_hundred(tmp_path: Path) -> None:
    box = np.array([[10, 10, 50, 50]], np.float32)
    photo = LabelledPhoto(
        photo_at(tmp_path, 0), box, np.zeros(1, np.int32), np.zeros(1, bool), np.full(1, 1600, np.float32)
    )
    crowd = Detections(
        np.tile(box, (151, 1)), np.array([0.9] * 150 + [0.5], np.float32), np.array([1] * 150 + [0], np.int32)
    )
    assert evaluate(Told({0: crowd}), Dataset("COCO", ("cat",), (photo,))).map == pytest.approx(1.0)


def test_a_class_without_an_object_has_no_figure(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 10, 5, classes=3)
    measured = evaluate(Told(found), Dataset("COCO", NAMES, dataset.photos))
    assert sorted(measured.per_class) == ["bird", "cat", "dog"]
    assert measured.map == pytest.approx(evaluate(Told(found), dataset).map)


def test_a_detector_that_finds_nothing_scores_nothing(tmp_path: Path) -> None:
    dataset, _ = random_case(tmp_path, 10, 6)
    measured = evaluate(Told({}), dataset)
    assert (measured.map, measured.map50, measured.interval) == (0.0, 0.0, (0.0, 0.0))


def test_no_class_in_common_is_an_error_that_shows_both_lists(tmp_path: Path) -> None:
    dataset, _ = random_case(tmp_path, 2, 0)
    with pytest.raises(DatasetError, match=r"model's classes \(face.*labels' \(cat, dog.*no name in common"):
        evaluate(Told({}, ("face",)), dataset)


def test_photos_that_cannot_be_read_are_skipped_and_named(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 12, 7)
    steps: list[tuple[int, int]] = []
    for number in (2, 11):
        dataset.photos[number].path.write_bytes(b"no photo")
    measured = evaluate(Told(found), dataset, progress=lambda done, of: steps.append((done, of)))
    assert (measured.images, measured.skipped) == (10, ("002.png", "011.png"))
    assert steps == [(done, 12) for done in range(1, 13)]
    rest = [photo for number, photo in enumerate(dataset.photos) if number not in (2, 11)]
    assert measured.map == evaluate(Told(found), Dataset("COCO", NAMES, tuple(rest))).map


def test_where_no_photo_can_be_read_that_is_an_error(tmp_path: Path) -> None:
    dataset, _ = random_case(tmp_path, 2, 0)
    for photo in dataset.photos:
        photo.path.unlink()
    with pytest.raises(DatasetError, match=r"none of the 2 photos could be read; is .*000\.png there"):
        evaluate(Told({}), dataset)


def test_without_pycocotools_the_message_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, _ = random_case(tmp_path, 1, 0)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-sdk\[evaluate\]'"):
        evaluate(Told({}), dataset)


def width(measured: Accuracy) -> float:
    return measured.interval[1] - measured.interval[0]


def test_the_interval_surrounds_the_figure_and_narrows_with_more_photos(tmp_path: Path) -> None:
    few, many = (evaluate(Told(found), dataset) for dataset, found in
                 (random_case(tmp_path, count, 8) for count in (10, 160)))  # fmt: skip
    for measured in (few, many):
        assert 0 <= measured.interval[0] < measured.map < measured.interval[1] <= 1
    # 16 times the photos make it a quarter as wide; half is sure.
    assert width(many) < width(few) / 2


def test_the_interval_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 12, 9)
    first, again, other = (evaluate(Told(found), dataset, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (other.map, other.interval == first.interval) == (first.map, False)


def test_one_photo_tells_nothing_of_others(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 12, 10)
    one = next(photo for photo in dataset.photos if len(photo.class_id) > 3)
    assert evaluate(Told(found), Dataset("COCO", NAMES, (one,))).interval == (0.0, 1.0)


# Figures of an independent decoder on the same photos, and how far a right one may be from them.
PUBLISHED = {
    "yolox_nano/yolox_nano.onnx": 0.2989,
    "yolox_nano/yolox_nano_float16_quantize.tflite": 0.2986,
    "picodet_s/picodet_s_320_coco.onnx": 0.3131,
    "nanodet_m/nanodet_m.onnx": 0.2540,
    "fastestdet/FastestDet.onnx": 0.1757,
    "ssd_mobilenet_v1_quant/detect.tflite": 0.1864,
    # Broken files, measured as they are.
    "yolox_nano/yolox_nano_int8_quantize.tflite": 0.0269,
    "yolox_nano/yolox_nano_only_int8_quantize.tflite": 0.0269,
}
NEAR = 0.003
# Of a dynamic-range file the engine chooses the activations' scales itself, picture by picture and version by version.
DYNAMIC_RANGE = ("yolox_nano/yolox_nano_dynamic_range_quantize.tflite", 0.2956, 0.006)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "figure", "near"), [*((*one, NEAR) for one in PUBLISHED.items()), DYNAMIC_RANGE])
def test_real_models_reach_their_figures_with_no_word_but_the_data(
    shared: Path, file: str, figure: float, near: float
) -> None:
    dataset = datasets.load(shared / "data/coco_eval")
    with edge_sdk.Detector(shared / "models" / file) as detector:
        measured = evaluate(detector, dataset)
    assert (measured.images, measured.skipped, measured.classes_not_in_model) == (146, (), ())
    assert measured.map == pytest.approx(figure, abs=near)
