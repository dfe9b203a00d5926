"""Zones and lines as they are written, and what they count."""

from __future__ import annotations

import logging
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import Detections
from edge_sdk.errors import MissingDependencyError, UsageError
from edge_sdk.zones import Counters, Line, Zone, parse_line, parse_zone

HW = (400, 600)
SQUARE = Zone("queue", ((100, 100), (300, 100), (300, 300), (100, 300)))


def standing(*feet: tuple[float, float], ids: list[int] | None = None, class_id: int = 0) -> Detections:
    """People 40 wide and 90 tall who stand at these points."""
    n = len(feet)
    return Detections(
        np.array([[x - 20, y - 90, x + 20, y] for x, y in feet], np.float32).reshape(n, 4),
        np.full(n, 0.8, np.float32),
        np.full(n, class_id, np.int32),
        None if ids is None else np.array(ids, np.int64),
    )


def walk(counters: Counters, *feet: tuple[float, float] | None, track: int = 1) -> dict[str, int]:
    """One who stands at each point for two frames; None is a frame without them."""
    for place in feet:
        if place is None:
            counters.update(standing(ids=[]), HW)
        else:
            for _ in range(2):
                counters.update(standing(place, ids=[track]), HW)
    return dict(counters.counts)


# How zones and lines are written


def test_a_zone_is_a_name_and_its_corners() -> None:
    zone = parse_zone("queue=100,200 400,200 400,600 100,600")
    assert zone == Zone("queue", ((100, 200), (400, 200), (400, 600), (100, 600)))
    assert zone.pixels(HW).tolist() == [[100, 200], [400, 200], [400, 600], [100, 600]]


def test_a_line_is_a_name_a_start_and_an_end() -> None:
    line = parse_line(" front door = 0.5,0  0.5,1 ")
    assert line == Line("front door", (0.5, 0), (0.5, 1))
    assert line.pixels(HW).tolist() == [[300, 0], [300, 400]]


def test_where_no_value_is_above_1_they_are_fractions() -> None:
    assert parse_zone("all=0,0 1,0 1,1 0,1").pixels((720, 1280)).tolist() == [[0, 0], [1280, 0], [1280, 720], [0, 720]]
    assert parse_zone("dot=0,0 2,0 2,2 0,2").pixels((720, 1280)).max() == 2


def test_an_outline_that_is_closed_by_hand_is_the_same() -> None:
    assert parse_zone("a=0,0 9,0 9,9 0,0") == parse_zone("a=0,0 9,0 9,9")


@pytest.mark.parametrize(("text", "message"), [
    ("0,0 1,0 1,1", "no name"), ("=0,0 1,0 1,1", "needs a name"), ("  =0,0 1,0 1,1", "needs a name"),
    ("a\nb=0,0 1,0 1,1", "can be shown"), ("a=", "3 corners or more, not 0"), ("a=0,0 9,9", "3 corners or more, not 2"),
    ("a=0,0 9,0 0,0", "3 corners or more, not 2"), ("a=0,0 9,0 x,9", "'x,9' is no point"),
    ("a=0,0 9,0 9", "'9' is no point"), ("a=0,0 9,0 9,9,9", "'9,9,9' is no point"), ("a=0,0 5,5 9,9", "one line"),
    ("a=0.1,0.1 0.2,0.2 0.3,0.3", "one line"), ("a=0,0 9,9 9,0 0,9", "crosses itself"),
    ("a=0,0 9,0 9,9 9,0", "crosses itself"), ("a=0,0 9,0 9,9 5,0 0,9", "crosses itself"),
    ("a=0,0 9,0 9,0 9,9", "crosses itself"), ("a=-1,0 9,0 9,9", "-1 is outside every picture"),
    ("a=nan,0 9,0 9,9", "nan is outside"), ("a=inf,0 9,0 9,9", "inf is outside"),
    ("a=0.5,0 9,0 9,9", "mixes fractions"), ("a=0.5,0 0.5,1.2 0,1", "mixes fractions"),
])  # fmt: skip
def test_what_is_no_zone_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        parse_zone(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "message"), [
    ("0.5,0 0.5,1", "no name"), ("door=0.5,0", "not 1 points"), ("door=0,0 5,5 9,9", "not 3 points"),
    ("door=5,5 5,5", "starts where it ends"), ("door=0,0 0,-1", "outside every picture"),
    ("door=0,0;5,5", "no point"), ("door=0.5,0 0.5,400", "mixes fractions"),
])  # fmt: skip
def test_what_is_no_line_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_line(text)


def test_points_that_are_no_pairs_of_numbers_are_said() -> None:
    with pytest.raises(UsageError, match="pairs of numbers"):
        Zone("a", ((1, 2), (3, 4, 5), (6, 7)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pairs of numbers"):
        Line("a", (1, 2), ("x", 3))  # type: ignore[arg-type]


@given(st.lists(st.floats(1, 50), min_size=4, max_size=12), st.data())
def test_corners_in_order_are_a_zone_and_two_of_them_exchanged_are_none(
    radii: list[float], data: st.DataObject
) -> None:
    # Round a point, each in its own direction: such an outline never crosses itself.
    n = len(radii)
    corners = [
        (60 + r * math.cos(2 * math.pi * i / n), 60 + r * math.sin(2 * math.pi * i / n)) for i, r in enumerate(radii)
    ]
    assert len(Zone("star", tuple(corners)).polygon) == n
    # On a circle, exchanging two neighbours always makes two sides cross.
    circle = [(60 + 50 * math.cos(2 * math.pi * i / n), 60 + 50 * math.sin(2 * math.pi * i / n)) for i in range(n)]
    i = data.draw(st.integers(0, n - 1))
    circle[i], circle[(i + 1) % n] = circle[(i + 1) % n], circle[i]
    with pytest.raises(UsageError, match="crosses itself"):
        Zone("knot", tuple(circle))


# Zones


def test_a_zone_counts_who_stands_in_it_now() -> None:
    counters = Counters([SQUARE])
    assert counters.counts == {"queue": 0}
    # The second reaches into it with the head alone.
    assert counters.update(standing((200, 200), (200, 350), (290, 110)), HW) == {"queue": 2}
    assert counters.update(standing((200, 350)), HW) == {"queue": 0}
    assert counters.update(standing((110, 110)), HW) == {"queue": 1}
    assert counters.update(Detections.empty(), HW) == {"queue": 0}


def test_zones_may_overlap_and_need_no_tracking() -> None:
    counters = Counters([SQUARE, Zone("all", ((0, 0), (1, 0), (1, 1), (0, 1)))])
    assert counters.update(standing((200, 200), (500, 390)), HW) == {"queue": 1, "all": 2}


@pytest.mark.parametrize("zone", ["z=0,0 1,0 1,1 0,1", "z=0,0 600,0 600,400 0,400", "z=0,0 599,0 599,399 0,399"])
@pytest.mark.parametrize("box", [(0, 300, 40, 400), (560, 300, 600, 400), (0, 0, 600, 400), (0, 0, 2, 2)])
def test_a_zone_to_the_edge_holds_boxes_that_end_there(zone: str, box: tuple[int, ...]) -> None:
    found = Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    assert Counters([parse_zone(zone)]).update(found, HW) == {"z": 1}


def test_only_the_classes_asked_for_are_counted() -> None:
    counters = Counters([SQUARE], [Line("door", (450, 0), (450, 400))], classes=[2])
    for x in (400, 400, 500, 500):
        counters.update(standing((x, 200), ids=[1], class_id=0), HW)
    assert counters.update(standing((200, 200), ids=[1], class_id=0), HW) == {"queue": 0, "door in": 0, "door out": 0}
    for x in (200, 200, 500, 500):
        counters.update(standing((x, 200), ids=[2], class_id=2), HW)
    assert counters.update(standing((200, 200), ids=[3], class_id=2), HW) == {"queue": 1, "door in": 1, "door out": 0}


# Lines


@pytest.mark.parametrize(("line", "inwards"), [
    ("door=300,50 300,350", [(200, 200), (400, 200)]),  # drawn downwards: "in" is to the right
    ("door=300,350 300,50", [(400, 200), (200, 200)]),
    ("door=100,200 500,200", [(300, 300), (300, 100)]),  # drawn to the right: "in" is upwards
    ("door=500,200 100,200", [(300, 100), (300, 300)]),
    ("door=200,100 400,300", [(250, 250), (350, 150)]),  # drawn to the lower right: "in" is to the upper right
])  # fmt: skip
def test_in_is_from_the_right_hand_to_the_left_seen_from_start_to_end(line: str, inwards: list) -> None:
    assert walk(Counters(lines=[parse_line(line)]), *inwards) == {"door in": 1, "door out": 0}
    assert walk(Counters(lines=[parse_line(line)]), *reversed(inwards)) == {"door in": 0, "door out": 1}


DOOR = Line("door", (300, 50), (300, 350))


def test_everybody_is_counted_each_time() -> None:
    counters = Counters(lines=[DOOR])
    for step in (250, 290, 310, 350):
        for _ in range(2):
            counters.update(standing((step, 100), (600 - step, 200), (step, 300), ids=[1, 2, 3]), HW)
    assert counters.counts == {"door in": 2, "door out": 1}
    walk(counters, (350, 300), (250, 300), (350, 300), track=3)
    assert counters.counts == {"door in": 3, "door out": 2}


@pytest.mark.parametrize("missing", [1, 3, 30])
def test_who_is_lost_for_a_while_on_the_way_across_is_counted(missing: int) -> None:
    assert walk(Counters(lines=[DOOR]), (250, 200), *[None] * missing, (350, 200)) == {"door in": 1, "door out": 0}


def test_others_in_the_picture_do_not_make_the_line_forget() -> None:
    counters = Counters(lines=[DOOR])
    walk(counters, (250, 200), track=1)
    for _ in range(20):
        counters.update(standing((100, 100), ids=[2]), HW)
    assert walk(counters, (350, 200), track=1) == {"door in": 1, "door out": 0}


def test_one_frame_across_is_no_crossing() -> None:
    counters = Counters(lines=[DOOR])
    for x in (290, 290, 310, 290, 290, 310, 290, 290):
        counters.update(standing((x, 200), ids=[1]), HW)
    assert counters.counts == {"door in": 0, "door out": 0}


def test_beyond_its_ends_a_line_counts_nobody() -> None:
    assert walk(Counters(lines=[DOOR]), (250, 380), (350, 380), (250, 20), (350, 20)) == {"door in": 0, "door out": 0}


def test_boxes_without_an_id_of_their_own_are_not_counted() -> None:
    assert walk(Counters(lines=[DOOR]), (250, 200), (350, 200), track=-1) == {"door in": 0, "door out": 0}


@pytest.mark.parametrize("text", ["door=0.5,0 0.5,1", "door=300,0 300,400", "door=300,1 300,399"])
@pytest.mark.parametrize("y", [400, 399.5, 1])
def test_a_line_to_the_edge_counts_feet_that_are_cut_off_there(text: str, y: float) -> None:
    down = parse_line(text)
    up = Line("door", down.end, down.start)
    assert walk(Counters(lines=[down]), (250, y), (350, y)) == {"door in": 1, "door out": 0}
    assert walk(Counters(lines=[up]), (250, y), (350, y)) == {"door in": 0, "door out": 1}


def test_lines_need_tracking() -> None:
    counters = Counters([SQUARE], [DOOR])
    for found in (standing((1, 1)), Detections.empty()):
        with pytest.raises(UsageError, match="lines need tracking"):
            counters.update(found, HW)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(5, 595), st.booleans()), min_size=1, max_size=30))
def test_in_less_out_is_the_side_where_somebody_ended_up(steps: list[tuple[float, bool]]) -> None:
    counters = Counters(lines=[DOOR])
    sides = []
    for x, lost in steps:
        walk(counters, (x, 200), *[None] * (5 if lost else 0))
        sides.append(x > 300)
    changes = [int(after) - int(before) for before, after in pairwise(sides)]
    assert counters.counts == {"door in": changes.count(1), "door out": changes.count(-1)}


# All together


@pytest.mark.parametrize(("zones", "lines", "name"), [
    (["queue", "queue"], [], "queue"), ([], ["door", "door"], "door in"), (["door in"], ["door"], "door in"),
])  # fmt: skip
def test_no_two_counts_have_one_name(zones: list[str], lines: list[str], name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}'"):
        Counters([Zone(one, SQUARE.polygon) for one in zones], [Line(one, (0, 0), (9, 9)) for one in lines])


def test_counts_are_by_name_and_stay_as_they_were_given_out() -> None:
    counters = Counters([SQUARE], [DOOR])
    before = counters.update(standing((200, 200), ids=[1]), HW)
    assert list(before.items()) == [("queue", 1), ("door in", 0), ("door out", 0)]
    counters.update(standing((500, 200), ids=[1]), HW)
    assert before["queue"] == 1
    with pytest.raises(TypeError):
        before["queue"] = 9  # type: ignore[index]


@pytest.mark.parametrize("shape", [
    Zone("far", ((100, 100), (700, 100), (100, 200))), Line("far", (1, 1), (10, 401)), Line("far", (1, 1), (1e300, 1)),
])  # fmt: skip
def test_what_is_outside_the_first_picture_is_an_error(shape: Zone | Line) -> None:
    counters = Counters([shape]) if isinstance(shape, Zone) else Counters(lines=[shape])
    for _ in range(2):
        with pytest.raises(UsageError, match=r"'far'.* outside the picture, which is 600x400"):
            counters.update(standing(ids=[]), HW)


def test_when_the_picture_changes_fractions_go_with_it_pixels_stay_and_counts_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    half = Zone("half", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    counters = Counters([SQUARE, half], [Line("door", (0.5, 0), (0.5, 1))])
    walk(counters, (200, 200), (400, 200))
    assert counters.counts == {"queue": 0, "half": 0, "door in": 1, "door out": 0}
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        for x in (140, 140, 180, 180):  # a picture of half the size
            counters.update(standing((x, 120), ids=[7]), (200, 300))
    assert counters.counts == {"queue": 1, "half": 0, "door in": 2, "door out": 0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "300x200" in message
    assert "'queue' is given in pixels" in message


def test_without_supervision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"edge-sdk\[tracking\]"):
        Counters([SQUARE])
