"""The value type that everything speaks."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_sdk import Detection, Detections, EdgeSdkError
from edge_sdk.errors import MissingDependencyError, UsageError


def some(n: int = 3, *, tracks: bool = False, marks: int = 0) -> Detections:
    rng = np.random.default_rng(n)
    return Detections(
        xyxy=rng.uniform(0, 99, (n, 4)).astype(np.float32),
        confidence=np.linspace(0.9, 0.1, n, dtype=np.float32),
        class_id=np.arange(n, dtype=np.int32) % 2,
        track_id=np.arange(100, 100 + n, dtype=np.int64) if tracks else None,
        landmarks=rng.uniform(0, 99, (n, marks, 2)).astype(np.float32) if marks else None,
    )


def same(a: Detections, b: Detections) -> bool:
    pairs = [
        (getattr(a, name), getattr(b, name)) for name in ("xyxy", "confidence", "class_id", "track_id", "landmarks")
    ]
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in pairs)


def test_one_of_them_has_plain_python_values() -> None:
    found = some(3, tracks=True, marks=5)
    one = found[1]
    assert isinstance(one, Detection)
    assert one.xyxy == tuple(found.xyxy[1].tolist())
    assert (one.confidence, one.class_id, one.track_id) == (pytest.approx(0.5), 1, 101)
    assert [type(value) for value in (one.confidence, one.class_id, one.track_id)] == [float, int, int]
    assert len(one.landmarks) == 5
    assert one.landmarks[4] == tuple(found.landmarks[1, 4].tolist())


def test_they_are_a_sequence() -> None:
    found = some(3)
    assert len(found) == 3
    assert [one.class_id for one in found] == [0, 1, 0]
    assert found[-1] == found[2] == found[np.int64(2)]
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize(
    "index", [slice(1, 3), [1, 2], np.array([1, 2]), np.array([False, True, True]), [False, True, True]]
)
def test_a_slice_a_mask_or_indices_give_detections(index) -> None:
    found = some(3, tracks=True, marks=2)
    part = found[index]
    assert isinstance(part, Detections)
    assert part.track_id.tolist() == [101, 102]
    assert np.array_equal(part.landmarks, found.landmarks[1:])


def test_no_index_at_all_gives_none() -> None:
    assert len(some(3)[[]]) == 0


def test_none_is_empty_and_iterates_over_nothing() -> None:
    none = Detections.empty()
    assert (len(none), list(none), repr(none)) == (0, [], "Detections(none)")
    assert len(none[none.confidence > 0.5]) == 0


def test_a_copy_shares_no_memory() -> None:
    found = some(3, tracks=True, marks=2)
    copied = found.copy()
    assert same(found, copied)
    found.xyxy[:] = 0
    found.landmarks[:] = 0
    assert not np.array_equal(found.xyxy, copied.xyxy)
    assert not np.array_equal(found.landmarks, copied.landmarks)


def test_the_text_counts_by_class() -> None:
    assert repr(some(3)) == "Detections(3: class 0 x2, class 1 x1; best 0.90)"


GOOD = {"xyxy": np.zeros((2, 4), np.float32), "confidence": np.zeros(2, np.float32), "class_id": np.zeros(2, np.int32)}


@pytest.mark.parametrize(("changes", "complaint"), [
    ({"xyxy": np.zeros((2, 4))}, "xyxy must be float32 [2, 4], not float64 [2, 4]"),
    ({"xyxy": np.zeros((3, 4), np.float32)}, "xyxy must be float32 [2, 4], not float32 [3, 4]"),
    ({"xyxy": np.zeros((2, 5), np.float32)}, "xyxy"),
    ({"xyxy": [[0, 0, 1, 1], [0, 0, 2, 2]]}, "xyxy must be a NumPy array, not list"),
    ({"confidence": np.zeros((2, 1), np.float32)}, "confidence"),
    ({"confidence": np.float32(0.5)}, "confidence"),
    ({"confidence": np.array(0.5, np.float32)}, "must be float32 [0"),
    ({"confidence": None}, "confidence must be a NumPy array, not NoneType"),
    ({"class_id": np.zeros(2, np.int64)}, "class_id must be int32 [2], not int64 [2]"),
    ({"class_id": None}, "class_id must be a NumPy array, not NoneType"),
    ({"track_id": np.zeros(2, np.int32)}, "track_id must be int64 [2], not int32 [2]"),
    ({"track_id": np.zeros(1, np.int64)}, "track_id"),
    ({"landmarks": np.zeros((2, 5, 3), np.float32)}, "landmarks must be float32 [2, k, 2], not float32 [2, 5, 3]"),
    ({"landmarks": np.zeros((2, 10), np.float32)}, "landmarks"),
    ({"landmarks": np.zeros((2, 5, 2))}, "landmarks"),
])  # fmt: skip
def test_another_shape_or_type_is_refused_by_name(changes: dict, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Detections(**{**GOOD, **changes})
    assert complaint in str(caught.value)


@pytest.mark.parametrize("n", [0, 3])
@pytest.mark.parametrize(("tracks", "marks"), [(False, 0), (True, 5)])
def test_supervision_gives_back_what_it_was_given(n: int, tracks: bool, marks: int) -> None:
    pytest.importorskip("supervision")
    found = some(n, tracks=tracks, marks=marks)
    back = Detections.from_supervision(found.to_supervision())
    assert same(found, back)
    assert not np.shares_memory(found.xyxy, found.to_supervision().xyxy)


def test_supervision_without_scores_and_ids_is_taken() -> None:
    sv = pytest.importorskip("supervision")
    found = Detections.from_supervision(sv.Detections(xyxy=np.array([[1.0, 2.0, 3.0, 4.0]])))
    assert (found.confidence.tolist(), found.class_id.tolist(), found.track_id) == ([1.0], [0], None)
    assert len(Detections.from_supervision(sv.Detections.empty())) == 0


def test_supervisions_own_filters_keep_the_landmarks_with_their_boxes() -> None:
    pytest.importorskip("supervision")
    found = some(3, marks=5)
    theirs = found.to_supervision()
    kept = Detections.from_supervision(theirs[theirs.confidence > 0.4])
    assert same(kept, found[:2])


def test_without_supervision_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-sdk\[supervision\]'"):
        some(1).to_supervision()
    with pytest.raises(ImportError):
        some(1).to_supervision()
    assert issubclass(MissingDependencyError, EdgeSdkError)
