"""Faces in real photos, after which no detector finds them any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk import Detections, Detector, Frame, Result, Timing
from edge_sdk.blur import MOST_CONFIDENCE, FaceBlur
from edge_sdk.errors import BackendError, UsageError

FACE = ("person", "face")


def faces(*boxes: tuple[float, float, float, float], class_id: int = 1) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4), np.full(n, 0.8, np.float32), np.full(n, class_id, np.int32)
    )


def result(image: NDArray[np.uint8], detections: Detections | None = None, *, source: str = "camera") -> Result:
    """With a picture that nobody may write into, as the camera's are meant."""
    image.flags.writeable = False
    return Result(Frame(image, 0, source, 1), detections or Detections.empty(), Timing(0, 0, 0, 0, 0))


def noise(height: int = 200, width: int = 300, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def yunet(shared: Path) -> Path:
    return shared / "models/yunet/yunet_n_320_320.onnx"


@pytest.fixture(scope="module")
def finder(yunet: Path) -> Iterator[Detector]:
    with Detector(yunet, confidence=MOST_CONFIDENCE) as detector:
        yield detector


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    """Every third validation photo with faces boxed by hand: streets, trains, crowds, many of the faces masked."""
    notes = json.loads((shared / "data/people/annotations.json").read_text(encoding="utf-8"))
    (face,) = [one["id"] for one in notes["categories"] if one["name"] == "face"]
    boxed = {one["image_id"] for one in notes["annotations"] if one["category_id"] == face and not one["pseudo"]}
    names = [one["file_name"] for one in notes["images"] if one["split"] == "val" and one["id"] in boxed]
    found = []
    for name in names[::3]:
        image = cv2.imread(str(shared / "data/people" / name))
        assert image is not None
        found.append((name, image))
    return found


def test_in_real_photos_no_detector_finds_a_face_where_one_was_blurred(
    photos: list[tuple[str, NDArray[np.uint8]]], finder: Detector, shared: Path
) -> None:
    blur = FaceBlur(("person",), finder)
    blurred_faces, before, after = 0, 0, 0
    with (
        Detector(finder.path, confidence=0.5) as same,
        Detector(shared / "models/ultraface/version-RFB-320.onnx", confidence=0.5) as other,
    ):
        for name, image in photos:
            places = finder(image).xyxy
            centres = (places[:, :2] + places[:, 2:]) / 2
            hidden = blur(result(image, source=name)).frame.image
            blurred_faces += len(places)
            for judge in (same, other):
                before += sum(bool(_holds(judge(image).xyxy, centre)) for centre in centres)
                after += sum(bool(_holds(judge(hidden).xyxy, centre)) for centre in centres)
    assert len(photos) >= 25
    assert blurred_faces >= 100
    assert before >= blurred_faces  # of twice as many
    assert after == 0


def _holds(boxes: NDArray[np.float32], point: NDArray[np.float32]) -> bool:
    return bool(((boxes[:, :2] <= point) & (point <= boxes[:, 2:])).all(axis=1).any())


def test_faces_of_the_cameras_own_model_are_blurred_and_nothing_else() -> None:
    image = noise()
    found = FaceBlur(FACE, margin=0.25)(result(image, faces((100, 50, 140, 90)))).frame.image
    inside = np.zeros(image.shape[:2], bool)
    inside[40:100, 90:150] = True
    assert np.array_equal(found[~inside], image[~inside])
    assert np.ptp(found[inside], axis=0).max() < 40  # of 255: the averages of noise are grey
    people = faces((0, 0, 300, 200), class_id=0)
    assert np.array_equal(FaceBlur(FACE)(result(image, people)).frame.image, image)


def test_both_detectors_faces_are_blurred(photos: list[tuple[str, NDArray[np.uint8]]], finder: Detector) -> None:
    name, image = photos[0]
    box = finder(image).xyxy[0].astype(int)
    corner = faces((0, 0, 12, 12))
    found = FaceBlur(FACE, finder)(result(image.copy(), corner, source=name)).frame.image
    for left, top, right, bottom in (box, (0, 0, 12, 12)):
        assert not np.array_equal(found[top:bottom, left:right], image[top:bottom, left:right])


def test_the_cameras_buffer_is_never_written_and_a_picture_without_faces_is_not_copied() -> None:
    image = noise()
    before = image.copy()
    blur = FaceBlur(FACE)
    empty = result(image)
    assert blur(empty) is empty
    given_ = result(image, faces((10, 10, 90, 90)))
    found = blur(given_)
    assert np.array_equal(image, before)
    assert not np.shares_memory(found.frame.image, image)
    assert (found.detections, found.timing, found.frame.id) == (given_.detections, given_.timing, given_.frame.id)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30))
def test_a_blurred_face_depends_on_nothing_but_its_quarters_averages(seed: int, half_w: int, half_h: int) -> None:
    # Whoever's pixels are in a quarter, in whatever order: what is seen is the same, so nothing leads back.
    first = noise(2 * half_h, 2 * half_w, seed)
    second = first.copy()
    for top in (0, half_h):
        for left in (0, half_w):
            quarter = second[top : top + half_h, left : left + half_w]
            quarter[:] = np.random.default_rng(seed).permutation(quarter.reshape(-1, 3)).reshape(quarter.shape)
    blur = FaceBlur(FACE, margin=0)
    whole = faces((0, 0, 2 * half_w, 2 * half_h))
    one, other = (blur(result(image, whole)).frame.image for image in (first, second))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("box", [
    (-50, -50, 20, 20), (290, 190, 400, 400), (100, 100, 100.5, 100.5), (100, 100, 100, 130), (0, 0, 300, 200),
    (-1e9, -1e9, 1e9, 1e9), (400, 300, 500, 400), (299, 199, 300, 200),
])  # fmt: skip
def test_a_box_of_any_size_and_place_is_blurred_where_it_is_in_the_picture(box: tuple[float, ...]) -> None:
    image = noise()
    found = FaceBlur(FACE, margin=0)(result(image, faces(box))).frame.image
    outside = np.ones(image.shape[:2], bool)
    left, top, right, bottom = (max(0, int(value)) for value in box)
    outside[top : bottom + 1, left : right + 1] = False
    assert np.array_equal(found[outside], image[outside])


def test_a_box_that_is_no_number_is_an_error_not_a_face_that_is_shown() -> None:
    with pytest.raises(ValueError, match="NaN"):
        FaceBlur(FACE)(result(noise(), faces((10, float("nan"), 20, 20))))


def test_what_fails_in_the_second_detector_is_raised(yunet: Path) -> None:
    detector = Detector(yunet)
    blur = FaceBlur(("person",), detector)
    detector.close()
    with pytest.raises(BackendError):
        blur(result(noise()))


def test_an_empty_picture_stays_one() -> None:
    given_ = result(noise(), faces((1, 1, 9, 9))).without_image()
    assert FaceBlur(FACE)(given_) is given_


def changed(found: Result, image: NDArray[np.uint8], left: int, top: int) -> bool:
    """Whether the 40x40 pixels there are blurred."""
    part = (slice(top, top + 40), slice(left, left + 40))
    return not np.array_equal(found.frame.image[part], image[part])


def test_a_face_that_is_lost_for_some_frames_stays_blurred() -> None:
    image = noise()
    blur = FaceBlur(FACE, hold_frames=3)
    blur(result(image, faces((100, 50, 140, 90))))
    held = [changed(blur(result(image)), image, 100, 50) for _ in range(5)]
    assert held == [True, True, True, False, False]


def test_a_face_that_walks_leaves_no_trail() -> None:
    image = noise()
    blur = FaceBlur(FACE, margin=0)
    for step in range(12):
        found = blur(result(image, faces((20 + 15 * step, 50, 60 + 15 * step, 90))))
    assert changed(found, image, 20 + 15 * 11, 50)
    assert not changed(found, image, 20, 50)


def test_another_face_that_is_found_does_not_show_the_one_that_is_lost() -> None:
    image = noise()
    blur = FaceBlur(FACE)
    blur(result(image, faces((20, 50, 60, 90), (200, 50, 240, 90))))
    found = blur(result(image, faces((20, 50, 60, 90))))
    assert changed(found, image, 20, 50)
    assert changed(found, image, 200, 50)


@pytest.mark.parametrize("change", ["source", "size"])
def test_the_next_photo_is_not_blurred_where_the_last_had_a_face(change: str) -> None:
    image = noise()
    blur = FaceBlur(FACE)
    blur(result(image, faces((100, 50, 140, 90)), source="a.jpg"))
    other = image if change == "source" else noise(210, 310)
    then = blur(result(other, source="b.jpg" if change == "source" else "a.jpg"))
    assert np.array_equal(then.frame.image, other)


def test_without_anything_that_finds_faces_it_says_what_to_name() -> None:
    with pytest.raises(UsageError, match="no class 'face'; name a second model that finds faces"):
        FaceBlur(("person", "dog"))


def test_a_filter_that_leaves_faces_out_is_an_error() -> None:
    with pytest.raises(UsageError, match="leaves out its class 'face'"):
        FaceBlur(FACE, classes=[0])
    FaceBlur(FACE, classes=[0, 1])


def test_a_detector_that_keeps_only_sure_faces_is_an_error(yunet: Path) -> None:
    with pytest.raises(UsageError, match=r"from a confidence of 0\.5 on.*set it to 0\.3 or less"):
        FaceBlur(FACE, confidence=0.5)
    with Detector(yunet, confidence=0.5) as sure, pytest.raises(UsageError, match=r"yunet_n_320_320\.onnx.*0\.5"):
        FaceBlur(FACE, sure)
    with Detector(yunet) as finder:
        FaceBlur(FACE, finder, confidence=0.9)  # the second finds what the first leaves


def test_a_second_detector_that_finds_no_faces_is_an_error(yolox: Path) -> None:
    with Detector(yolox) as people, pytest.raises(UsageError, match=r"yolox_nano\.onnx finds no class 'face'"):
        FaceBlur(("person",), people)


@pytest.mark.parametrize("names", [("Face",), ("person", " human face ")])
def test_a_face_may_be_written_otherwise(names: tuple[str, ...]) -> None:
    image = noise()
    found = FaceBlur(names)(result(image, faces((100, 50, 140, 90), class_id=len(names) - 1)))
    assert changed(found, image, 100, 50)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"margin": -0.1}, "margin"), ({"margin": float("inf")}, "margin"), ({"hold_frames": -1}, "hold_frames"),
])  # fmt: skip
def test_an_argument_out_of_range_is_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FaceBlur(FACE, **wrong)  # type: ignore[arg-type]
