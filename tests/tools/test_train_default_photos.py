"""The training of the embedded detector, as far as it needs no PyTorch: photos, augmentation, judging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard
from edge_sdk.models.preprocess import Preprocessor
from edge_sdk.sources.files import read_photo
from tests.tools.folder_of_modules import modules_of

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "train_default"
MODULES = ("photos", "augment", "judge", "report", "failures")
CLASSES = ("person", "face")


@pytest.fixture(scope="module")
def tool() -> Iterator[SimpleNamespace]:
    with modules_of(FOLDER, MODULES) as modules:
        yield modules


def photo_of(tool: SimpleNamespace, boxes=(), labels=(), ignored=(), ignored_labels=(), labelled=(True, False)):
    return tool.photos.Photo(
        path=Path("a.jpg"),
        source="street",
        split="fit",
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        ignored=np.array(ignored, np.float32).reshape(-1, 4),
        ignored_labels=np.array(ignored_labels, np.int64),
        known=np.where(labelled, 1.0, tool.photos.WEAK).astype(np.float32),
        labelled=np.array(labelled),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos' labels: a person boxed by hand and a face by a teacher; a crowd to ignore."""
    images = [
        {"id": 1, "file_name": "images/a.jpg", "split": "train", "source": "street", "labelled_classes": ["person"]},
        {"id": 2, "file_name": "images/b.jpg", "split": "val", "source": "masks", "labelled_classes": ["face"]},
    ]
    boxes = [
        {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40], "ignore": False},
        {"image_id": 1, "category_id": 9, "bbox": [12, 22, 8, 8], "ignore": False},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 50, 50], "ignore": True},
        {"image_id": 2, "category_id": 5, "bbox": [0, 0, 5, 5], "ignore": False},
    ]
    names = [{"id": 7, "name": "person"}, {"id": 9, "name": "face"}, {"id": 5, "name": "kite"}]
    table = {"images": images, "annotations": boxes, "categories": names}
    (tmp_path / "annotations.json").write_text(json.dumps(table))
    return tmp_path


def test_labels_are_read_with_what_a_missing_box_means(tool, folder: Path) -> None:
    first, second = tool.photos.read(folder, CLASSES)
    assert first.boxes.tolist() == [[10, 20, 40, 60], [12, 22, 20, 30]]
    assert first.labels.tolist() == [0, 1]
    assert first.known.tolist() == pytest.approx([1.0, tool.photos.WEAK])
    assert first.labelled.tolist() == [True, False]
    assert second.boxes.shape == (0, 4)
    assert second.ignored.tolist() == [[0, 0, 50, 50]]
    assert second.ignored_labels.tolist() == [0]
    assert (first.split, second.split) == ("fit", "val")


def test_a_class_that_no_photo_knows_is_refused(tool, folder: Path) -> None:
    with pytest.raises(ValueError, match="no class 'unicorn'; there are face, kite, person"):
        tool.photos.read(folder, ["person", "unicorn"])


def test_the_photos_to_watch_are_cut_from_the_train_split_and_stay_the_same(tool, shared: Path) -> None:
    photos = tool.photos.read(shared / "data" / "people", CLASSES)
    counts = {split: sum(photo.split == split for photo in photos) for split in ("fit", "dev", "val")}
    assert counts["val"] == 354
    assert counts["fit"] + counts["dev"] == 3205
    assert 0.06 < counts["dev"] / 3205 < 0.1
    assert {photo.split for photo in photos if photo.source == "classroom"} <= {"fit", "val"}
    watched = [photo.path.name for photo in photos if photo.split == "dev"]
    assert watched[:3] == ["voc2012_0002.jpg", "voc2012_0035.jpg", "voc2012_0038.jpg"]


def test_a_photo_lies_under_its_boxes_to_the_pixel_as_the_sdk_would_put_it(tool, shared: Path) -> None:
    path = next(photo for photo in sorted((shared / "data" / "coco_eval" / "images").glob("*.jpg")))
    picture = cv2.resize(read_photo(path), (320, 240), interpolation=cv2.INTER_AREA)
    for height, width in ((192, 256), (480, 640)):
        card = ModelCard("yolo_nas", (height, width), CLASSES, layout="nhwc", colour="bgr")
        spec = TensorSpec("image", (1, height, width, 3), np.dtype(np.uint8))
        wanted = np.zeros(spec.shape, np.uint8)
        Preprocessor(card, spec)(picture, wanted)
        found = tool.augment.centred(photo_of(tool), picture, height, width).picture
        assert np.abs(found.astype(int) - wanted[0]).mean() < 2.5
        shifted = np.roll(found.astype(int), 1, axis=1)
        assert np.abs(shifted - wanted[0]).mean() > 2 * np.abs(found.astype(int) - wanted[0]).mean()


def test_a_letterboxed_photo_keeps_its_boxes_and_knows_its_margins(tool) -> None:
    photo = photo_of(tool, [[0, 0, 50, 100]], [0])
    sample = tool.augment.centred(photo, np.full((100, 100, 3), 7, np.uint8), 64, 128)
    assert sample.boxes[0].tolist() == pytest.approx([32, 0, 64, 64])
    assert sample.picture[32, 64].tolist() == [7, 7, 7]
    assert sample.picture[32, 2].tolist() == [tool.augment.GREY] * 3
    assert sample.weights[4, 0].tolist() == [1, 1]  # a margin holds nothing, and everybody knows
    assert sample.weights[4, 8].tolist() == pytest.approx([1, tool.photos.WEAK])


def test_an_ignored_region_weighs_nothing_for_its_class_alone(tool) -> None:
    photo = photo_of(tool, ignored=[[16, 16, 32, 32]], ignored_labels=[0], labelled=(True, True))
    weights = tool.augment.centred(photo, np.zeros((64, 64, 3), np.uint8), 64, 64).weights
    assert weights[2:4, 2:4, 0].max() == 0
    assert weights[..., 1].min() == 1
    assert weights[..., 0].sum() == 64 - 4


def test_what_is_cut_to_a_sliver_is_neither_there_nor_absent(tool) -> None:
    photo = photo_of(tool, [[0, 0, 100, 40], [60, 50, 80, 60]], [0, 0])
    canvas = tool.augment.Canvas(64, 64, 2)
    canvas.paste(photo, np.zeros((100, 100, 3), np.uint8), 1.0, (-80.0, 0.0), (0, 0, 64, 64))
    sample = canvas.sample()
    assert len(sample.boxes) == 0  # 20 of 100 columns are left of the first; the second is outside
    assert sample.weights[:5, :3, 0].max() == 0
    assert sample.weights[7, 7, 0] == 1


@given(seed=st.integers(0, 2**31), mosaic=st.booleans())
def test_whatever_is_drawn_the_boxes_lie_in_the_picture_and_the_same_seed_draws_it_again(
    seed: int, mosaic: bool
) -> None:
    with modules_of(FOLDER, ("photos", "augment")) as tool:
        check_a_draw(tool, seed, mosaic)


def check_a_draw(tool, seed: int, mosaic: bool) -> None:
    augment = tool.augment
    photo = photo_of(tool, [[5, 5, 60, 90], [70, 10, 90, 30]], [0, 1], [[0, 60, 100, 100]], [1])
    pixels = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)

    def made():
        random = np.random.default_rng(seed)
        canvas = augment.Canvas(64, 96, 2)
        (augment.mosaic if mosaic else augment.one)(canvas, lambda: (photo, pixels), random)
        sample = augment.flipped(canvas.sample(), random)
        return sample, augment.looks(sample.picture, random)

    (sample, looks), (again, looks_again) = made(), made()
    assert sample.picture.shape == looks.shape == (64, 96, 3)
    assert (sample.boxes[:, :2] >= 0).all()
    assert (sample.boxes[:, 2:] <= [96, 64]).all()
    assert (sample.boxes[:, 2:] - sample.boxes[:, :2] >= 2.99).all()
    assert sample.weights.shape == (8, 12, 2)
    assert 0 <= sample.weights.min() <= sample.weights.max() <= 1
    assert np.array_equal(looks, looks_again)
    assert np.array_equal(sample.boxes, again.boxes)
    assert np.array_equal(sample.weights, again.weights)


def found_of(*rows: tuple[list[float], float, int]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int32),
    )


def test_a_class_is_judged_only_where_it_is_labelled(tool) -> None:
    photos = [
        photo_of(tool, [[0, 0, 50, 50]], [0], labelled=(True, False)),
        photo_of(tool, [[0, 0, 50, 50]], [1], labelled=(False, True)),
    ]
    found = [
        found_of(([0, 0, 50, 50], 0.9, 0), ([10, 10, 40, 40], 0.9, 1)),  # the face counts for nothing here
        found_of(([0, 0, 50, 30], 0.9, 1), ([0, 0, 50, 50], 0.8, 0)),
    ]
    judged = tool.judge.judge(photos, found, CLASSES)
    assert judged["person"].ap50 == pytest.approx(1)
    assert judged["person"].interval == pytest.approx((1, 1))  # one photo: every draw is the same
    assert (judged["person"].photos, judged["person"].objects) == (1, 1)
    assert judged["face"].ap50 == pytest.approx(1)  # IoU 0.6
    assert judged["face"].ap == pytest.approx(0.3)  # of 0.50, 0.55 and 0.60 out of ten
    assert judged["person"].medium == pytest.approx(1)
    assert judged["person"].small is None


def test_what_is_found_in_an_ignored_region_counts_for_nothing(tool) -> None:
    here = photo_of(tool, [[0, 0, 50, 50]], [0], [[60, 60, 90, 90]], [0])
    ghost, crowd = ([70, 0, 90, 20], 0.95, 0), ([65, 65, 80, 80], 0.95, 0)
    right = ([0, 0, 50, 50], 0.9, 0)
    assert tool.judge.judge([here], [found_of(right, crowd)], CLASSES)["person"].ap50 == pytest.approx(1)
    assert tool.judge.judge([here], [found_of(right, ghost)], CLASSES)["person"].ap50 == pytest.approx(0.5)


def test_who_finds_nothing_is_judged_too(tool) -> None:
    here = photo_of(tool, [[0, 0, 50, 50]], [0])
    one = tool.judge.judge([here, here], [found_of(), found_of()], CLASSES)["person"]
    assert (one.ap50, one.interval) == (0, (0, 0))


def test_the_interval_is_drawn_from_the_same_rule_as_the_figure(tool) -> None:
    random = np.random.default_rng(3)
    photos, found = [], []
    for _ in range(30):
        boxes = [[x, y, x + 30, y + 30] for x, y in random.uniform(0, 60, (3, 2))]
        photos.append(photo_of(tool, boxes, [0, 0, 0]))
        moved = [([v + random.normal(0, 5) for v in box], float(random.random()), 0) for box in boxes]
        found.append(found_of(*moved))
    one = tool.judge.judge(photos, found, CLASSES)["person"]
    assert (one.interval[0] + one.interval[1]) / 2 == pytest.approx(one.ap50, abs=1e-6)
    assert 0.02 < one.interval[1] - one.interval[0] < 0.4
    with pytest.MonkeyPatch.context() as patch:
        rows: list[float] = []
        whole = tool.judge._ap50
        patch.setattr(tool.judge, "_ap50", lambda matches, _: rows.append(whole(matches, np.arange(30))) or rows[-1])
        tool.judge.judge(photos, found, CLASSES, resamples=1)
    assert rows[0] == pytest.approx(one.ap50, abs=1e-6)  # all photos once: pycocotools' own figure


def test_the_table_shows_each_class_beside_the_teachers(tool) -> None:
    one = tool.judge.Judged(0.5, 0.25, (0.4, 0.6), None, 0.5, 0.75, 12, 34)
    text = tool.report.table("val", {"person": one, "face": one}, {"person": one})
    assert "| person | 0.500 | 0.400 to 0.600 | 0.250 |  | 0.500 | 0.750 | 12 | 34 | 0.500, 0.250 |" in text
    assert text.splitlines()[-1].endswith("| 12 | 34 | |")


def test_curves_are_drawn_from_the_log(tool, tmp_path: Path) -> None:
    lines = [{"step": s, "scores": 2 / s, "boxes": 1 / s, "sides": 1.0, "dev_ap50": {"person": s / 9}} for s in (1, 2)]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    tool.report.curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_faults_are_what_was_missed_and_what_is_not_there(tool) -> None:
    here = photo_of(tool, [[0, 0, 50, 50], [60, 0, 90, 30]], [0, 0], [[0, 60, 100, 100]], [0])
    found = found_of(
        ([0, 0, 48, 50], 0.9, 0),
        ([2, 2, 50, 50], 0.8, 0),  # the same once more
        ([10, 65, 40, 90], 0.7, 0),  # in the crowd
        ([60, 0, 90, 30], 0.9, 1),  # a face
    )
    faults = tool.failures.faults(here, found, 0)
    assert faults.found.tolist() == [[0, 0, 50, 50]]
    assert faults.missed.tolist() == [[60, 0, 90, 30]]
    assert faults.false.tolist() == [[2, 2, 50, 50]]
    assert faults.count == 2


def test_faults_are_drawn_without_the_photo(tool, shared: Path, tmp_path: Path) -> None:
    path = sorted((shared / "data" / "coco_eval" / "images").glob("*.jpg"))[0]
    boxes = np.array([[10, 10, 60, 90]], np.float32)
    nothing = np.zeros((0, 4), np.float32)
    one = tool.failures.Faults(SimpleNamespace(path=path), nothing, boxes, nothing)
    tool.failures.draw_faults([one], tmp_path / "f.svg")
    drawn = (tmp_path / "f.svg").read_text()
    assert path.name in drawn
    assert "0 found, 1 missed, 0 false" in drawn
    assert "<image" not in drawn
    assert drawn.count('<g id="axes_') == 1  # no empty frames beside it
