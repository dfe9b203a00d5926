"""Boxes, names, landmarks, zones and lines on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import Detections
from edge_sdk.sinks.draw import draw, draw_counters
from edge_sdk.zones import Counters, Line, Zone, parse_line

NAMES = ("person", "cat")


def one(xyxy, class_id: int = 0, confidence: float = 0.5, **more) -> Detections:
    return Detections(
        np.array([xyxy], np.float32), np.array([confidence], np.float32), np.array([class_id], np.int32), **more
    )


def blank(height: int = 200, width: int = 300) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def painted(image: np.ndarray) -> np.ndarray:
    """Where something was drawn."""
    return image.any(axis=2)


def test_it_draws_on_the_picture_itself_and_returns_it() -> None:
    image = blank()
    assert draw(image, one((50, 60, 150, 160)), NAMES) is image
    assert painted(image).any()


def test_nothing_found_draws_nothing() -> None:
    assert not painted(draw(blank(), Detections.empty(), NAMES)).any()


def test_the_frame_lies_on_the_box_and_leaves_the_inside_free() -> None:
    drawn = painted(draw(blank(), one((50, 60, 150, 160)), NAMES))
    assert drawn[160, 50:151].all()
    assert drawn[60:161, 50].all()
    assert drawn[60:161, 150].all()
    assert not drawn[65:155, 55:145].any()
    assert not drawn[165:].any()


def test_a_box_that_fills_the_picture_shows_all_four_sides() -> None:
    drawn = painted(draw(blank(), one((0, 0, 300, 200)), NAMES))
    assert drawn[0].all()
    assert drawn[-1].all()
    assert drawn[:, 0].all()
    assert drawn[:, -1].all()


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.floats(width=32), min_size=4, max_size=4),
    st.integers(1, 60),
    st.integers(1, 60),
    st.text(max_size=300),
    st.integers(-3, 3),
)
def test_any_box_and_name_draw_inside_any_picture(xyxy, height: int, width: int, name: str, class_id: int) -> None:
    around = np.full((height + 40, width + 40, 3), 7, np.uint8)
    marks = np.array([[xyxy[:2], xyxy[2:]]], np.float32)
    draw(around[20:-20, 20:-20], one(xyxy, class_id, landmarks=marks), (name,))
    inside = np.zeros(around.shape, bool)
    inside[20:-20, 20:-20] = True
    assert (around[~inside] == 7).all()


def test_landmarks_are_dots_and_those_outside_are_left_out() -> None:
    marks = np.array([[[100, 100], [-50, 100], [100, 1000]]], np.float32)
    plain = painted(draw(blank(), one((50, 60, 150, 160)), NAMES))
    dotted = painted(draw(blank(), one((50, 60, 150, 160), landmarks=marks), NAMES))
    extra = np.argwhere(dotted & ~plain)
    assert len(extra) > 4
    assert (np.abs(extra - [100, 100]) <= 5).all()


def label_of(names: tuple[str, ...], class_id: int = 0, **more) -> np.ndarray:
    """The picture of a label alone."""
    return draw(blank(100, 900), one((20, 50, 80, 90), class_id, **more), names)[:50]


@pytest.mark.parametrize(("name", "shown"), [
    ("Hündin", "Hundin"), ("Fußgänger", "Fussganger"), ("Øl", "Ol"), ("café", "cafe"), ("ﬁre truck", "fire truck"),
    ("person\n\x00\x1b[31m", "person[31m"), ("人", "class 0"), ("🚗", "class 0"), ("", "class 0"), ("???", "class 0"),
    ("x" * 5000, "x" * 60),
])  # fmt: skip
def test_names_beyond_the_drawing_font_stay_readable(name: str, shown: str) -> None:
    assert np.array_equal(label_of((name,)), label_of((shown,)))


@pytest.mark.parametrize("class_id", [2, 99, -1])
def test_a_class_without_a_name_shows_its_id(class_id: int) -> None:
    names = (*NAMES, *[""] * 3) if class_id == 2 else NAMES
    named = draw(blank(100, 900), one((20, 50, 80, 90), class_id), names)
    other = draw(blank(100, 900), one((20, 50, 80, 90), class_id), ())
    assert np.array_equal(named, other)


def test_a_track_is_part_of_the_label() -> None:
    assert not np.array_equal(label_of(NAMES), label_of(NAMES, track_id=np.array([4], np.int64)))


def test_a_box_that_has_no_track_yet_shows_no_number() -> None:
    assert np.array_equal(label_of(NAMES), label_of(NAMES, track_id=np.array([-1], np.int64)))


@pytest.mark.parametrize("xyxy", [(0, 0, 50, 50), (250, 0, 300, 40), (250, 150, 300, 200), (0, 195, 40, 200)])
def test_a_label_is_whole_wherever_the_box_is(xyxy) -> None:
    wide = painted(draw(blank(200, 300), one((100, 100, 110, 110)), NAMES)).sum()
    there = painted(draw(blank(200, 300), one(xyxy), NAMES))
    # The label alone has more pixels than the frame of a small box.
    assert there.sum() > 0.8 * wide - 40


def test_the_best_box_is_drawn_over_the_others() -> None:
    both = Detections(
        np.array([[50, 60, 150, 160]] * 2, np.float32), np.array([0.9, 0.4], np.float32), np.array([0, 1], np.int32)
    )
    image, best = draw(blank(), both, NAMES), draw(blank(), one((50, 60, 150, 160), 0, 0.9), NAMES)
    assert np.array_equal(image[61:161], best[61:161])


def test_letters_stand_out_from_their_bar_in_every_colour() -> None:
    for class_id in range(7):
        label = draw(blank(100, 300), one((20, 50, 80, 90), class_id), ("x",) * 7)[:50]
        bar = label[painted(label)]
        luma = bar @ np.array([0.114, 0.587, 0.299])
        assert luma.max() - luma.min() > 90, class_id


SQUARE = Zone("queue", ((100, 60), (200, 60), (200, 160), (100, 160)))


def test_a_zone_is_outlined_and_lightly_filled_in_place() -> None:
    image = np.full((200, 300, 3), 100, np.uint8)
    assert draw_counters(image, [SQUARE], [], {"queue": 2}) is image
    colour = image[160, 150].astype(int)
    inside = image[80:150, 110:190].reshape(-1, 3).astype(int)
    assert np.abs(colour - 100).max() > 40
    assert (np.abs(inside - (100 + 0.2 * (colour - 100))) <= 1).all()
    assert (image[170:] == 100).all()
    assert (image[:, 210:] == 100).all()


def test_a_zone_in_fractions_lies_where_the_same_one_in_pixels_does() -> None:
    halves = Zone("queue", ((0.25, 0.5), (0.75, 0.5), (0.5, 1)))
    pixels = Zone("queue", ((75, 100), (225, 100), (150, 200)))
    one, other = (draw_counters(blank(), [zone], [], {}) for zone in (halves, pixels))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("text", [
    "door=150,20 150,180", "door=150,180 150,20", "door=60,100 240,100", "door=240,100 60,100", "door=60,30 240,180",
])  # fmt: skip
def test_the_arrow_of_a_line_points_where_walking_counts_as_in(text: str) -> None:
    line = parse_line(text)
    middle = (np.array(line.start) + line.end) / 2
    near = painted(draw_counters(blank(), [], [line], {}))
    rows, columns = np.nonzero(near)
    points = np.stack([columns, rows], axis=1)
    points = points[np.linalg.norm(points - middle, axis=1) < 20]  # the arrow, and as much of the line on either side
    ahead = points.mean(axis=0) - middle
    assert np.linalg.norm(ahead) > 2
    ahead *= 40 / np.linalg.norm(ahead)
    counters = Counters(lines=[line])
    for x, y in (middle - ahead, middle - ahead, middle + ahead, middle + ahead):
        counters.update(one((x - 1, y - 2, x + 1, y), track_id=np.array([1], np.int64)), (200, 300))
    assert counters.counts == {"door in": 1, "door out": 0}


def test_the_counts_are_part_of_the_labels() -> None:
    door = Line("door", (20, 190), (280, 190))
    pictures = [
        draw_counters(blank(), [SQUARE], [door], counts)
        for counts in ({}, {"queue": 2}, {"queue": 3}, {"door in": 1, "door out": 0}, {"door in": 0, "door out": 1})
    ]
    for index, picture in enumerate(pictures):
        assert not any(np.array_equal(picture, other) for other in pictures[:index])


def test_a_zone_whose_name_cannot_be_drawn_shows_its_number() -> None:
    one_, other = (draw_counters(blank(), [Zone(name, SQUARE.polygon)], [], {}) for name in ("列", "zone 1"))
    assert np.array_equal(one_, other)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=3, max_size=3, unique=True),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_any_zone_and_line_draw_inside_any_picture(corners, height: int, width: int) -> None:
    (ax, ay), (bx, by), (cx, cy) = corners
    flat = (bx - ax) * (cy - ay) == (by - ay) * (cx - ax)
    around = np.full((height + 40, width + 40, 3), 7, np.uint8)
    line = Line("a long name for a line", corners[0], corners[1])
    zones = [] if flat else [Zone("z", tuple(corners))]
    draw_counters(around[20:-20, 20:-20], zones, [line], {"z": 1})
    inside = np.zeros(around.shape, bool)
    inside[20:-20, 20:-20] = True
    assert (around[~inside] == 7).all()


def test_what_is_far_outside_the_picture_is_no_error() -> None:
    far = Zone("far", ((1e300, 0), (1e300, 50), (0, 50)))
    draw_counters(blank(), [far], [Line("far", (0, 0), (1e12, 1e12))], {})
