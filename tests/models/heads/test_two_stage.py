"""The two-stage head: Faster R-CNN's lists come back as boxes, and its input, one picture, can be fed."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.errors import ModelError
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.two_stage import HEAD, MEAN_BGR
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry, Preprocessor, image_spec

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
# A 1600 x 900 photo at 0.8, in the corner of 1344 x 800.
CORNER = Geometry(source_hw=(900, 1600), scale_xy=(0.8, 0.8), pad_xy=(0.0, 0.0))
FIRST, SECOND = (10.0, 20.0, 110.0, 220.0), (400.0, 40.0, 600.0, 300.0)
INPUT = [TensorSpec("image", (3, -1, -1), F32)]
OUTPUTS = [TensorSpec("6379", (-1, 4), F32), TensorSpec("6381", (-1,), I64), TensorSpec("6383", (-1,), F32)]
MASKS = TensorSpec("6887", (-1, 1, 28, 28), F32)


def card() -> ModelCard:
    found = HEAD.recognise(INPUT, OUTPUTS, {})
    assert found is not None
    return found


def lists(*made: tuple[tuple[float, ...], float, int]) -> dict[str, np.ndarray]:
    """The model's outputs for (source box, score, label from 1)."""
    return {
        "6379": np.array([[v * 0.8 for v in box] for box, _, _ in made], np.float32).reshape(-1, 4),
        "6381": np.array([label for _, _, label in made], np.int64),
        "6383": np.array([score for _, score, _ in made], np.float32),
    }


def decode(outputs: dict[str, np.ndarray], confidence: float = 0.25, multi_label: bool = False):
    return HEAD.decode(outputs, card(), CORNER, confidence=confidence, iou=0.5, multi_label=multi_label)


@pytest.mark.parametrize("multi_label", [False, True])
def test_boxes_come_back_best_first_and_labels_count_from_one(multi_label):
    found = decode(lists((SECOND, 0.6, 80), (FIRST, 0.9, 1)), multi_label=multi_label)
    np.testing.assert_allclose(found.xyxy, [FIRST, SECOND], atol=1e-3)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert [COCO_80[i] for i in found.class_id] == ["person", "toothbrush"]


def test_masks_beside_the_boxes_are_not_read():
    outputs = {**lists((FIRST, 0.9, 1)), "6887": np.full((1, 1, 28, 28), np.nan, np.float32)}
    assert len(decode(outputs)) == 1


def test_background_and_labels_beyond_coco_are_dropped():
    assert decode(lists((FIRST, 0.9, 0), (FIRST, 0.8, 81), (SECOND, 0.7, 3))).class_id.tolist() == [2]


def test_a_photo_of_nothing_is_no_boxes():
    assert decode(lists()).xyxy.shape == (0, 4)
    assert decode(lists((FIRST, 0.2, 1))).xyxy.shape == (0, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(1, 80)), max_size=30), st.floats(0, 1))
def test_what_is_above_the_threshold_is_returned_in_order(made, confidence):
    found = decode(lists(*((FIRST, score, label) for score, label in made)), confidence)
    kept = sorted(((s, c - 1) for s, c in made if np.float32(s) > np.float32(confidence)), key=lambda one: -one[0])
    assert found.confidence.tolist() == [score for score, _ in kept]
    assert found.class_id.tolist() == [class_id for _, class_id in kept]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_garbage_gives_finite_boxes_without_a_word(value):
    outputs = lists((FIRST, 0.9, 1), (FIRST, 0.9, 2), (FIRST, value, 3), (SECOND, 0.5, 4))
    outputs["6379"][1, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(outputs)
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()
    assert set(found.class_id) >= {0, 3}
    assert 1 not in found.class_id


def test_the_card_says_what_the_zoo_says():
    assert card() == ModelCard(
        "two_stage", (800, 1344), COCO_80, "nchw", "bgr", "letterbox_corner", mean=(102.9801, 115.9465, 122.7717)
    )
    assert all(side % 32 == 0 for side in card().input_hw)


def test_a_fixed_input_is_taken_as_it_is():
    fixed = [TensorSpec("image", (3, 640, 960), F32)]
    assert HEAD.recognise(fixed, OUTPUTS, {}).input_hw == (640, 960)


def test_mask_rcnn_is_recognised_too_in_any_order():
    assert HEAD.recognise(INPUT, [MASKS, *OUTPUTS[::-1]], {}) is not None


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([TensorSpec("image", (1, 3, -1, -1), F32)], OUTPUTS),
        ([TensorSpec("audio", (1, -1, -1), F32)], OUTPUTS),
        (INPUT, OUTPUTS[:2]),
        (INPUT, [*OUTPUTS, TensorSpec("more", (1, 2, 3), F32)]),
        (INPUT, [*OUTPUTS, MASKS, MASKS]),
        (INPUT, [TensorSpec("boxes", (-1, 5), F32), *OUTPUTS[1:]]),
        (INPUT, [OUTPUTS[0], OUTPUTS[2], TensorSpec("more", (-1,), F32)]),
        ([*INPUT, TensorSpec("orig_target_sizes", (1, 2), I64)], OUTPUTS),
    ],
    ids=str,
)
def test_leaves_what_is_another_layout(inputs, outputs):
    assert HEAD.recognise(inputs, outputs, {}) is None


# --- an input without a batch axis ---------------------------------------------------------------


def test_the_picture_is_fed_as_bgr_less_the_mean_in_the_corner():
    spec = image_spec(INPUT)
    assert spec is INPUT[0]
    preprocess = Preprocessor(card(), spec)
    assert preprocess.shape == (3, 800, 1344)
    image = np.empty((400, 672, 3), np.uint8)
    image[:] = (10, 20, 30)
    array = np.zeros(preprocess.shape, np.float32)
    geometry = preprocess(image, array)
    assert geometry.scale_xy == (2.0, 2.0)
    for plane, value, mean in zip(array, (10, 20, 30), MEAN_BGR, strict=True):
        np.testing.assert_allclose(plane, value - mean, atol=1e-4)


def test_the_grey_of_the_padding_is_the_mean_of_training():
    assert card().pad == round(sum(MEAN_BGR) / 3)


def test_an_input_with_a_batch_axis_is_preferred():
    batch = TensorSpec("pixel_values", (1, 3, 8, 8), F32)
    assert image_spec([TensorSpec("pixel_mask", (3, 64, 64), I64), batch]) is batch
    assert image_spec([TensorSpec("sizes", (1, 2), I64)]) is None


def test_an_input_of_another_shape_than_the_card_is_refused():
    with pytest.raises(ModelError, match=r"\[3, 64, 64\].*\[3, 800, 1344\]"):
        Preprocessor(card(), TensorSpec("image", (3, 64, 64), F32))


def test_a_graph_without_a_batch_axis_runs_on_what_is_prepared():
    """The peak of each plane of a grey picture: the array is what the engine wants."""
    helper, kind = onnx.helper, onnx.TensorProto
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["image"], ["peaks"], axes=[1, 2], keepdims=0)],
        "g",
        [info("image", kind.FLOAT, [3, "height", "width"])],
        [info("peaks", kind.FLOAT, [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    preprocess = Preprocessor(card(), INPUT[0])
    array = np.zeros(preprocess.shape, np.float32)
    preprocess(np.full((800, 1344, 3), 128, np.uint8), array)
    (peaks,) = session.run(None, {"image": array})
    np.testing.assert_allclose(peaks, [128 - mean for mean in MEAN_BGR], rtol=1e-5)
