"""The YOLO-NAS head: boxes and scores built cell by cell come back as the boxes they were made of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yolo_nas import HEAD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)
CELLS_320 = 40 * 40 + 20 * 20 + 10 * 10
# A 640 x 360 photo, halved, in the vertical middle of 320 x 320.
HALVED = Geometry(source_hw=(360, 640), scale_xy=(0.5, 0.5), pad_xy=(0.0, 70.0))
FIRST, SECOND = (10.0, 20.0, 110.0, 220.0), (400.0, 40.0, 600.0, 300.0)


def card(classes: int = 3) -> ModelCard:
    return ModelCard("yolo_nas", (320, 320), tuple(f"c{i}" for i in range(classes)), std=(255.0,) * 3)


def tensors(*made: tuple[int, tuple[float, ...], dict[int, float]], classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """[1, cells, 4] and [1, cells, classes] from (cell, source box, scores by class)."""
    boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (1, CELLS_320, 1))
    scores = np.zeros((1, CELLS_320, classes), np.float32)
    for cell, (left, top, right, bottom), by_class in made:
        boxes[0, cell] = [left / 2, top / 2 + 70, right / 2, bottom / 2 + 70]
        for class_id, score in by_class.items():
            scores[0, cell, class_id] = score
    return boxes, scores


TWO = tensors((17, FIRST, {0: 0.9, 2: 0.4}), (2000, SECOND, {1: 0.6}))


def decode(boxes: np.ndarray, scores: np.ndarray, the_card: ModelCard | None = None, **options: object):
    settings = {"confidence": 0.25, "iou": 0.7, "multi_label": False, **options}
    outputs = {"913": boxes, "904": scores}
    return HEAD.decode(outputs, the_card or card(), HALVED, **settings)


@pytest.mark.parametrize(("first", "second"), [TWO, TWO[::-1]], ids=["boxes first", "scores first"])
def test_boxes_come_back_best_first_whichever_output_is_first(first, second):
    found = decode(first, second)
    np.testing.assert_allclose(found.xyxy, [FIRST, SECOND], atol=1e-3)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.class_id.tolist() == [0, 1]


def test_with_four_classes_the_boxes_are_first_as_exported():
    boxes, scores = tensors((17, FIRST, {3: 0.9}), classes=4)
    found = decode(boxes, scores, card(4))
    np.testing.assert_allclose(found.xyxy, [FIRST], atol=1e-3)
    assert found.class_id.tolist() == [3]


def test_multi_label_makes_a_candidate_of_every_class_above_the_threshold():
    found = decode(*TWO, multi_label=True)
    assert [(d.class_id, round(d.confidence, 3)) for d in found] == [(0, 0.9), (1, 0.6), (2, 0.4)]


def test_nothing_above_the_threshold_is_no_boxes():
    assert decode(*TWO, confidence=0.95).xyxy.shape == (0, 4)


def test_overlapping_boxes_of_a_class_are_suppressed():
    near = (12.0, 22.0, 112.0, 222.0)
    assert len(decode(*tensors((1, FIRST, {0: 0.9}), (2, near, {0: 0.8})))) == 1
    assert len(decode(*tensors((1, FIRST, {0: 0.9}), (2, near, {1: 0.8})))) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(0, 1, width=32))
def test_the_best_class_stands_for_a_box_and_multi_label_counts_all(scores, confidence):
    outputs = tensors((9, FIRST, dict(enumerate(scores))))
    single = decode(*outputs, confidence=confidence)
    assert single.confidence.tolist() == [score for score in [max(scores)] if score > confidence]
    several = decode(*outputs, confidence=confidence, multi_label=True)
    assert several.confidence.tolist() == sorted((score for score in scores if score > confidence), reverse=True)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_garbage_gives_finite_boxes_without_a_word(value, multi_label):
    boxes, scores = (array.copy() for array in tensors((1, FIRST, {0: 0.9}), (2, SECOND, {1: 0.8})))
    boxes[0, 1, 2] = value
    scores[0, 100:200, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(boxes, scores, multi_label=multi_label)
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()
    assert 1 in found.class_id
    assert 0 not in found.class_id


def recognise(
    *outputs: tuple[str, tuple[int, ...]], image: tuple[int, ...] = (1, 3, 640, 640), dtype=F32, quantized=None
):
    specs = [TensorSpec(name, shape, F32) for name, shape in outputs]
    return HEAD.recognise([TensorSpec("input", image, dtype, quantized)], specs, {}), HEAD.class_count(specs)


@pytest.mark.parametrize(
    ("shapes", "image", "count"),
    [
        ([(1, 8400, 4), (1, 8400, 80)], (1, 3, 640, 640), 80),
        ([(1, 8400, 80), (1, 8400, 4)], (1, 3, 640, 640), 80),
        ([(-1, 8400, 4), (-1, 8400, 1)], (-1, 3, 640, 640), 1),
        ([(1, 8400, 4), (1, 8400, 4)], (1, 3, 640, 640), 4),
        ([(1, -1, 4), (1, -1, 80)], (1, 3, -1, -1), 80),
        ([(1, 2100, 4), (1, 2100, 2)], (1, 3, 320, 320), 2),
    ],
)
def test_recognises_with_its_number_of_classes(shapes, image, count):
    card_found, counted = recognise(("a", shapes[0]), ("b", shapes[1]), image=image)
    assert card_found is not None
    assert len(card_found.classes) == count == counted


def test_the_card_says_how_super_gradients_trains():
    found, _ = recognise(("a", (1, 8400, 4)), ("b", (1, 8400, 80)))
    assert found == ModelCard("yolo_nas", (640, 640), COCO_80, "nchw", "rgb", "letterbox_centre", std=(255.0,) * 3)


def test_a_graph_that_takes_bytes_divides_them_itself_and_a_quantized_one_does_not():
    outputs = ("a", (1, 8400, 4)), ("b", (1, 8400, 80))
    assert recognise(*outputs, dtype=U8)[0].std == (1.0, 1.0, 1.0)
    assert recognise(*outputs, dtype=U8, quantized=(1 / 255, 0))[0].std == (255.0, 255.0, 255.0)


@pytest.mark.parametrize(
    ("outputs", "image"),
    [
        ([("scores", (1, 4420, 2)), ("boxes", (1, 4420, 4))], (1, 3, 240, 320)),  # UltraFace
        ([("scores", (1, 17640, 2)), ("boxes", (1, 17640, 4))], (1, 3, 480, 640)),
        ([("scores", (1, -1, 2)), ("boxes", (1, -1, 4))], (1, 3, -1, -1)),
        ([("logits", (1, 100, 92)), ("pred_boxes", (1, 100, 4))], (1, 3, 800, 800)),  # DETR
        ([("logits", (-1, -1, 92)), ("pred_boxes", (-1, -1, 4))], (-1, 3, -1, -1)),
        ([("dets", (-1, -1, 4)), ("labels", (-1, -1, 91))], (-1, 3, 560, 560)),  # RF-DETR
        ([("a", (1, 8400, 4)), ("b", (1, 2100, 80))], (1, 3, 640, 640)),
        ([("a", (1, 8400, 5)), ("b", (1, 8400, 80))], (1, 3, 640, 640)),
        ([("a", (1, 8400, 84))], (1, 3, 640, 640)),
        ([("a", (1, 4)), ("b", (1, 80))], (1, 3, 640, 640)),
    ],
    ids=str,
)
def test_leaves_what_is_another_layout(outputs, image):
    assert recognise(*outputs, image=image)[0] is None
