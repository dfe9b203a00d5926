"""Ids that stay with an object, on made-up scenes and on a real clip."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk import Detections, Detector
from edge_sdk.errors import MissingDependencyError, UsageError
from edge_sdk.tracking import Tracker
from edge_sdk.zones import Counters, Line

SECOND_NS = 1_000_000_000


def boxes(*xs: float, class_id: int = 0, confidence: float = 0.8) -> Detections:
    """Boxes of 60x100 pixels side by side, their left edges at `xs`."""
    n = len(xs)
    return Detections(
        np.array([[x, 50, x + 60, 150] for x in xs], np.float32).reshape(n, 4),
        np.full(n, confidence, np.float32),
        np.full(n, class_id, np.int32),
    )


def ids(detections: Detections) -> list[int]:
    assert detections.track_id is not None
    return detections.track_id.tolist()


def both(first: Detections, second: Detections) -> Detections:
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("xyxy", "confidence", "class_id")]
    return Detections(*(np.concatenate(pair) for pair in pairs))


def test_an_object_has_an_id_from_its_second_frame_on_and_ids_begin_at_1() -> None:
    tracker = Tracker()
    found = [ids(tracker.update(boxes(100 + 3 * step, 500))) for step in range(5)]
    assert found[0] == [-1, -1]
    assert sorted(found[1]) == [1, 2]
    assert all(later == found[1] for later in found[2:])


def test_a_box_that_flashes_up_once_gets_no_id_and_uses_none_up() -> None:
    tracker = Tracker()
    assert ids(tracker.update(boxes(100))) == [-1]
    assert ids(tracker.update(boxes())) == []
    assert ids(tracker.update(boxes(400))) == [-1]
    assert ids(tracker.update(boxes(400))) == [1]


def test_two_classes_in_one_place_keep_their_own_ids() -> None:
    tracker = Tracker()
    # A person on a bicycle: nearly one box. They come in either order.
    for step in range(10):
        person, bicycle = boxes(100 + 8 * step, class_id=0), boxes(102 + 8 * step, class_id=1, confidence=0.7)
        found = tracker.update(both(person, bicycle) if step % 2 else both(bicycle, person))
        if step == 1:
            first = dict(zip(found.class_id.tolist(), ids(found), strict=True))
        if step > 1:
            assert dict(zip(found.class_id.tolist(), ids(found), strict=True)) == first
    assert sorted(first.values()) == [1, 2]


def test_a_class_far_up_the_list_is_followed_as_precisely_as_the_first() -> None:
    assert ids(_twice(boxes(100, class_id=1202))) == [1]


def _twice(detections: Detections) -> Detections:
    tracker = Tracker(min_iou=0.99)
    tracker.update(detections)
    return tracker.update(detections)


def test_a_track_begins_with_a_sure_box_and_goes_on_with_unsure_ones() -> None:
    tracker = Tracker(new_above=0.5)
    assert [ids(tracker.update(boxes(100, confidence=0.3))) for _ in range(3)] == [[-1], [-1], [-1]]
    sure = [ids(tracker.update(boxes(100, confidence=0.6))) for _ in range(2)]
    assert sure == [[-1], [1]]
    assert [ids(tracker.update(boxes(100, confidence=0.3))) for _ in range(3)] == [[1], [1], [1]]


@pytest.mark.parametrize(("hidden", "expected"), [(8, 1), (13, -1)])
@pytest.mark.parametrize("timed", [False, True])
def test_who_is_hidden_for_less_than_the_memory_keeps_the_id(hidden: int, expected: int, timed: bool) -> None:
    tracker = Tracker(fps=10, memory_s=1.0)
    for step in range(3):
        tracker.update(boxes(100), SECOND_NS * step // 10 + 1 if timed else None)
    for step in range(3, 3 + hidden):
        tracker.update(boxes(), SECOND_NS * step // 10 + 1 if timed else None)
    assert ids(tracker.update(boxes(100), SECOND_NS * (3 + hidden) // 10 + 1 if timed else None)) == [expected]


def test_frames_that_were_dropped_count_as_time_that_has_passed() -> None:
    # A queue that moves 6 pixels a frame, its people 70 apart. Twelve frames are dropped: everybody stands where the
    # next was. Who takes that for one step gives everybody the id of the next.
    def walk(timed: bool) -> tuple[list[int], list[int]]:
        tracker = Tracker(fps=30)
        for frame in range(30):
            before = tracker.update(boxes(*(70 * place + 6 * frame for place in range(4))), _at(frame, timed))
        after = tracker.update(boxes(*(70 * place + 6 * 41.7 for place in range(4))), _at(42, timed))
        return ids(before), ids(after)

    before, after = walk(timed=True)
    assert after == before
    before, after = walk(timed=False)
    assert after[:-1] == before[1:]


def _at(frame: int, timed: bool) -> int | None:
    return 5 * SECOND_NS + frame * SECOND_NS // 30 if timed else None


def test_reset_forgets_everybody_and_gives_no_id_twice() -> None:
    tracker = Tracker()
    for _ in range(2):
        before = ids(tracker.update(boxes(100, 300)))
    tracker.reset()
    assert ids(tracker.update(boxes(100, 300))) == [-1, -1]
    after = ids(tracker.update(boxes(100, 300)))
    assert sorted(before + after) == [1, 2, 3, 4]
    tracker.reset()
    tracker.reset()
    tracker.update(boxes(100))
    assert ids(tracker.update(boxes(100))) == [5]


def test_after_a_reset_the_clock_may_begin_anew() -> None:
    tracker = Tracker()
    tracker.update(boxes(100), 9 * SECOND_NS)
    tracker.reset()
    assert ids(tracker.update(boxes(100), SECOND_NS)) == [-1]


@pytest.mark.parametrize("captured_ns", [5, 4])
def test_frames_out_of_order_are_an_error(captured_ns: int) -> None:
    tracker = Tracker()
    tracker.update(boxes(100), 5)
    with pytest.raises(UsageError, match="in their order"):
        tracker.update(boxes(100), captured_ns)


def test_nothing_found_is_nothing_tracked() -> None:
    found = Tracker().update(Detections.empty())
    assert ids(found) == []
    assert found.track_id is not None
    assert found.track_id.dtype == np.int64


@st.composite
def scenes(draw: st.DrawFn) -> list[Detections]:
    def one(n: int) -> Detections:
        corner = draw(hnp.arrays(np.float32, (n, 2), elements=st.integers(0, 300)))
        size = draw(hnp.arrays(np.float32, (n, 2), elements=st.integers(1, 100)))
        return Detections(
            np.hstack([corner, corner + size]).astype(np.float32),
            draw(hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32))),
            draw(hnp.arrays(np.int32, n, elements=st.integers(0, 2))),
            landmarks=draw(hnp.arrays(np.float32, (n, 2, 2), elements=st.integers(0, 300))),
        )

    return [one(n) for n in draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))]


@settings(max_examples=60)
@given(scenes(), st.booleans())
def test_no_box_is_lost_moved_or_changed_and_no_id_is_given_to_two(frames: list[Detections], timed: bool) -> None:
    tracker = Tracker(new_above=0.3)
    class_of: dict[int, int] = {}
    for number, given_ in enumerate(frames, 1):
        found = tracker.update(given_, number * SECOND_NS // 30 if timed else None)
        for name in ("xyxy", "confidence", "class_id", "landmarks"):
            assert np.array_equal(getattr(found, name), getattr(given_, name))
        tracked = [i for i in ids(found) if i != -1]
        assert len(set(tracked)) == len(tracked)
        assert all(i >= 1 for i in tracked)
        for one in found:
            if one.track_id is not None and one.track_id != -1:
                assert class_of.setdefault(one.track_id, one.class_id) == one.class_id


@pytest.mark.parametrize(("wrong", "message"), [
    ({"fps": 0}, "fps"), ({"fps": float("nan")}, "fps"), ({"memory_s": -1}, "memory_s"),
    ({"new_above": 1.5}, "new_above"), ({"min_iou": -0.1}, "min_iou"),
])  # fmt: skip
def test_an_argument_out_of_range_is_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tracker(**wrong)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingDependencyError, match=r"edge-sdk\[tracking\]"):
        Tracker()


# The clip: six people come to a table one after the other, from below, stand there, and leave to the right. From its
# frames, looked at one by one: the first with a head and the last with a foot of each.
PEOPLE = ((60, 198), (227, 450), (502, 702), (744, 872), (921, 1203), (1234, 1358))
EXIT = Line("exit", (0.75, 0), (0.75, 1))


def follow(clip: Path, model: Path, frames: range) -> tuple[list[Counter[int]], dict[str, int]]:
    """How often each id was given while each person was to be seen, and what the exit counted."""
    per_person: list[Counter[int]] = [Counter() for _ in PEOPLE]
    counters = Counters(lines=[EXIT])
    video = cv2.VideoCapture(str(clip))
    with Detector(model, classes=["person"]) as detector:
        tracker = Tracker(fps=video.get(cv2.CAP_PROP_FPS))
        for number in range(frames.stop):
            if number not in frames:
                video.grab()
                continue
            _, image = video.read()
            found = tracker.update(detector(image))
            counters.update(found, image.shape[:2])
            for person, (first, last) in zip(per_person, PEOPLE, strict=True):
                if first <= number <= last:
                    person.update(i for i in ids(found) if i != -1)
    video.release()
    return per_person, dict(counters.counts)


@pytest.fixture(scope="module")
def people(shared: Path) -> Path:
    return shared / "data/videos/one-by-one-person-detection.mp4"


def test_two_people_who_come_one_after_the_other_have_one_id_each(people: Path, yolox: Path) -> None:
    per_person, counts = follow(people, yolox, range(150, 260))
    first, second = per_person[:2]
    assert list(first) == [1]
    assert first[1] >= 0.8 * (198 - 150)
    assert list(second) == [2]
    assert second[2] >= 0.8 * (260 - 227)
    assert counts == {"exit in": 1, "exit out": 0}


@pytest.mark.slow
def test_six_people_have_six_ids_and_leave_by_the_exit(people: Path, yolox: Path) -> None:
    per_person, counts = follow(people, yolox, range(1394))
    assert [len(person) for person in per_person] == [1] * 6
    assert len(set().union(*per_person)) == 6
    for person, (first, last) in zip(per_person, PEOPLE, strict=True):
        assert person.total() >= 0.9 * (last - first)
    assert counts == {"exit in": 6, "exit out": 0}


def test_two_cars_keep_their_ids(highway: Path, yolox: Path) -> None:
    video = cv2.VideoCapture(str(highway))
    seen: Counter[int] = Counter()
    frames = 0
    with Detector(yolox, classes=["car"]) as detector:
        tracker = Tracker(fps=video.get(cv2.CAP_PROP_FPS))
        while True:
            more, image = video.read()
            if not more:
                break
            frames += 1
            seen.update(i for i in ids(tracker.update(detector(image))) if i != -1)
    video.release()
    assert frames == 38
    assert sum(times >= 30 for times in seen.values()) == 2, seen
