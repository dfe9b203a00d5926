"""The YOLOv8 head: tensors built value by value from the published layout come back as the boxes they were made of."""

from __future__ import annotations

import time
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yolov8 import HEAD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

F32 = np.dtype(np.float32)
CELLS_320 = 40 * 40 + 20 * 20 + 10 * 10
# A 640 x 360 photo, halved, in the vertical middle of 320 x 320.
HALVED = Geometry(source_hw=(360, 640), scale_xy=(0.5, 0.5), pad_xy=(0.0, 70.0))
SOURCE_BOXES = {17: (10.0, 20.0, 110.0, 220.0), 900: (400.0, 40.0, 600.0, 300.0)}


def card(classes: int = 3, layout: str = "nchw") -> ModelCard:
    return ModelCard("yolov8", (320, 320), tuple(f"c{i}" for i in range(classes)), layout, std=(255.0,) * 3)


def tensor(boxes: dict[int, tuple[float, ...]], scores: dict[int, dict[int, float]], classes: int = 3) -> np.ndarray:
    """[1, 4 + classes, cells]: every cell an idle box of 8 pixels at its place, and the given ones, one by one."""
    out = np.zeros((1, 4 + classes, CELLS_320), np.float32)
    for cell in range(CELLS_320):
        out[0, :4, cell] = (cell % 40 * 8 + 4, 160, 8, 8)
    for cell, (left, top, right, bottom) in boxes.items():
        model = [left * 0.5, top * 0.5 + 70, right * 0.5, bottom * 0.5 + 70]
        out[0, 0, cell] = (model[0] + model[2]) / 2
        out[0, 1, cell] = (model[1] + model[3]) / 2
        out[0, 2, cell] = model[2] - model[0]
        out[0, 3, cell] = model[3] - model[1]
        for class_id, score in scores[cell].items():
            out[0, 4 + class_id, cell] = score
    return out


TWO = tensor(SOURCE_BOXES, {17: {0: 0.9, 2: 0.4}, 900: {1: 0.6}})


def decode(output: np.ndarray, the_card: ModelCard | None = None, **options: object):
    settings = {"confidence": 0.25, "iou": 0.7, "multi_label": False, **options}
    return HEAD.decode({"output0": output}, the_card or card(), HALVED, **settings)


@pytest.mark.parametrize("output", [TWO, TWO.transpose(0, 2, 1).copy()], ids=["as exported", "transposed"])
def test_boxes_come_back_best_first_in_pixels_of_the_photo(output):
    found = decode(output)
    np.testing.assert_allclose(found.xyxy, [SOURCE_BOXES[17], SOURCE_BOXES[900]], atol=1e-3)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.class_id.tolist() == [0, 1]


@pytest.mark.parametrize("output", [TWO, TWO.transpose(0, 2, 1).copy()], ids=["as exported", "transposed"])
def test_multi_label_makes_a_candidate_of_every_class_above_the_threshold(output):
    found = decode(output, multi_label=True)
    assert [(d.class_id, round(d.confidence, 3)) for d in found] == [(0, 0.9), (1, 0.6), (2, 0.4)]
    np.testing.assert_array_equal(found.xyxy[0], found.xyxy[2])


def test_a_score_at_the_threshold_is_not_above_it():
    assert decode(tensor({5: (0, 0, 50, 50)}, {5: {0: 0.5}}), confidence=0.5).class_id.tolist() == []
    assert decode(tensor({5: (0, 0, 50, 50)}, {5: {0: 0.5}}), confidence=0.499).class_id.tolist() == [0]


def test_nothing_above_the_threshold_is_no_boxes():
    assert decode(TWO, confidence=0.95).xyxy.shape == (0, 4)


def test_the_weaker_of_two_boxes_of_a_class_goes_and_of_two_classes_stays():
    near = {3: (10.0, 20.0, 110.0, 220.0), 4: (12.0, 22.0, 112.0, 222.0)}
    assert decode(tensor(near, {3: {0: 0.8}, 4: {0: 0.7}})).confidence.tolist() == pytest.approx([0.8])
    assert decode(tensor(near, {3: {0: 0.8}, 4: {1: 0.7}})).confidence.tolist() == pytest.approx([0.8, 0.7])


def test_the_input_is_not_written_to():
    before = TWO.copy()
    decode(TWO)
    np.testing.assert_array_equal(TWO, before)


def test_half_precision_outputs_give_the_same_boxes():
    found = decode(TWO.astype(np.float16))
    np.testing.assert_allclose(found.xyxy, [SOURCE_BOXES[17], SOURCE_BOXES[900]], atol=0.3)
    assert found.class_id.tolist() == [0, 1]


def test_tensorflow_exports_of_fractions_give_the_same_boxes_as_pixels():
    fractions = TWO.copy()
    fractions[0, :4] /= 320
    for output in (fractions, TWO):
        found = decode(output, card(layout="nhwc"))
        np.testing.assert_allclose(found.xyxy, [SOURCE_BOXES[17], SOURCE_BOXES[900]], atol=1e-2)


def test_a_box_smaller_than_a_pixel_in_an_onnx_export_stays_that_small():
    output = np.zeros((1, 7, CELLS_320), np.float32)
    output[0, :5, 0] = (0.5, 70.5, 1, 1, 0.9)
    np.testing.assert_allclose(decode(output).xyxy, [[0, 0, 2, 2]], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, CELLS_320 - 1), st.integers(0, 600), st.integers(0, 300), st.integers(0, 2)),
        max_size=6,
        unique_by=lambda made: made[0],
    )
)
def test_without_suppression_every_box_made_is_found_again(made):
    boxes = {cell: (x, y, x + 20.0, y + 30.0) for cell, x, y, _ in made}
    scores = {cell: {class_id: 0.9 - 0.1 * rank} for rank, (cell, _, _, class_id) in enumerate(made)}
    found = decode(tensor(boxes, scores), iou=1.0)
    assert found.class_id.tolist() == [class_id for *_, class_id in made]
    np.testing.assert_allclose(found.xyxy.reshape(-1, 4), np.reshape(list(boxes.values()), (-1, 4)), atol=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_garbage_gives_finite_boxes_without_a_word(value, multi_label):
    noise = np.random.default_rng(0).random(TWO.shape, np.float32)
    noise[0, :, ::3] = value
    noise[0, 2:4, 1::3] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(noise, multi_label=multi_label)
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()
    assert len(found) > 0  # the third of the cells that is sound


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_box_whose_score_is_no_number_is_dropped(score, multi_label):
    output = tensor(SOURCE_BOXES, {17: {0: score}, 900: {1: 0.6}})
    assert decode(output, multi_label=multi_label).class_id.tolist() == [1]


def test_a_score_that_rounding_put_above_one_is_one():
    assert decode(tensor({5: (0, 0, 50, 50)}, {5: {0: 1.004}})).confidence.tolist() == [1.0]


def test_onnxruntime_outputs_decode_as_they_come(tmp_path):
    constant = onnx.numpy_helper.from_array(TWO, "value")
    node = onnx.helper.make_node("Constant", [], ["output0"], value=constant)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [info("images", onnx.TensorProto.FLOAT, ["batch", 3, 320, 320])],
        [info("output0", onnx.TensorProto.FLOAT, [1, 7, CELLS_320])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": np.zeros((1, 3, 320, 320), np.float32)})
    assert decode(output).class_id.tolist() == [0, 1]


def test_the_card_says_how_ultralytics_trains():
    found = HEAD.recognise([TensorSpec("images", (-1, 3, 480, 640), F32)], [TensorSpec("o", (-1, 84, 6300), F32)], {})
    assert found == ModelCard("yolov8", (480, 640), COCO_80, "nchw", "rgb", "letterbox_centre", std=(255.0,) * 3)


@pytest.mark.parametrize(
    ("image", "output", "count"),
    [
        ((1, 3, 640, 640), (1, 84, 8400), 80),
        ((1, 3, 640, 640), (1, 5, 8400), 1),
        ((1, 3, 640, 640), (1, 8400, 84), 80),
        ((1, 3, 640, 640), (1, 8400, 5), 1),
        ((-1, 3, -1, -1), (-1, 84, -1), 80),
        ((-1, 3, -1, -1), (-1, -1, 84), 80),
        ((1, 640, 640, 3), (1, 84, 8400), 80),
        ((1, 3, 1280, 1280), (1, 84, 34000), 80),  # P6
        ((1, 3, 640, 640), (1, 84, 34000), 80),  # P2
    ],
)
def test_recognises_with_its_number_of_classes(image, output, count):
    outputs = [TensorSpec("output0", output, F32)]
    found = HEAD.recognise([TensorSpec("images", image, F32)], outputs, {})
    assert found is not None
    assert len(found.classes) == count == HEAD.class_count(outputs)


@pytest.mark.parametrize(
    "outputs",
    [
        [(1, 8400, 85)],  # YOLOX
        [(1, 25200, 85)],  # YOLOv5
        [(1, 84, 8399)],  # no grid of 640 x 640
        [(1, 84, 8400), (1, 32, 160, 160)],  # segmentation
        [(1, 4, 8400)],
        [(1, -1, -1)],
        [(1, 300, -1)],  # Ultralytics' RT-DETR
        [(84, 8400)],
    ],
    ids=str,
)
def test_leaves_what_is_another_layout(outputs):
    specs = [TensorSpec(f"o{i}", shape, F32) for i, shape in enumerate(outputs)]
    assert HEAD.recognise([TensorSpec("images", (1, 3, 640, 640), F32)], specs, {}) is None


def test_a_hundred_objects_of_coco_decode_within_milliseconds():
    random = np.random.default_rng(1)
    output = random.random((1, 84, 8400), np.float32) * 0.1
    output[0, :2] = random.random((2, 8400), np.float32) * 640
    output[0, 2:4] = 40
    output[0, 4 + random.integers(0, 80, 100), random.choice(8400, 100, replace=False)] = 0.8
    coco = ModelCard("yolov8", (640, 640), COCO_80, std=(255.0,) * 3)
    plain = Geometry((640, 640), (1.0, 1.0), (0.0, 0.0))
    best = np.inf
    for _ in range(60):
        start = time.perf_counter()
        HEAD.decode({"o": output}, coco, plain, confidence=0.25, iou=0.7, multi_label=False)
        best = min(best, time.perf_counter() - start)
    assert best < 0.005  # measured 0.25 ms; the room is for busy machines
