"""The RT-DETR head: each published layout, built query by query, comes back as the boxes it was made of."""

from __future__ import annotations

import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import TensorSpec
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.rtdetr import HEAD, IMAGENET_MEAN, IMAGENET_STD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Geometry

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
INPUT_HW = (320, 640)
# A 1280 x 320 photo, stretched onto 640 x 320.
STRETCHED = Geometry(source_hw=(320, 1280), scale_xy=(0.5, 1.0), pad_xy=(0.0, 0.0))
FIRST, SECOND = (10.0, 20.0, 110.0, 220.0), (400.0, 40.0, 1200.0, 300.0)
SCORES = {5: (FIRST, {0: 0.9, 2: 0.4}), 200: (SECOND, {1: 0.6})}
LAYOUTS = ["chosen", "ultralytics", "sigmoid", "softmax", "rfdetr"]


def card(classes: int = 3) -> ModelCard:
    return ModelCard("rtdetr", INPUT_HW, tuple(f"c{i}" for i in range(classes)), resize="stretch", std=(255.0,) * 3)


def fractions(box: tuple[float, ...]) -> list[float]:
    """Centre and size as fractions of the photo, which are those of the input, for it is stretched."""
    left, top, right, bottom = box[0] / 1280, box[1] / 320, box[2] / 1280, box[3] / 320
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def outputs(layout: str, made: dict[int, tuple[tuple[float, ...], dict[int, float]]]) -> dict[str, np.ndarray]:
    """What a model of this layout writes for (query, source box, scores by class); three classes."""
    boxes = np.tile(np.array([0.5, 0.5, 0.01, 0.01], np.float32), (1, 300, 1))
    scores = np.full((1, 300, 3), 1e-6, np.float32)
    for query, (box, by_class) in made.items():
        boxes[0, query] = fractions(box)
        for class_id, score in by_class.items():
            scores[0, query, class_id] = score
    if layout == "chosen":  # the best 300 of 300 x 3, as corners times the sizes that were fed: 1 x 1
        order = np.argsort(-scores[0].ravel(), kind="stable")[:300]
        half = boxes[0, order // 3, 2:] / 2
        corners = np.concatenate([boxes[0, order // 3, :2] - half, boxes[0, order // 3, :2] + half], axis=1)
        return {"labels": order[None] % 3, "boxes": corners[None], "scores": scores[0].ravel()[order][None]}
    if layout == "ultralytics":
        return {"output0": np.concatenate([boxes, scores], axis=2)}
    if layout == "softmax":
        rest = 1 - scores.sum(axis=2, keepdims=True)
        return {"logits": np.log(np.concatenate([scores, rest], axis=2)) + 3, "pred_boxes": boxes}
    logits = np.vectorize(logit)(scores).astype(np.float32)
    return {"labels": logits, "dets": boxes} if layout == "rfdetr" else {"logits": logits, "pred_boxes": boxes}


def decode(made: dict[str, np.ndarray], **options: object):
    settings = {"confidence": 0.25, "iou": 0.5, "multi_label": False, **options}
    return HEAD.decode(made, card(), STRETCHED, **settings)


SEPARATE = {5: (FIRST, {0: 0.9}), 200: (SECOND, {1: 0.6})}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_come_back_best_first_in_pixels_of_the_photo(layout):
    found = decode(outputs(layout, SEPARATE))
    np.testing.assert_allclose(found.xyxy, [FIRST, SECOND], atol=1e-2)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-5)
    assert found.class_id.tolist() == [0, 1]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "softmax"])
def test_a_query_of_two_good_classes_is_one_box_or_two_when_multi_label(layout):
    made = outputs(layout, SCORES)
    assert [(d.class_id, round(d.confidence, 4)) for d in decode(made)] == [(0, 0.9), (1, 0.6)]
    found = decode(made, multi_label=True)
    assert [(d.class_id, round(d.confidence, 4)) for d in found] == [(0, 0.9), (1, 0.6), (2, 0.4)]
    np.testing.assert_allclose(found.xyxy[2], FIRST, atol=1e-2)


def test_softmax_shares_one_between_the_classes():
    made = outputs("softmax", {5: (FIRST, {0: 0.5, 2: 0.4})})
    assert [(d.class_id, round(d.confidence, 4)) for d in decode(made)] == [(0, 0.5)]
    found = decode(made, multi_label=True)
    assert [(d.class_id, round(d.confidence, 4)) for d in found] == [(0, 0.5), (2, 0.4)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_above_the_threshold_is_no_boxes(layout):
    assert decode(outputs(layout, SEPARATE), confidence=0.95).xyxy.shape == (0, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_overlapping_boxes_stay_for_the_model_has_chosen(layout):
    near = (12.0, 22.0, 112.0, 222.0)
    assert len(decode(outputs(layout, {1: (FIRST, {0: 0.9}), 2: (near, {0: 0.8})}), iou=0.01)) == 2


def test_no_object_is_not_a_class():
    logits = np.zeros((1, 100, 4), np.float32)
    logits[0, :, 3] = 10
    assert len(decode({"logits": logits, "pred_boxes": np.full((1, 100, 4), 0.5, np.float32)})) == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-12, 12, width=32), min_size=3, max_size=3), st.floats(0.001, 0.999))
def test_a_sigmoid_is_above_the_threshold_exactly_when_its_logit_is(logits, confidence):
    array = np.full((1, 300, 3), -30, np.float32)
    array[0, 0] = logits
    boxes = np.full((1, 300, 4), 0.5, np.float32)
    found = decode({"logits": array, "pred_boxes": boxes}, confidence=confidence, multi_label=True)
    scores = sorted((1 / (1 + math.exp(-x)) for x in logits), reverse=True)
    clear = [score for score in scores if abs(score - confidence) > 1e-6]
    expected = [score for score in clear if score > confidence]
    assert len(expected) <= len(found) <= len(expected) + len(scores) - len(clear)
    np.testing.assert_allclose(found.confidence[: len(expected)], expected, atol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_garbage_gives_finite_boxes_without_a_word(layout, value, multi_label):
    made = outputs(layout, SEPARATE)
    for array in made.values():
        if array.dtype.kind == "f":
            array[0, 1:4] = value
            array[0, 6:100, ...] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(made, multi_label=multi_label)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.confidence).all()
    assert (found.confidence <= 1).all()


def test_the_sizes_are_fed_as_one_so_that_boxes_stay_fractions():
    """A graph with lyuwenyu's last step, boxes times orig_target_sizes, run on what the head feeds."""
    helper, kind = onnx.helper, onnx.TensorProto
    made = outputs("chosen", SEPARATE)
    nodes = [
        helper.make_node("Constant", [], ["labels"], value=onnx.numpy_helper.from_array(made["labels"])),
        helper.make_node("Constant", [], ["scores"], value=onnx.numpy_helper.from_array(made["scores"])),
        helper.make_node("Constant", [], ["raw"], value=onnx.numpy_helper.from_array(made["boxes"])),
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=kind.FLOAT),
        helper.make_node("Concat", ["sizes", "sizes"], ["whwh"], axis=1),
        helper.make_node("Mul", ["raw", "whwh"], ["boxes"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("images", kind.FLOAT, ["N", 3, 320, 640]), info("orig_target_sizes", kind.INT64, ["N", 2])],
        [info("labels", kind.INT64, None), info("boxes", kind.FLOAT, None), info("scores", kind.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"images": np.zeros((1, 3, 320, 640), np.float32)}
    feeds["orig_target_sizes"] = HEAD.extra_feeds(STRETCHED)["orig_target_sizes"]
    names = [output.name for output in session.get_outputs()]
    found = decode(dict(zip(names, session.run(None, feeds), strict=True)))
    np.testing.assert_allclose(found.xyxy, [FIRST, SECOND], atol=1e-2)


def test_a_detr_is_told_that_all_is_picture():
    mask = HEAD.extra_feeds(STRETCHED)["pixel_mask"]
    assert mask.shape == (1, 64, 64)
    assert mask.dtype == np.int64
    assert mask.all()


IMAGE = ("images", (1, 3, 640, 640))
SIZES = ("orig_target_sizes", (1, 2))
CHOSEN = [("labels", (1, 300)), ("boxes", (1, 300, 4)), ("scores", (1, 300))]


def specs(named: list[tuple[str, tuple[int, ...]]]) -> list[TensorSpec]:
    whole = {"labels", "orig_target_sizes", "pixel_mask"}
    return [TensorSpec(name, shape, I64 if name in whole and len(shape) == 2 else F32) for name, shape in named]


@pytest.mark.parametrize(
    ("inputs", "outputs", "count", "first"),
    [
        ([IMAGE, SIZES], CHOSEN, None, "person"),
        ([IMAGE, SIZES], CHOSEN[::-1], None, "person"),
        ([IMAGE, ("orig_target_sizes", (-1, 2))], [("labels", (-1, 300)), *CHOSEN[1:]], None, "person"),
        ([IMAGE], [("output0", (1, 300, 84))], 80, "person"),
        ([IMAGE], [("output0", (-1, 300, 5))], 1, "class 0"),
        (
            [("pixel_values", (-1, 3, 640, 640))],
            [("logits", (-1, 300, 80)), ("pred_boxes", (-1, 300, 4))],
            80,
            "person",
        ),
        ([("pixel_values", (-1, -1, -1, -1))], [("logits", (-1, -1, 92)), ("pred_boxes", (-1, -1, 4))], 91, "unused 0"),
        ([IMAGE], [("logits", (1, 100, 6)), ("pred_boxes", (1, 100, 4))], 5, "class 0"),
        ([IMAGE], [("pred_logits", (1, 300, 80)), ("pred_boxes", (1, 300, 4))], 80, "person"),
        ([("input", (1, 3, 560, 560))], [("dets", (1, 300, 4)), ("labels", (1, 300, 91))], 91, "unused 0"),
        ([("input", (-1, 3, -1, -1))], [("dets", (-1, -1, -1)), ("labels", (-1, -1, 91))], 91, "unused 0"),
    ],
    ids=str,
)
def test_recognises_the_published_layouts(inputs, outputs, count, first):
    outs = specs(outputs)
    found = HEAD.recognise(specs(inputs), outs, {})
    assert found is not None
    assert HEAD.class_count(outs) == count
    assert len(found.classes) == (count or 80)
    assert found.classes[0] == first


def test_class_names_of_ninety_one_logits_stand_at_cocos_own_ids():
    found = HEAD.recognise(specs([IMAGE]), specs([("dets", (1, 300, 4)), ("labels", (1, 300, 91))]), {})
    assert (found.classes[1], found.classes[18], found.classes[90]) == ("person", "dog", "toothbrush")


def test_each_family_sees_the_photo_as_it_was_trained():
    of_rtdetr = HEAD.recognise(specs([IMAGE, SIZES]), specs(CHOSEN), {})
    assert of_rtdetr == ModelCard("rtdetr", (640, 640), COCO_80, "nchw", "rgb", "stretch", std=(255.0,) * 3)
    of_rfdetr = HEAD.recognise(specs([IMAGE]), specs([("dets", (1, 300, 4)), ("labels", (1, 300, 91))]), {})
    assert (of_rfdetr.resize, of_rfdetr.mean, of_rfdetr.std) == ("stretch", IMAGENET_MEAN, IMAGENET_STD)
    opened = [("pixel_values", (-1, -1, -1, -1)), ("pixel_mask", (-1, 64, 64))]
    of_detr = HEAD.recognise(specs(opened), specs([("logits", (-1, -1, 92)), ("pred_boxes", (-1, -1, 4))]), {})
    assert (of_detr.resize, of_detr.mean, of_detr.std) == ("letterbox_corner", IMAGENET_MEAN, IMAGENET_STD)
    assert of_detr.input_hw == (800, 1344)


def test_the_names_count_the_classes_of_an_open_ultralytics_export():
    outs = specs([("output0", (-1, 300, -1))])
    opened = specs([("images", (-1, 3, -1, -1))])
    assert HEAD.recognise(opened, outs, {}) is None
    found = HEAD.recognise(opened, outs, {"names": "{0: 'cat', 1: 'dog', 2: 'cow'}"})
    assert len(found.classes) == 3
    assert HEAD.class_count(outs) is None


def test_six_columns_are_two_classes_only_where_the_file_says_so():
    outs = specs([("output0", (1, 300, 6))])
    says = {"description": "Ultralytics RT-DETR-l model", "names": "{0: 'cat', 1: 'dog'}"}
    assert HEAD.recognise(specs([IMAGE]), outs, {}) is None
    assert HEAD.recognise(specs([IMAGE]), outs, {"names": says["names"]}) is None
    assert len(HEAD.recognise(specs([IMAGE]), outs, says).classes) == 2


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([IMAGE], CHOSEN),  # sizes fixed inside the graph: their scale is nobody's knowledge
        ([IMAGE, SIZES], CHOSEN[1:]),
        ([IMAGE], [("output0", (1, 84, 8400))]),
        ([IMAGE], [("output0", (1, 8400, 84))]),
        ([IMAGE], [("output0", (1, 300, 4))]),
        ([IMAGE], [("a", (1, 8400, 4)), ("b", (1, 8400, 80))]),
        ([IMAGE], [("scores", (1, 4420, 2)), ("boxes", (1, 4420, 4))]),
        ([IMAGE], [("dets", (1, 100, 5)), ("labels", (1, 100))]),  # mmdeploy
        ([IMAGE], [("logits", (1, 100, 92)), ("pred_boxes", (1, 300, 4))]),
        ([IMAGE], [("logits", (1, 100, 92)), ("pred_boxes", (1, 100, 5))]),  # rotated boxes
        ([("image", (3, -1, -1))], [("a", (-1, 4)), ("b", (-1,)), ("c", (-1,))]),
    ],
    ids=str,
)
def test_leaves_what_is_another_layout(inputs, outputs):
    assert HEAD.recognise(specs(inputs), specs(outputs), {}) is None
