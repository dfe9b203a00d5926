"""Candidates and suppression, against references that are slow and plain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.models import nms

CASES = 1000


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes, left, top, right, bottom."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def brute_force(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int32], iou: float
) -> list:
    """Takes the best box left, drops those of its class that overlap it by more than `iou`, and so on."""
    exact = boxes.astype(np.float64)
    left = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [one for one in left if classes[one] != classes[best] or overlap(exact[one], exact[best]) <= iou]
    return kept


def random_case(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], float]:
    """Boxes in heaps, some left of and above 0, some far outside any picture; scores often tie."""
    n = int(rng.integers(0, 60))
    reach = float(rng.choice([50, 400, 1e5]))
    heaps = rng.uniform(-reach, reach, (4, 2))
    size = rng.uniform(1, rng.choice([5, 60, 900]), (n, 2))
    left_top = heaps[rng.integers(0, 4, n)] + rng.normal(0, size / 4, (n, 2))
    boxes = np.concatenate([left_top, left_top + size], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, n).astype(np.float32)
    if rng.random() < 0.5:
        scores = np.round(scores, 1)
    classes = rng.integers(0, rng.choice([1, 3, 90]), n).astype(np.int32)
    return boxes, scores, classes, float(rng.uniform(0.05, 0.95))


def test_suppression_keeps_what_a_plain_loop_keeps_in_a_thousand_random_cases() -> None:
    rng = np.random.default_rng(7)
    suppressed = 0
    for case in range(CASES):
        boxes, scores, classes, iou = random_case(rng)
        want = brute_force(boxes, scores, classes, iou)
        got = nms.suppress(boxes, scores, classes, iou)
        assert got.tolist() == want, f"case {case}"
        suppressed += len(boxes) - len(want)
    assert suppressed > CASES  # the cases were worth it


@pytest.mark.parametrize("shift", [0.0, -1000.0, 1e5, -1e5])
def test_classes_never_suppress_each_other_wherever_their_boxes_are(shift: float) -> None:
    # The same box thirty times, each of another class, and a mirrored heap far to the left.
    box = np.array([10, 10, 60, 90], np.float32) + np.float32(shift)
    boxes = np.stack([box] * 30 + [box - np.float32(2 * shift)] * 30)
    classes = np.tile(np.arange(30, dtype=np.int32), 2)
    scores = np.linspace(0.9, 0.1, 60, dtype=np.float32)
    if shift == 0:
        assert nms.suppress(boxes, scores, classes, 0.5).tolist() == list(range(30))
    else:
        assert nms.suppress(boxes, scores, classes, 0.5).tolist() == list(range(60))


def test_a_box_left_of_zero_is_not_taken_for_one_of_the_class_before() -> None:
    # Where classes are told apart by moving each to the right by the largest coordinate plus one, 100 + 1 here,
    # the second class's box at -101 would land on the first class's at 0.
    boxes = np.array([[0, 0, 100, 100], [-101, -101, -1, -1]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.array([0, 1], np.int32)
    assert nms.suppress(boxes, scores, classes, 0.5).tolist() == [0, 1]


def test_equal_scores_keep_the_first_box() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11]], np.float32)
    same = np.full(3, 0.5, np.float32)
    assert nms.suppress(boxes, same, np.zeros(3, np.int32), 0.3).tolist() == [0]


def test_boxes_that_only_touch_are_both_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)
    kept = nms.suppress(boxes, np.array([0.2, 0.9], np.float32), np.zeros(2, np.int32), 0.0)
    assert kept.tolist() == [1, 0]


def test_no_box_and_one_box() -> None:
    nothing = nms.suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), 0.5)
    assert nothing.shape == (0,)
    assert np.issubdtype(nothing.dtype, np.integer)
    one = np.array([[3, 4, 5, 6]], np.float32)
    assert nms.suppress(one, np.array([0.01], np.float32), np.array([79], np.int32), 0.5).tolist() == [0]


def test_a_box_without_an_area_is_dropped_and_suppresses_nothing() -> None:
    boxes = np.array([[5, 5, 5, 20], [5, 5, 25, 25], [30, 30, 20, 40], [7, 7, 7, 7], [50, 5, 70, 25]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    kept = nms.suppress(boxes, scores, np.array([0, 0, 1, 2, 0], np.int32), 0.5)
    assert kept.tolist() == [1, 4]


def test_a_zero_score_is_still_a_candidate() -> None:
    boxes = np.array([[0, 0, 9, 9], [20, 20, 29, 29]], np.float32)
    assert nms.suppress(boxes, np.zeros(2, np.float32), np.zeros(2, np.int32), 0.5).tolist() == [0, 1]


def test_the_limit_keeps_the_best() -> None:
    rng = np.random.default_rng(3)
    corners = np.arange(500, dtype=np.float32)[:, np.newaxis] * 20
    boxes = np.concatenate([corners, corners, corners + 10, corners + 10], axis=1)
    scores = rng.permutation(500).astype(np.float32) / 500
    kept = nms.suppress(boxes, scores, np.zeros(500, np.int32), 0.5)
    assert len(kept) == nms.MAX_DETECTIONS
    assert kept.tolist() == np.argsort(-scores)[: nms.MAX_DETECTIONS].tolist()
    assert nms.suppress(boxes, scores, np.zeros(500, np.int32), 0.5, limit=7).tolist() == kept[:7].tolist()


def test_only_the_best_three_thousand_candidates_enter() -> None:
    # 3000 good boxes of one place, and a worse one elsewhere: it is the 3001st and does not enter.
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (3001, 1))
    boxes[-1] += 100
    scores = np.full(3001, 0.9, np.float32)
    scores[-1] = 0.1
    assert nms.suppress(boxes, scores, np.zeros(3001, np.int32), 0.5).tolist() == [0]
    assert nms.suppress(boxes[1:], scores[1:], np.zeros(3000, np.int32), 0.5).tolist() == [0, 2999]


def as_rows(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(scores)


def as_columns(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same scores as a view of [classes, boxes] memory."""
    return np.ascontiguousarray(scores.T).T


@pytest.mark.parametrize("memory", [as_rows, as_columns])
@pytest.mark.parametrize(("n", "c"), [(0, 80), (1, 80), (1, 1), (50, 1), (300, 2), (700, 80)])
def test_every_class_above_the_threshold_is_a_candidate_with_multi_label(memory, n: int, c: int) -> None:
    scores = memory(np.random.default_rng(n + c).uniform(0, 1, (n, c)).astype(np.float32) ** 6)
    rows, classes, values = nms.candidates(scores, 0.3, multi_label=True)
    want = {(row, k, float(scores[row, k])) for row in range(n) for k in range(c) if scores[row, k] > 0.3}
    assert sorted(zip(rows.tolist(), classes.tolist(), values.tolist(), strict=True)) == sorted(want)
    assert classes.dtype == np.int32
    assert values.dtype == np.float32


@pytest.mark.parametrize("memory", [as_rows, as_columns])
@pytest.mark.parametrize(("n", "c"), [(0, 80), (1, 80), (1, 1), (50, 1), (300, 2), (700, 80)])
def test_the_best_class_of_a_box_is_its_candidate_otherwise(memory, n: int, c: int) -> None:
    scores = memory(np.random.default_rng(n * c).uniform(0, 1, (n, c)).astype(np.float32) ** 6)
    rows, classes, values = nms.candidates(scores, 0.3, multi_label=False)
    best = [max(range(c), key=lambda k: scores[row, k]) for row in range(n)]
    want = [(row, best[row], float(scores[row, best[row]])) for row in range(n) if scores[row, best[row]] > 0.3]
    assert sorted(zip(rows.tolist(), classes.tolist(), values.tolist(), strict=True)) == want


@pytest.mark.parametrize("memory", [as_rows, as_columns])
@pytest.mark.parametrize("multi_label", [True, False])
def test_a_candidate_is_above_the_threshold_not_at_it(memory, multi_label: bool) -> None:
    scores = memory(np.array([[0.5, 0.25], [0.25, 0.75]], np.float32))
    rows, classes, values = nms.candidates(scores, 0.5, multi_label=multi_label)
    assert (rows.tolist(), classes.tolist(), values.tolist()) == ([1], [1], [0.75])


@pytest.mark.parametrize("memory", [as_rows, as_columns])
def test_half_precision_scores_become_single(memory) -> None:
    scores = memory(np.array([[0.5, 0.9], [0.1, 0.2]], np.float16))
    _, _, values = nms.candidates(scores, 0.4, multi_label=True)
    assert values.dtype == np.float32
    assert np.sort(values).tolist() == [0.5, float(np.float16(0.9))]
