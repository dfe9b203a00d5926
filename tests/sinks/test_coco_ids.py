"""Ids of pictures and classes in COCO results."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import DatasetError
from edge_sdk.sinks.coco_ids import Ids, Labels, find_labels, folder_of, is_photo

NAMES = ("person", "car", "dragon")


def labels(path: Path, images: dict[str, int], categories: dict[str, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {
        "images": [{"file_name": name, "id": number} for name, number in images.items()],
        "categories": [{"name": name, "id": number} for name, number in categories.items()],
        "annotations": [],
    }
    path.write_text(json.dumps(table))
    return path


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_without_labels_ids_count_from_one() -> None:
    ids = Ids(NAMES, Path("/photos"), None)
    assert ids.image(0, "/photos/a.jpg") == ({"id": 1, "file_name": "a.jpg"}, False)
    assert ids.image(41, "/photos/deep/b.PNG") == ({"id": 42, "file_name": "deep/b.PNG"}, False)
    assert [ids.category(class_id) for class_id in range(3)] == [1, 2, 3]
    assert ids.categories() == [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}, {"id": 3, "name": "dragon"}]


def test_what_the_labels_name_has_their_id_and_the_rest_counts_on(tmp_path: Path) -> None:
    found = Labels.read(labels(tmp_path / "instances.json", {"a.jpg": 285, "b.jpg": 17}, {" Car ": 3, "person": 1}))
    ids = Ids(NAMES, tmp_path, found)
    assert ids.image(0, f"{tmp_path}/a.jpg") == ({"id": 285, "file_name": "a.jpg"}, True)
    assert ids.image(1, f"{tmp_path}/new.jpg") == ({"id": 287, "file_name": "new.jpg"}, False)
    assert [ids.category(class_id) for class_id in range(3)] == [1, 3, 6]
    assert ids.categories()[-1] == {"id": 6, "name": "dragon"}


def test_a_photo_is_known_by_the_longest_end_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"train/1.jpg": 10, "1.jpg": 11, "val/2.jpg": 12}
    ids = Ids(NAMES, None, Labels.read(labels(tmp_path / "instances.json", images, {"person": 1})))
    assert ids.image(0, "/data/images/train/1.jpg")[0]["id"] == 10
    assert ids.image(0, "/data/images/test/1.jpg")[0]["id"] == 11
    assert ids.image(0, "/data/images/2.jpg") == ({"id": 13, "file_name": "/data/images/2.jpg"}, False)
    (tmp_path / "val").mkdir()
    monkeypatch.chdir(tmp_path / "val")
    assert ids.image(0, "2.jpg") == ({"id": 12, "file_name": "val/2.jpg"}, True)


def test_a_class_that_the_model_has_no_name_for_has_an_id_all_the_same() -> None:
    ids = Ids(NAMES, None, None)
    assert ids.category(80) == 81
    assert ids.categories()[-1] == {"id": 81, "name": "class 80"}


def test_the_last_of_two_categories_of_one_name_counts(tmp_path: Path) -> None:
    path = labels(tmp_path / "instances.json", {}, {"Person": 0, "person": 4})
    assert Ids(NAMES, None, Labels.read(path)).category(0) == 4


def test_frames_of_a_video_are_named_by_their_number() -> None:
    image, known = Ids(NAMES, None, None).image(7, "street.mp4")
    assert not known
    assert image == {"id": 8, "file_name": "frame_000007.jpg", "source": "street.mp4", "frame": 7}


def test_labels_without_a_class_of_the_models_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Ids(NAMES, None, Labels.read(labels(tmp_path / "instances.json", {}, {"zebra": 1})))
    assert "names no class of the model's" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "list indices"),
        ("{}", "there is no 'categories'"),
        ("{", "broken COCO labels"),
        ('{"categories": [{"id": "one", "name": "a"}], "images": []}', "invalid literal"),
        ('{"categories": [], "images": [{"id": 1}]}', "there is no 'file_name'"),
        ("[" * 100_000, "broken COCO labels"),
    ],
)
def test_broken_labels_are_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(DatasetError, match=reason):
        Labels.read(tmp_path / "instances.json")


@pytest.mark.parametrize(
    ("where", "photos"),
    [
        ("instances.json", "images"),
        ("annotations.json", "images"),
        ("annotations/instances.json", "images"),
        ("images/instances.json", "images"),
        ("instances.json", "images/train"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("images/train/annotations.json", "images/train"),
    ],
)
def test_labels_lie_beside_the_photos_or_their_folder(tmp_path: Path, where: str, photos: str) -> None:
    path = labels(tmp_path / where, {}, {})
    if "val2017" in where:
        labels(path.with_name("instances_train2017.json"), {}, {})
    one = photo(tmp_path / photos / "a.jpg")
    for source in (one.parent, str(one.parent), f"{one.parent}/", one, f"{one.parent}/*.jpg", f"{one.parent}/*/*.jpg"):
        assert find_labels(source) == path, source


def test_a_folder_of_another_name_does_not_have_its_neighbours_labels(tmp_path: Path) -> None:
    labels(tmp_path / "instances.json", {}, {})
    assert find_labels(photo(tmp_path / "holiday/a.jpg").parent) is None


def test_several_label_files_are_told_and_none_is_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("instances_a.json", "instances_b.json"):
        labels(tmp_path / "annotations" / name, {}, {})
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        assert find_labels(photo(tmp_path / "images/a.jpg").parent) is None
    assert "several label files, none named after" in caplog.text


def test_what_is_no_photo_has_no_labels_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels(tmp_path / "instances.json", {}, {})
    monkeypatch.chdir(tmp_path)
    for source in ("0", "street.mp4", "rtsp://camera/1.jpg", "csi:0", "demo"):
        assert find_labels(source) is None
        assert folder_of(source) is None
    assert folder_of("ph*/x.jpg") == tmp_path
    assert folder_of("a/b*.jpg") == tmp_path / "a"


def test_a_frames_source_says_whether_it_is_a_photo() -> None:
    assert is_photo("photos/a.JPG")
    assert not is_photo("street.mp4")
    assert not is_photo("http://***@camera/still.jpg")
    assert not is_photo("/dev/video0")
