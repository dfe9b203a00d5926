"""A calibration set, from the folder to its three sides."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.calibration.dataset import CalibrationSet
from edge_sdk.calibration.likeness import Likeness
from edge_sdk.calibration.photos import look_at
from edge_sdk.errors import DatasetError, SourceError, UsageError
from edge_sdk.measure.accuracy import evaluate
from edge_sdk.models.card import ModelCard
from edge_sdk.sources.files import photos_in

from .scenes import scene, write_clip, write_colour_detector, write_scenes


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_sdk.Detector]:
    with edge_sdk.Detector(write_colour_detector(tmp_path_factory.mktemp("m") / "colours.onnx"), threads=1) as one:
        yield one


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photos, each with one red box."""
    home = tmp_path_factory.mktemp("coco")
    paths = write_scenes(home / "images", range(20))
    table = {
        "images": [{"id": number, "file_name": path.name} for number, path in enumerate(paths)],
        "categories": [{"id": 5, "name": "blue"}, {"id": 9, "name": "Red"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 9, "bbox": [number, 2, 30, 40]} for number in range(20)
        ],
    }
    (home / "instances.json").write_text(json.dumps(table))
    return home


def names(chosen: CalibrationSet) -> dict[str, list[tuple[str, int | None]]]:
    return {
        side: [(one.path.name, one.index) for one in getattr(chosen, side)]
        for side in ("calibration", "search", "acceptance")
    }


def test_twenty_photos_are_given_to_three_sides_each_with_its_reason(coco: Path, detector: edge_sdk.Detector) -> None:
    with CalibrationSet.open(coco, detector) as chosen:
        assert [len(side) for side in names(chosen).values()] == [10, 4, 6]
        assert len({one.path for one in chosen.samples}) == 20
        assert all(one.reason for one in chosen.report.chosen)
        assert [one.name for one in chosen.report.chosen] == [one.path.name for one in chosen.samples]
        assert (chosen.report.layout, chosen.report.labels) == ("COCO", "labels")
        json.dumps(chosen.report.record())


def test_labels_go_with_their_photos_and_can_be_evaluated(coco: Path, detector: edge_sdk.Detector) -> None:
    pytest.importorskip("pycocotools")
    with CalibrationSet.open(coco, detector) as chosen:
        labels = chosen.labels(chosen.acceptance)
        assert labels is not None
        assert [photo.path for photo in labels.photos] == [one.path for one in chosen.acceptance]
        for photo in labels.photos:
            assert photo.boxes_xyxy[0, 0] == int(photo.path.stem.removeprefix("img"))
        assert evaluate(detector, labels).images == len(chosen.acceptance)
        assert chosen.truth(chosen.acceptance) == labels
        with CalibrationSet.open(coco / "images", detector) as other, pytest.raises(UsageError, match="not a photo of"):
            chosen.labels([type(other.search[0])(Path("strange.jpg"), None, "", 0)])


def test_photos_without_labels_are_taught_by_the_float_model(coco: Path, detector: edge_sdk.Detector) -> None:
    with CalibrationSet.open(coco / "images", detector) as chosen:
        assert chosen.labels(chosen.search) is None
        assert chosen.report.labels == "teacher"
        truth = chosen.truth(chosen.search)
        assert truth.classes == ("red", "green")
        assert sum(len(photo.class_id) for photo in truth.photos) > 0
        runs = chosen.teacher().runs
        assert runs == len(chosen.samples) == chosen.teacher(chosen.search).runs


@pytest.mark.parametrize(("classes", "words"), [(["blue"], "no name in common"), (["blue", "green"], "no photo for")])
def test_labels_that_do_not_fit_the_model_are_set_aside_and_it_is_said(
    classes: list[str], words: str, coco: Path, detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    shutil.copytree(coco / "images", tmp_path / "images")
    table = json.loads((coco / "instances.json").read_text())
    table["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes)]
    for box in table["annotations"]:
        box["category_id"] = 0
    (tmp_path / "instances.json").write_text(json.dumps(table))
    with CalibrationSet.open(tmp_path, detector) as chosen:
        assert chosen.labels(chosen.search) is None
        assert any(words in warning for warning in chosen.report.warnings)


def test_the_same_set_again_is_the_same_and_another_seed_is_another(coco: Path, detector: edge_sdk.Detector) -> None:
    with (
        CalibrationSet.open(coco, detector, seed=1) as one,
        CalibrationSet.open(coco, detector, seed=1) as same,
        CalibrationSet.open(coco, detector, seed=2) as other,
    ):
        assert names(one) == names(same)
        assert (one.digest, one.report) == (same.digest, same.report)
        assert names(one) != names(other)
        assert one.digest != other.digest


def test_the_digest_is_of_the_content_and_not_of_names_and_places(
    coco: Path, detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    shutil.copytree(coco / "images", tmp_path / "elsewhere")
    with (
        CalibrationSet.open(coco / "images", detector) as one,
        CalibrationSet.open(tmp_path / "elsewhere", detector) as moved,
    ):
        assert one.digest == moved.digest
        assert one.digest_of(one.search) == moved.digest_of(reversed(moved.search))
        assert one.digest_of(one.search) != one.digest_of(one.acceptance)
    photo = tmp_path / "elsewhere/img7.png"
    pixels = scene(7).reshape(-1, 3)
    shuffled = pixels[np.random.default_rng(0).permutation(len(pixels))].reshape(scene(7).shape)
    cv2.imwrite(str(photo), shuffled)
    with CalibrationSet.open(tmp_path / "elsewhere", detector) as changed:
        assert changed.digest != one.digest


def test_the_digest_knows_labels_and_how_the_model_is_fed(
    coco: Path, detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    shutil.copytree(coco, tmp_path / "coco")
    text = (coco / "instances.json").read_text()
    (tmp_path / "coco/instances.json").write_text(text.replace("30, 40", "31, 40"))
    card = ModelCard("yolov8", (64, 64), ("red", "green"), std=(254.0, 255.0, 255.0))
    with (
        edge_sdk.Detector(detector.path, threads=1, card=card) as fed_otherwise,
        CalibrationSet.open(coco, detector) as one,
        CalibrationSet.open(tmp_path / "coco", detector) as labelled_otherwise,
        CalibrationSet.open(coco, fed_otherwise) as other,
    ):
        assert len({one.digest, labelled_otherwise.digest, other.digest}) == 3
        assert one.digest_of(one.search) == labelled_otherwise.digest_of(one.search) != other.digest_of(one.search)


def test_feeds_are_what_the_detector_prepares(coco: Path, detector: edge_sdk.Detector) -> None:
    with CalibrationSet.open(coco, detector) as chosen:
        for sample, feeds in zip(chosen.search, chosen.feeds(chosen.search), strict=True):
            own = detector.prepare(cv2.imread(str(sample.path)), detector.new_prepared()).feeds
            np.testing.assert_array_equal(feeds["images"], own["images"])


def test_duplicates_broken_and_absurd_photos_are_left_out_with_the_reason(
    detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    write_scenes(tmp_path, range(4))
    shutil.copy(tmp_path / "img0.png", tmp_path / "z_copy.png")
    cv2.imwrite(str(tmp_path / "z_small.jpg"), cv2.resize(scene(1), (64, 48), interpolation=cv2.INTER_AREA))
    (tmp_path / "z_empty.jpg").write_bytes(b"")
    (tmp_path / "z_text.jpg").write_text("no photo")
    cv2.imwrite(str(tmp_path / "z_dot.png"), scene(1)[:2, :2].copy())
    cv2.imwrite(str(tmp_path / "z_black.png"), np.zeros((50, 50, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    with CalibrationSet.open(tmp_path, detector) as chosen:
        left_out = {one.name: (one.cause, one.reason) for one in chosen.report.left_out}
        assert {name: cause for name, (cause, _) in left_out.items()} == {
            "z_copy.png": "duplicate", "z_small.jpg": "near-duplicate", "z_empty.jpg": "broken",
            "z_text.jpg": "broken", "z_dot.png": "absurd", "z_black.png": "absurd",
        }  # fmt: skip
        assert left_out["z_copy.png"][1] == "the same file as img0.png"
        assert left_out["z_small.jpg"][1] == "nearly the same picture as img1.png"
        assert str(tmp_path) not in json.dumps([one.reason for one in chosen.report.left_out])
        assert (chosen.report.found, chosen.report.looked_at, chosen.report.usable) == (10, 10, 4)
        assert any("2 photos could not be read" in warning for warning in chosen.report.warnings)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_three_photos_are_enough_and_what_they_do_not_allow_is_said(
    count: int, detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    write_scenes(tmp_path, range(count))
    with CalibrationSet.open(tmp_path, detector) as chosen:
        assert min(len(chosen.calibration), len(chosen.search), len(chosen.acceptance)) == 1
        text = "\n".join(chosen.report.warnings)
        assert f"ranges come from {len(chosen.calibration)} picture" in text
        assert "tells no drop from chance" in text


def test_two_photos_and_their_copies_are_too_few(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    write_scenes(tmp_path, [0, 1])
    shutil.copy(tmp_path / "img0.png", tmp_path / "copy.png")
    with pytest.raises(DatasetError, match="2 of the 3 pictures") as error:
        CalibrationSet.open(tmp_path, detector)
    assert "the same file as" in str(error.value)


def test_nothing_that_can_be_read_is_an_error_and_not_an_empty_set(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="the file is empty"):
        CalibrationSet.open(tmp_path, detector)
    with pytest.raises(SourceError):
        CalibrationSet.open(tmp_path / "nothing", detector)
    with pytest.raises(UsageError, match="count"):
        CalibrationSet.open(tmp_path, detector, count=0)


# What somebody's folder may hold of a scene, beside the scene.
COPIES = {
    "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "half": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "mirrored": lambda image: image[:, ::-1].copy(),
    "same": lambda image: image,
}


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(sorted(COPIES))), max_size=10),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_sides_never_share_a_scene_whatever_copies_there_are(
    detector: edge_sdk.Detector,
    tmp_path_factory: pytest.TempPathFactory,
    copies: list[tuple[int, str]],
    count: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    write_scenes(folder, range(4))
    for number, (of, kind) in enumerate(copies):
        cv2.imwrite(str(folder / f"copy{number}.png"), COPIES[kind](scene(of)))
    with CalibrationSet.open(folder, detector, count=count, seed=seed) as chosen:
        sides = [chosen.calibration, chosen.search, chosen.acceptance]
        assert all(sides)
        groups = [{one.group for one in side} for side in sides]
        assert sum(map(len, groups)) == len(set().union(*groups))
        assert len({one.sha256 for one in chosen.samples}) == len(chosen.samples)
        pictures = [look_at(chosen.picture(one), one.path, None, one.sha256) for one in chosen.samples]
        likeness = Likeness(pictures)
        for one, sample in enumerate(chosen.samples):
            alike = np.flatnonzero(likeness.same_scene(one, np.arange(len(pictures))))
            assert {chosen.samples[other].group for other in alike} == {sample.group}


def test_frames_of_one_clip_are_on_one_side_where_there_are_three_clips(
    detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    for clip in range(4):
        write_clip(tmp_path / f"{clip}.avi", [scene(100 * clip + number) for number in range(8)])
    with CalibrationSet.open(tmp_path, detector) as chosen:
        sides = [{one.path for one in side} for side in (chosen.calibration, chosen.search, chosen.acceptance)]
        assert sum(map(len, sides)) == 4
        assert all(sides)
        assert not any("stretches" in warning for warning in chosen.report.warnings)


def test_a_side_that_is_given_more_than_it_wants_chooses_what_stands_for_the_rest(
    detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    write_scenes(tmp_path, range(6))
    write_clip(tmp_path / "long.avi", [scene(100 + number) for number in range(12)])
    with CalibrationSet.open(tmp_path, detector, count=3) as chosen:
        assert [one.path.name for one in chosen.calibration] == ["long.avi"] * 3
        reasons = [one.reason for one in chosen.report.chosen if one.side == "calibration"]
        assert sum(int(reason.split()[2]) for reason in reasons if reason.startswith("stands for")) == 12


def test_one_clip_is_cut_into_stretches_and_the_report_says_so(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    frames = [scene(number // 3) for number in range(60)]  # twenty pictures, each held for three frames
    clip = write_clip(tmp_path / "a.avi", frames)
    with CalibrationSet.open(clip, detector) as chosen:
        assert (chosen.report.layout, chosen.report.found, chosen.report.usable) == ("video", 60, 20)
        (left_out,) = chosen.report.left_out
        assert (left_out.cause, left_out.count) == ("near-duplicate", 40)
        assert any("stretches of the same" in warning for warning in chosen.report.warnings)
        indexes = [sorted(one.index for one in side) for side in (chosen.search, chosen.acceptance)]
        assert max(map(max, indexes)) - min(map(min, indexes)) >= 15
        stretches: dict[int, list[int]] = {}
        for one in chosen.samples:
            stretches.setdefault(one.group, []).append(one.index)
        runs = sorted((min(run), max(run)) for run in stretches.values())
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(runs))
        for sample in chosen.search:
            assert hashlib.sha256(b"(96, 128, 3)" + chosen.picture(sample).tobytes()).hexdigest() == sample.sha256
        folder = chosen.file(chosen.search[0]).parent
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_keeps_frames_and_detections_for_the_next_run(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", [scene(number) for number in range(8)])
    with CalibrationSet.open(clip, detector, folder=tmp_path / "kept") as one:
        assert one.teacher().runs == len(one.samples)
    with CalibrationSet.open(clip, detector, folder=tmp_path / "kept") as again:
        assert again.teacher().runs == 0
        assert again.digest == one.digest
        assert len(list(again.feeds(again.search))) == len(again.search)


def test_a_clip_that_cannot_be_read_is_reported_beside_good_photos(detector: edge_sdk.Detector, tmp_path: Path) -> None:
    write_scenes(tmp_path, range(3))
    (tmp_path / "broken.mp4").write_bytes(b"none")
    with CalibrationSet.open(tmp_path, detector) as chosen:
        assert [(one.name, one.cause) for one in chosen.report.left_out] == [("broken.mp4", "broken")]


def test_progress_counts_up_and_an_error_in_it_ends_the_opening(coco: Path, detector: edge_sdk.Detector) -> None:
    told: list[tuple[str, int, int]] = []
    CalibrationSet.open(coco, detector, progress=lambda *what: told.append(what)).close()
    assert [what for what in told if what[0] == "look at the photos"] == [
        ("look at the photos", number, 20) for number in range(1, 21)
    ]
    assert told[-1] == ("run the float model", 20, 20)

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CalibrationSet.open(coco, detector, progress=stop)
    assert detector.confidence == 0.25


def test_real_photos_are_split_and_described(shared: Path, yolox: Path) -> None:
    photos = photos_in(shared / "data/coco_calib/images")[:40]
    with edge_sdk.Detector(yolox) as detector, CalibrationSet.open(photos, detector, count=12) as chosen:
        assert [len(side) for side in names(chosen).values()] == [12, 11, 17]
        assert chosen.report.usable == chosen.report.groups == 40
        assert chosen.report.left_out == ()
        assert chosen.report.domain.without_detection < 5
        assert next(iter(chosen.report.domain.per_class)) == "person"
        assert not any("finds nothing" in warning for warning in chosen.report.warnings)


def test_photos_of_another_domain_are_said_to_be_unlike_what_the_model_knows(shared: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path, range(6), (200, 300))
    with (
        edge_sdk.Detector(shared / "models/yunet/yunet_n_320_320.onnx") as detector,
        CalibrationSet.open(tmp_path, detector) as chosen,
    ):
        assert any("finds nothing in 6 of 6" in warning for warning in chosen.report.warnings)
