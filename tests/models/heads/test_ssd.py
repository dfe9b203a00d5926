"""SSD with TFLite_Detection_PostProcess: its four outputs are told apart by the numbers in their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.ssd import HEAD
from edge_sdk.models.labels import COCO_80
from edge_sdk.models.preprocess import Preprocessor

from .head_checks import (
    GEOMETRY,
    MAN,
    PORTRAIT,
    TIE,
    best_of,
    decode_broken,
    overlap,
    read_only,
    run_real,
    spec,
    to_model,
)

QUANTIZED = spec("normalized_input_image_tensor", 1, 60, 90, 3, dtype=np.uint8, quantization=(0.0078125, 128))

# Names of boxes, classes, scores and count: TensorFlow 1; TensorFlow 2; and since 2.6, in the opposite order.
TF1 = ("TFLite_Detection_PostProcess", *(f"TFLite_Detection_PostProcess:{i}" for i in (1, 2, 3)))
TF2 = tuple(f"StatefulPartitionedCall:{i}" for i in (31, 32, 33, 34))
TF26 = tuple(f"StatefulPartitionedCall:{i}" for i in (3, 2, 1, 0))

BOXES = ((20.0, 10.0, 80.0, 60.0), (30.0, 40.0, 150.0, 121.0), (5.0, 5.0, 9.0, 9.0))


def specs(names: tuple, rows: int = 10) -> tuple:
    shapes = ((1, rows, 4), (1, rows), (1, rows), (1,))
    return tuple(spec(name, *shape) for name, shape in zip(names, shapes, strict=True))


def card(names: tuple = TF1) -> ModelCard:
    found = HEAD.recognise((QUANTIZED,), specs(names), {})
    assert found is not None
    return found


def outputs_of(names: tuple) -> dict[str, np.ndarray]:
    boxes = np.zeros((1, 10, 4), np.float32)
    for row, box in enumerate(BOXES):
        left, top, right, bottom = to_model(box)
        boxes[0, row] = top / 60, left / 90, bottom / 60, right / 90
    classes, scores = np.zeros((1, 10), np.float32), np.zeros((1, 10), np.float32)
    classes[0, :3], scores[0, :3] = (0, 16, 89), (0.75, 0.5, 0.25)
    return dict(zip(names, (boxes, classes, scores, np.array([3], np.float32)), strict=True))


def decode(outputs: dict[str, np.ndarray], confidence: float = 0.2, *, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=confidence, iou=0.6, multi_label=multi_label)


@pytest.mark.parametrize("names", [TF1, TF2, TF26])
@pytest.mark.parametrize("listed", [(0, 1, 2, 3), (2, 0, 3, 1), (3, 2, 1, 0)])
def test_boxes_come_back_whatever_the_names_and_their_order(names: tuple, listed: tuple):
    outputs = outputs_of(names)
    found = decode({names[i]: outputs[names[i]] for i in listed})
    np.testing.assert_allclose(found.xyxy, BOXES, atol=1e-4)
    assert found.confidence.tolist() == [0.75, 0.5, 0.25]


def test_boxes_at_or_below_the_threshold_are_left_out():
    assert decode(outputs_of(TF1), 0.5).confidence.tolist() == [0.75]


def test_class_indices_are_cocos_own_numbers_less_one():
    found = decode(outputs_of(TF1))
    assert [card().classes[i] for i in found.class_id] == ["person", "cat", "toothbrush"]
    assert [name for name in card().classes if not name.startswith("unused")] == list(COCO_80)


def test_a_box_written_for_two_classes_is_kept_twice_only_with_multi_label():
    outputs = outputs_of(TF1)
    outputs[TF1[0]][0, 1] = outputs[TF1[0]][0, 0]
    assert decode(outputs).class_id.tolist() == [0, 89]
    assert decode(outputs, multi_label=True).class_id.tolist() == [0, 16, 89]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), {one.name: one.shape for one in specs(TF1)}, seed)


def test_a_quantized_input_is_given_the_pixels_as_they_are():
    picture = np.arange(60 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 90, 3)
    for dtype, zero_point in ((np.uint8, 128), (np.int8, 0), (np.int8, -1)):
        stored = np.zeros((1, 60, 90, 3), dtype)
        quantized = spec("input", 1, 60, 90, 3, dtype=dtype, quantization=(0.0078125, zero_point))
        found = HEAD.recognise((quantized,), specs(TF1), {})
        assert found is not None
        Preprocessor(found, quantized)(picture, stored)
        raw = stored[0].astype(int) - np.iinfo(dtype).min
        np.testing.assert_array_equal(raw, picture[..., ::-1])


def test_a_float_input_is_given_values_from_minus_one_to_one():
    found = HEAD.recognise((spec("normalized_input_image_tensor", 1, 300, 300, 3),), specs(TF1), {})
    assert found is not None
    assert (found.mean, found.std) == ((127.5,) * 3, (127.5,) * 3)


def test_the_number_of_classes_is_not_in_the_shapes():
    assert HEAD.class_count(specs(TF1)) is None


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        pytest.param(spec("input", 1, 3, 300, 300), specs(TF1), id="channels first"),
        pytest.param(spec("serving_default_images:0", 1, 320, 320, 3), specs(TF26), id="EfficientDet-Lite"),
        pytest.param(QUANTIZED, specs(TF1)[:3], id="no count"),
        pytest.param(QUANTIZED, specs(("boxes", "classes", "scores", "count")), id="names without numbers"),
        pytest.param(QUANTIZED, specs((TF26[1], TF26[0], TF26[2], TF26[3])), id="boxes neither first nor last"),
    ],
)
def test_other_models_are_not_claimed(inputs, outputs: tuple):
    assert HEAD.recognise((inputs,), outputs, {}) is None


def test_ssd_mobilenet_finds_the_man_and_his_tie(shared: Path):
    found_card, found = run_real(shared / "models/ssd_mobilenet_v1_quant/detect.tflite", shared / PORTRAIT, 0.4)
    assert (found_card.head, found_card.input_hw, found_card.mean, found_card.std) == (
        "ssd",
        (300, 300),
        (128,) * 3,
        (128,) * 3,
    )
    assert overlap(best_of(found_card, found, "person"), MAN) > 0.7
    assert overlap(best_of(found_card, found, "tie"), TIE) > 0.7
