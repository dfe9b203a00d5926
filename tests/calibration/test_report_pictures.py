"""Photos with boxes before and after."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_sdk.calibration.report_pictures import Example, differences, drawn, telling
from edge_sdk.detections import Detections
from edge_sdk.errors import UsageError

from .scenes import scene


def found(*boxes: tuple[float, float, int]) -> Detections:
    """Boxes of 30 x 30 pixels: (score, left, class)."""
    return Detections(
        np.array([[left, 20, left + 30, 50] for _, left, _ in boxes], np.float32).reshape(-1, 4),
        np.array([score for score, _, _ in boxes], np.float32),
        np.array([kind for _, _, kind in boxes], np.int32),
    )


def pixels(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_photos_that_differ_most_come_first_then_typical_ones() -> None:
    pytest.importorskip("scipy", reason="scipy is not installed")
    before = [found((0.9, 10, 0))] * 9 + [found()]
    scores = [0.9, 0.9, 0.1, 0.85, 0.8, 0.5, 0.88, 0.89, 0.7]
    after = [found((score, 10, 0)) for score in scores] + [found()]
    chosen = telling(before, after)
    assert [place for place, why in chosen if why == "largest difference"] == [2, 5, 8, 4]
    typical = [place for place, why in chosen if why == "typical"]
    assert len(typical) == 2
    assert 9 not in typical  # nothing is found there
    assert telling(before, before)[0][1] == "typical"
    assert telling([], []) == ()
    assert [why for _, why in telling(before[:1], after[2:3])] == ["largest difference"]


def test_boxes_are_drawn_where_they_are_on_a_smaller_picture() -> None:
    image = np.full((900, 1200, 3), 200, np.uint8)
    kept = image.copy()
    big = Detections(np.array([[600, 450, 1000, 800]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
    made = pixels(drawn(image, big, ["person"]))
    assert (image == kept).all()
    assert made.shape == (420, 560, 3)
    assert np.abs(made[300, 280].astype(int) - 200).max() > 40  # the left edge, at 600 * 560 / 1200
    assert np.abs(made[300, 350].astype(int) - 200).max() < 20  # within the box
    small = Detections(big.xyxy, np.array([0.2], np.float32), big.class_id)
    assert np.abs(pixels(drawn(image, small, ["person"])).astype(int) - 200).max() < 20


def test_a_picture_stays_small_whatever_it_shows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    assert len(drawn(noise, found(), [])) < 110_000
    assert len(drawn(scene(1, (480, 640)), found((0.9, 10, 0)), [])) <= 64 << 10
    assert pixels(drawn(np.zeros((1, 3000, 3), np.uint8), found(), [])).shape == (1, 560, 3)


def test_what_changed_is_said() -> None:
    def said(before: Detections, after: Detections) -> str:
        return differences(Example("a", scene(1), before, after), ["person", "car"])

    assert said(found((0.9, 10, 0)), found((0.85, 12, 0))) == (
        "1 box in float, 1 in the pick; scores moved by 0.05 at most"
    )
    assert said(found((0.9, 10, 0), (0.3, 60, 1)), found((0.9, 10, 1))) == (
        "2 boxes in float, 1 in the pick; lost: person 0.90, car 0.30; new: car 0.90"
    )
    assert said(found((0.2, 10, 0)), found()) == "0 boxes in float, 0 in the pick"
    many = found(*((0.9 - place / 100, 40.0 * place, 7) for place in range(6)))
    assert said(many, found()).endswith("lost: class 7 0.90, class 7 0.89, class 7 0.88, class 7 0.87 and 2 more")


def test_an_example_is_a_colour_picture() -> None:
    with pytest.raises(UsageError, match="an example is uint8"):
        Example("a", np.zeros((4, 4), np.uint8), found(), found())
