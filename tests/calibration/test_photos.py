"""What a source holds, and what is seen of it in one look."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration import photos
from edge_sdk.errors import BadFrameError, DatasetError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.sources.files import read_photo

from .scenes import scene, write_clip, write_scenes

CARD = ModelCard("yolov8", (64, 64), ("red",))


def test_a_folder_of_photos_is_found_in_natural_order(tmp_path: Path) -> None:
    write_scenes(tmp_path, [10, 2, 1])
    found = photos.find(tmp_path)
    assert [path.name for path in found.photos] == ["img1.png", "img2.png", "img10.png"]
    assert (found.layout, found.clips, found.labels) == ("photos", (), None)
    assert found.shown(found.photos[0]) == "img1.png"


def test_a_glob_goes_into_folders_and_names_are_seen_from_where_all_lie(tmp_path: Path) -> None:
    write_scenes(tmp_path / "day", [1])
    write_scenes(tmp_path / "night", [1])
    found = photos.find(str(tmp_path / "**/*.png"))
    assert [found.shown(path) for path in found.photos] == ["day/img1.png", "night/img1.png"]


def test_clips_in_a_folder_are_found_beside_photos_or_alone(tmp_path: Path) -> None:
    write_clip(tmp_path / "b.avi", [scene(1)] * 3)
    assert photos.find(tmp_path).layout == "video"
    write_scenes(tmp_path, [1])
    found = photos.find(tmp_path)
    assert (found.layout, len(found.photos), len(found.clips)) == ("photos and video", 1, 1)
    assert photos.find(tmp_path / "b.avi").clips == (tmp_path / "b.avi",)


def test_several_sources_are_one_and_none_is_counted_twice(tmp_path: Path) -> None:
    (one,) = write_scenes(tmp_path / "a", [1])
    write_scenes(tmp_path / "b", [2])
    found = photos.find([tmp_path / "a", tmp_path / "b", one])
    assert [found.shown(path) for path in found.photos] == ["a/img1.png", "b/img2.png"]


@pytest.mark.parametrize("source", ["", " ", [], "rtsp://camera/live", "http://user:secret@camera/"])
def test_what_names_no_files_is_refused(source: str | list[str]) -> None:
    with pytest.raises(UsageError) as error:
        photos.find(source)
    assert "secret" not in str(error.value)


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        photos.find(tmp_path / "nothing")
    with pytest.raises(SourceError, match="no photo in this folder"):
        photos.find(tmp_path)


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_labels_are_read_and_broken_ones_are_an_error(layout: str, tmp_path: Path) -> None:
    images = tmp_path / ("JPEGImages" if layout == "voc" else "images")
    write_scenes(images, [1, 2])
    if layout == "coco":
        label = tmp_path / "instances.json"
        table = {
            "images": [{"id": n, "file_name": f"img{n}.png"} for n in (2, 1)],
            "categories": [{"id": 1, "name": "red"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        }
        label.write_text(json.dumps(table))
    elif layout == "yolo":
        (tmp_path / "classes.txt").write_text("red\n")
        (tmp_path / "labels").mkdir()
        label = tmp_path / "labels/img1.txt"
        label.write_text("0 .5 .5 .1 .1\n")
    else:
        (tmp_path / "Annotations").mkdir()
        label = tmp_path / "Annotations/img1.xml"
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        label.write_text(f"<a><filename>img1.png</filename><object><name>red</name><bndbox>{box}</bndbox></object></a>")
    found = photos.find(tmp_path)
    assert found.labels is not None
    assert found.layout == layout.upper()
    assert found.labels.classes == ("red",)
    assert found.photos[0] == images / "img1.png"
    label.write_text("{ broken")
    with pytest.raises(DatasetError):
        photos.find(tmp_path)


def test_photos_beside_labels_can_be_taken_without_them(tmp_path: Path) -> None:
    write_scenes(tmp_path / "images", [1])
    (tmp_path / "instances.json").write_text("broken")
    assert photos.find(tmp_path / "images").labels is None


@given(st.integers(0, 300), st.integers(1, 60))
def test_an_even_sample_keeps_the_order_and_leaves_no_large_gap(count: int, most: int) -> None:
    paths = [Path(str(number)) for number in range(count)]
    sample = [int(path.name) for path in photos.even_sample(paths, most)]
    assert len(sample) == min(count, most)
    assert sample == sorted(set(sample))
    if sample:
        gaps = np.diff([-1, *sample, count])
        assert gaps.max() <= max(1, -(-count // len(sample)))


def test_a_look_remembers_size_content_and_a_small_picture(tmp_path: Path) -> None:
    (path,) = write_scenes(tmp_path, [3], (96, 128))
    look = photos.look_at_photo(path)
    assert look.hw == (96, 128)
    assert (look.thumb.shape, look.thumb.dtype) == ((32, 32, 3), np.uint8)
    assert (look.edges.shape, look.edges.dtype) == ((4, 4, 2), np.float32)
    assert len(look.sha256) == 64


def test_edges_are_seen_where_they_are_and_in_their_direction() -> None:
    image = np.full((128, 128, 3), 40, np.uint8)
    image[:32, ::4] = 200
    edges = photos.look_at(image, Path("a"), None, "").edges
    assert edges[0, :, 0].min() > 50
    assert edges[0, :, 1].max() < edges[0, :, 0].min()
    assert edges[2:].max() == 0


@pytest.mark.parametrize(
    ("hw", "words"),
    [((3, 400), "400x3 pixels are too small"), ((1, 1), "1x1"), ((20, 4000), "would see 64x1"), ((4000, 20), "1x64")],
)
def test_pictures_that_show_nothing_to_the_model_are_absurd(hw: tuple[int, int], words: str) -> None:
    image = cv2.resize(scene(1), hw[::-1], interpolation=cv2.INTER_NEAREST)
    look = photos.look_at(image, Path("a"), None, "")
    assert words in (photos.absurd(look, CARD) or "")


def test_one_colour_is_absurd_and_a_faint_picture_is_not() -> None:
    blank = photos.look_at(np.full((90, 90, 3), 7, np.uint8), Path("a"), None, "")
    faint = photos.look_at((scene(1) // 16).astype(np.uint8), Path("a"), None, "")
    assert "one brightness" in (photos.absurd(blank, CARD) or "")
    assert photos.absurd(faint, CARD) is None


def test_a_model_of_few_pixels_makes_no_photo_absurd() -> None:
    look = photos.look_at(scene(1), Path("a"), None, "")
    assert photos.absurd(look, ModelCard("yolov8", (8, 8), ("red",), resize="stretch")) is None


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff\xe0 cut"])
def test_a_broken_photo_says_why(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadFrameError):
        photos.look_at_photo(path)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 40, 100])
def test_frames_are_spread_over_the_whole_clip(count: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", [scene(number % 20, (32, 32)) for number in range(count)])
    seen = photos.look_through(clip, least=8)
    indexes = [look.index for look in seen.looks]
    assert seen.frames == count
    assert min(count, 8) <= len(indexes) <= 17
    assert indexes[0] == 0
    assert len(set(np.diff(indexes))) <= 1
    assert count - indexes[-1] <= max(1, -(-count // 8))


def test_stored_frames_are_the_clips_own_pixels(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", [scene(number) for number in range(6)])
    looks = photos.look_through(clip).looks
    wanted = {look.index: look.sha256 for look in looks if look.index in (1, 4)}
    folder = tmp_path / "frames"
    folder.mkdir()
    photos.store_frames(clip, wanted, folder)
    stored = [photos.look_at(read_photo(photos.frame_file(folder, key)), clip, None, key) for key in wanted.values()]
    assert [np.array_equal(one.thumb, looks[index].thumb) for one, index in zip(stored, wanted, strict=True)] == [1, 1]
    assert len(list(folder.iterdir())) == 2
    clip.unlink()
    photos.store_frames(clip, wanted, folder)  # they are there: the clip is not read again


def test_a_clip_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", [scene(number) for number in range(4)])
    with pytest.raises(SourceError, match="differs"):
        photos.store_frames(clip, {2: "0" * 64}, tmp_path)
    with pytest.raises(SourceError, match="frame 99 is gone"):
        photos.store_frames(clip, {99: "0" * 64}, tmp_path)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all")
    with pytest.raises(SourceError):
        photos.look_through(path)
