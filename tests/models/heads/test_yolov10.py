"""The YOLOv10 head: rows that the model chose itself come back as they are, in pixels of the photo."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yolov10 import HEAD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

F32 = np.dtype(np.float32)
# A 640 x 360 photo, halved, in the vertical middle of 320 x 320.
HALVED = Geometry(source_hw=(360, 640), scale_xy=(0.5, 0.5), pad_xy=(0.0, 70.0))
FIRST, SECOND = (10.0, 20.0, 110.0, 220.0), (400.0, 40.0, 600.0, 300.0)


def card(layout: str = "nchw") -> ModelCard:
    return ModelCard("yolov10", (320, 320), COCO_80, layout, std=(255.0,) * 3)


def tensor(*made: tuple[tuple[float, ...], float, int]) -> np.ndarray:
    """[1, 300, 6] from (source box, score, class), and faint boxes all over the input."""
    out = np.zeros((1, 300, 6), np.float32)
    for row in range(300):
        out[0, row] = [row, 100, row + 8, 108, 0.001, 0]
    for row, ((left, top, right, bottom), score, class_id) in enumerate(made):
        out[0, row] = [left / 2, top / 2 + 70, right / 2, bottom / 2 + 70, score, class_id]
    return out


def decode(output: np.ndarray, the_card: ModelCard | None = None, **options: object):
    settings = {"confidence": 0.25, "iou": 0.5, "multi_label": False, **options}
    return HEAD.decode({"output0": output}, the_card or card(), HALVED, **settings)


def test_boxes_come_back_best_first():
    found = decode(tensor((SECOND, 0.6, 79), (FIRST, 0.9, 0)))
    np.testing.assert_allclose(found.xyxy, [FIRST, SECOND], atol=1e-3)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.class_id.tolist() == [0, 79]


def test_overlapping_boxes_stay_for_the_model_has_chosen():
    near = (12.0, 22.0, 112.0, 222.0)
    assert len(decode(tensor((FIRST, 0.9, 0), (near, 0.8, 0)), iou=0.1)) == 2


def test_a_box_written_once_for_each_of_its_classes_stays_once_unless_multi_label():
    output = tensor((FIRST, 0.5, 7), (SECOND, 0.6, 1), (FIRST, 0.7, 2))
    assert [(d.class_id, round(d.confidence, 2)) for d in decode(output)] == [(2, 0.7), (1, 0.6)]
    found = decode(output, multi_label=True)
    assert [(d.class_id, round(d.confidence, 2)) for d in found] == [(2, 0.7), (1, 0.6), (7, 0.5)]


def test_nothing_above_the_threshold_is_no_boxes():
    assert decode(tensor((FIRST, 0.2, 0))).xyxy.shape == (0, 4)
    assert decode(np.zeros((1, 300, 6), np.float32), confidence=0.0).xyxy.shape == (0, 4)


def test_a_class_that_the_card_does_not_name_is_dropped():
    assert decode(tensor((FIRST, 0.9, 80), (SECOND, 0.8, -1), (SECOND, 0.7, 3))).class_id.tolist() == [3]


def test_tensorflow_exports_of_fractions_give_the_same_boxes_as_pixels():
    pixels = tensor((FIRST, 0.9, 0), (SECOND, 0.6, 79))
    fractions = pixels.copy()
    fractions[0, :, :4] /= 320
    for output in (fractions, pixels):
        np.testing.assert_allclose(decode(output, card("nhwc")).xyxy, [FIRST, SECOND], atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1, width=32), st.integers(0, 79)), max_size=20))
def test_every_distinct_box_above_the_threshold_is_found_with_its_best_score(made):
    rows = [((float(x), 10.0, x + 50.0, 60.0), score, class_id) for x, score, class_id in made]
    best: dict[int, float] = {}
    for x, score, _ in made:
        best[x] = max(best.get(x, 0.0), score)
    expected = sorted((score for score in best.values() if score > 0.25), reverse=True)
    assert decode(tensor(*rows)).confidence.tolist() == expected


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_garbage_gives_finite_boxes_without_a_word(value, multi_label):
    output = tensor((FIRST, 0.9, 0), (FIRST, value, 0), (FIRST, 0.8, value), (SECOND, 0.7, 1))
    output[0, 4:9] = value
    output[0, 9] = [1, value, 9, 9, 0.9, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(output, multi_label=multi_label)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.confidence).all()
    assert 1 in found.class_id


def test_the_card_says_how_ultralytics_trains():
    found = HEAD.recognise([TensorSpec("images", (1, 3, 480, 640), F32)], [TensorSpec("o", (1, 300, 6), F32)], {})
    assert found == ModelCard("yolov10", (480, 640), COCO_80, "nchw", "rgb", "letterbox_centre", std=(255.0,) * 3)


def test_the_shape_does_not_say_how_many_classes_there_are():
    assert HEAD.class_count([TensorSpec("o", (1, 300, 6), F32)]) is None


@pytest.mark.parametrize(
    ("output", "metadata", "claimed"),
    [
        ((1, 300, 6), {}, True),
        ((-1, 300, 6), {"end2end": "True"}, True),
        ((1, 100, 6), {"end2end": "True"}, True),
        ((1, 100, 6), {"args": "{'batch': 1, 'nms': True}"}, True),
        ((-1, -1, 6), {"end2end": "True"}, True),
        ((1, 100, 6), {}, False),
        ((-1, -1, 6), {"end2end": "False", "args": "{'nms': False}"}, False),
        ((1, 8400, 6), {}, False),
        ((1, 300, 84), {}, False),
        ((1, 6, 300), {}, False),
        ((1, 300, 6), {"description": "Ultralytics rtdetr-l model", "names": "{0: 'a', 1: 'b'}"}, False),
    ],
)
def test_claims_three_hundred_rows_of_six_or_what_metadata_says_ends_so(output, metadata, claimed):
    found = HEAD.recognise(
        [TensorSpec("images", (1, 3, 640, 640), F32)], [TensorSpec("output0", output, F32)], metadata
    )
    assert (found is not None) == claimed


def test_two_outputs_are_another_layout():
    outputs = [TensorSpec("a", (1, 300, 6), F32), TensorSpec("b", (1, 32, 160, 160), F32)]
    assert HEAD.recognise([TensorSpec("images", (1, 3, 640, 640), F32)], outputs, {}) is None
