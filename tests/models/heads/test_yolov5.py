"""The YOLOv5 head: rows built one by one from the published layout come back as the boxes they were made of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yolov5 import HEAD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

F32 = np.dtype(np.float32)
ROWS_320 = 3 * (40 * 40 + 20 * 20 + 10 * 10)
# A 640 x 360 photo, halved, in the vertical middle of 320 x 320.
HALVED = Geometry(source_hw=(360, 640), scale_xy=(0.5, 0.5), pad_xy=(0.0, 70.0))
SOURCE_BOXES = [(10.0, 20.0, 110.0, 220.0), (400.0, 40.0, 600.0, 300.0)]


def card(classes: int = 3, layout: str = "nchw") -> ModelCard:
    return ModelCard("yolov5", (320, 320), tuple(f"c{i}" for i in range(classes)), layout, std=(255.0,) * 3)


def tensor(*made: tuple[int, tuple[float, ...], float, list[float]]) -> np.ndarray:
    """[1, rows, 8] of idle anchors, and the given (row, source box, objectness, class scores)."""
    out = np.zeros((1, ROWS_320, 8), np.float32)
    for row in range(ROWS_320):
        out[0, row, :4] = (row % 40 * 8 + 4, 160, 8, 8)
    for row, (left, top, right, bottom), objectness, scores in made:
        x1, y1, x2, y2 = left / 2, top / 2 + 70, right / 2, bottom / 2 + 70
        out[0, row] = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, objectness, *scores]
    return out


TWO = tensor((100, SOURCE_BOXES[0], 0.9, [1.0, 0.0, 0.5]), (6000, SOURCE_BOXES[1], 0.8, [0.0, 0.75, 0.0]))


def decode(output: np.ndarray, the_card: ModelCard | None = None, **options: object):
    settings = {"confidence": 0.25, "iou": 0.6, "multi_label": False, **options}
    return HEAD.decode({"output0": output}, the_card or card(), HALVED, **settings)


def test_a_score_is_objectness_times_class():
    found = decode(TWO)
    np.testing.assert_allclose(found.xyxy, SOURCE_BOXES, atol=1e-3)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.class_id.tolist() == [0, 1]


def test_multi_label_makes_a_candidate_of_every_class_above_the_threshold():
    found = decode(TWO, multi_label=True)
    assert [(d.class_id, round(d.confidence, 3)) for d in found] == [(0, 0.9), (1, 0.6), (2, 0.45)]


def test_objectness_alone_is_no_detection():
    assert len(decode(tensor((0, SOURCE_BOXES[0], 0.99, [0.2, 0.1, 0.1])))) == 0


def test_nothing_above_the_threshold_is_no_boxes():
    assert decode(TWO, confidence=0.95).xyxy.shape == (0, 4)


def test_overlapping_boxes_of_a_class_are_suppressed():
    near = (12.0, 22.0, 112.0, 222.0)
    pair = [(1, SOURCE_BOXES[0], 0.9, [1.0, 0.0, 0.0]), (2, near, 0.8, [1.0, 0.0, 0.0])]
    assert decode(tensor(*pair)).confidence.tolist() == pytest.approx([0.9])
    assert len(decode(tensor(*pair), iou=0.99)) == 2


def test_the_raw_maps_of_old_exports_are_not_read():
    outputs = {"output": TWO, "345": np.full((1, 3, 40, 40, 8), np.nan, np.float32)}
    found = HEAD.decode(outputs, card(), HALVED, confidence=0.25, iou=0.6, multi_label=False)
    np.testing.assert_allclose(found.xyxy, SOURCE_BOXES, atol=1e-3)


def test_tensorflow_exports_of_fractions_give_the_same_boxes_as_pixels():
    fractions = TWO.copy()
    fractions[0, :, :4] /= 320
    for output in (fractions, TWO):
        np.testing.assert_allclose(decode(output, card(layout="nhwc")).xyxy, SOURCE_BOXES, atol=1e-2)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_box_is_found_exactly_when_the_product_is_above_the_threshold(objectness, score, confidence):
    found = decode(tensor((7, SOURCE_BOXES[0], objectness, [score, 0.0, 0.0])), confidence=confidence)
    assert len(found) == int(np.float32(objectness) * np.float32(score) > confidence)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_garbage_gives_finite_boxes_without_a_word(value, multi_label):
    noise = np.random.default_rng(0).random(TWO.shape, np.float32)
    noise[0, ::3] = value
    noise[0, 1::3, 2:4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(noise, multi_label=multi_label)
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()
    assert len(found) > 0  # the third of the rows that is sound


def test_the_card_says_how_ultralytics_trains():
    found = HEAD.recognise([TensorSpec("images", (1, 3, 512, 832), F32)], [TensorSpec("o", (1, 26208, 85), F32)], {})
    assert found == ModelCard("yolov5", (512, 832), COCO_80, "nchw", "rgb", "letterbox_centre", std=(255.0,) * 3)


@pytest.mark.parametrize(
    ("image", "outputs", "count"),
    [
        ((1, 3, 640, 640), [(1, 25200, 85)], 80),
        ((-1, 3, 640, 640), [(-1, 25200, 6)], 1),
        ((-1, 3, -1, -1), [(-1, -1, 85)], 80),
        ((1, 640, 640, 3), [(1, 25200, 25)], 20),
        ((1, 3, 1280, 1280), [(1, 102000, 85)], 80),  # P6
        ((1, 3, 640, 640), [(1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)], 80),
    ],
)
def test_recognises_with_its_number_of_classes(image, outputs, count):
    specs = [TensorSpec(f"o{i}", shape, F32) for i, shape in enumerate(outputs)]
    found = HEAD.recognise([TensorSpec("images", image, F32)], specs, {})
    assert found is not None
    assert len(found.classes) == count == HEAD.class_count(specs)


@pytest.mark.parametrize(
    "outputs",
    [
        [(1, 8400, 85)],  # YOLOX
        [(1, 84, 8400)],  # YOLOv8
        [(1, -1, 84)],  # a transposed YOLOv8
        [(1, 25200, 5)],  # no class
        [(1, 25201, 85)],
        [(1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)],  # YOLOv7 without --grid
        [(1, 25200, 4), (1, 25200, 80)],
        [(25200, 85)],
    ],
    ids=str,
)
def test_leaves_what_is_another_layout(outputs):
    specs = [TensorSpec(f"o{i}", shape, F32) for i, shape in enumerate(outputs)]
    assert HEAD.recognise([TensorSpec("images", (1, 3, 640, 640), F32)], specs, {}) is None
