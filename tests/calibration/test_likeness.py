"""What counts as the same picture, as the same scene, and as neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.calibration.likeness import Likeness, groups, leaders
from edge_sdk.calibration.photos import Look, look_at, look_at_photo
from edge_sdk.sources.files import photos_in, read_photo

from .scenes import scene

Change = Callable[[np.ndarray], np.ndarray]


def look(image: np.ndarray) -> Look:
    return look_at(np.ascontiguousarray(image), Path("a.jpg"), None, "0" * 64)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def relation(one: np.ndarray, other: np.ndarray) -> str:
    both = Likeness([look(one), look(other)])
    if leaders(both) == [0, 0]:
        return "nearly the same"
    return "one scene" if groups(both, [0, 1]) == [0, 0] else "apart"


COPIES: dict[str, Change] = {
    "compressed": lambda image: jpeg(image, 15),
    "half as large": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda image: cv2.resize(image, None, fx=3, fy=3),
    "of another shape": lambda image: cv2.resize(image, (100, 100)),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_nearly_the_same(name: str) -> None:
    assert relation(scene(1), COPIES[name](scene(1))) == "nearly the same"


def test_a_copy_that_is_brighter_throughout_is_nearly_the_same_and_one_with_more_contrast_is_of_the_scene() -> None:
    original = (scene(1) // 2 + 40).astype(np.uint8)
    assert relation(original, original + 40) == "nearly the same"
    assert relation(original, scene(1)) == "one scene"


@pytest.mark.parametrize("name", COPIES)
def test_real_photos_copies_are_nearly_the_same(name: str, bear: Path) -> None:
    photo = read_photo(bear)
    assert relation(photo, COPIES[name](photo)) == "nearly the same"


def test_a_mirrored_or_slightly_cut_photo_shows_one_scene(bear: Path) -> None:
    photo = read_photo(bear)
    assert relation(photo, photo[:, ::-1]) == "one scene"
    assert relation(photo, photo[photo.shape[0] // 50 :, photo.shape[1] // 50 :]) != "apart"


def test_somebody_who_walks_through_the_picture_makes_it_another_one_of_the_scene() -> None:
    empty = scene(2, (240, 320))
    walked = empty.copy()
    walked[100:160, 150:170] = 255 - walked[100:160, 150:170] // 2
    assert relation(empty, walked) == "one scene"


def test_two_blank_pictures_are_nearly_the_same_and_noise_does_not_part_them() -> None:
    noise = np.random.default_rng(0).normal(0, 3, (64, 64, 3))
    assert relation(np.full((64, 64, 3), 90, np.uint8), np.clip(92 + noise, 0, 255).astype(np.uint8)) == (
        "nearly the same"
    )


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(sorted(COPIES))), min_size=1, max_size=12))
def test_no_two_that_are_kept_are_nearly_the_same_and_copies_are_in_one_group(made: list[tuple[int, str]]) -> None:
    likeness = Likeness([look(COPIES[name](scene(seed))) for seed, name in made])
    leader = leaders(likeness)
    kept = [one for one, first in enumerate(leader) if one == first]
    for one in kept:
        others = np.array([other for other in kept if other != one], np.intp)
        assert not likeness.nearly_same(one, others).any()
    assert all(leader[first] == first <= one for one, first in enumerate(leader))
    grouped = groups(likeness, range(len(made)))
    assert all(grouped[one] == grouped[first] for one, first in enumerate(leader))


def test_frames_of_a_clip_are_one_group_and_so_is_a_photo_of_its_scene() -> None:
    pictures = [scene(1), scene(2), scene(3), jpeg(scene(2), 40), scene(9)]
    assert groups(Likeness([look(one) for one in pictures]), [-1, -1, 0, 1, 2]) == [0, 0, 1, 0, 2]


def test_nothing_is_like_nothing() -> None:
    assert leaders(Likeness([])) == []
    assert groups(Likeness([]), []) == []


def test_different_real_photos_are_apart(shared: Path) -> None:
    looks = [look_at_photo(path) for path in photos_in(shared / "data/coco_calib/images")[:60]]
    likeness = Likeness(looks)
    assert leaders(likeness) == list(range(60))
    assert groups(likeness, range(60)) == list(range(60))
