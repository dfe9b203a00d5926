"""EfficientDet in its two published forms, both with suppression in the graph."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.efficientdet import HEAD

from .head_checks import GEOMETRY, claims_of_all_heads, decode_broken, read_only, spec, to_model

LITE = spec("serving_default_images:0", 1, 320, 320, 3, dtype=np.uint8, quantization=(0.0078125, 127))
LITE_OUTPUTS = (
    spec("StatefulPartitionedCall:1", 1, 25),  # scores, in the order in which the interpreter lists them
    spec("StatefulPartitionedCall:3", 1, 25, 4),
    spec("StatefulPartitionedCall:0", 1),
    spec("StatefulPartitionedCall:2", 1, 25),
)
AUTOML = spec("image_arrays", 1, 512, 512, 3, dtype=np.uint8)
ROWS = spec("detections", 1, 100, 7)

BOXES = ((20.0, 10.0, 80.0, 60.0), (30.0, 40.0, 150.0, 121.0))


def card(inputs, *outputs) -> ModelCard:
    found = HEAD.recognise((inputs,), outputs, {})
    assert found is not None
    return found


def lite_outputs() -> dict[str, np.ndarray]:
    arrays = {one.name: np.zeros(one.shape, np.float32) for one in LITE_OUTPUTS}
    for row, box in enumerate(BOXES):
        left, top, right, bottom = to_model(box)
        arrays["StatefulPartitionedCall:3"][0, row] = top / 320, left / 320, bottom / 320, right / 320
    arrays["StatefulPartitionedCall:2"][0, :2] = 16, 0
    arrays["StatefulPartitionedCall:1"][0, :2] = 0.5, 0.75
    arrays["StatefulPartitionedCall:0"][0] = 2
    return arrays


def automl_outputs() -> dict[str, np.ndarray]:
    rows = np.zeros((1, 100, 7), np.float32)
    for row, (box, class_number, score) in enumerate(zip(BOXES, (17, 1), (0.5, 0.75), strict=True)):
        left, top, right, bottom = to_model(box)
        rows[0, row] = 0, top, left, bottom, right, score, class_number
    return {"detections": rows}


@pytest.mark.parametrize(
    ("of", "outputs"),
    [(card(LITE, *LITE_OUTPUTS), lite_outputs()), (card(AUTOML, ROWS), automl_outputs())],
    ids=["lite", "automl"],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_boxes_come_back_best_first(of: ModelCard, outputs: dict, multi_label: bool):
    found = HEAD.decode(read_only(outputs), of, GEOMETRY, confidence=0.3, iou=0.6, multi_label=multi_label)
    np.testing.assert_allclose(found.xyxy, [BOXES[1], BOXES[0]], atol=1e-3)
    assert found.confidence.tolist() == [0.75, 0.5]
    assert [of.classes[i] for i in found.class_id] == ["person", "cat"]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(LITE, *LITE_OUTPUTS), {one.name: one.shape for one in LITE_OUTPUTS}, seed)
    decode_broken(HEAD, card(AUTOML, ROWS), {"detections": ROWS.shape}, seed)


def test_both_forms_are_claimed_by_this_head_alone():
    assert claims_of_all_heads((LITE,), LITE_OUTPUTS) == ["efficientdet"]
    assert claims_of_all_heads((AUTOML,), (ROWS,)) == ["efficientdet"]
    assert HEAD.class_count(LITE_OUTPUTS) is None
    assert HEAD.class_count((ROWS,)) is None


def test_lite_is_padded_with_its_mean_and_given_raw_pixels_when_quantized():
    found = card(LITE, *LITE_OUTPUTS)
    assert (found.input_hw, found.resize, found.pad, found.colour) == ((320, 320), "letterbox_corner", 127, "rgb")
    assert (found.mean, found.std) == ((127,) * 3, (128,) * 3)
    as_float = card(spec("serving_default_images:0", 1, 448, 448, 3), *LITE_OUTPUTS)
    assert (as_float.input_hw, as_float.mean, as_float.std) == ((448, 448), (127,) * 3, (128,) * 3)


def test_the_automl_graph_normalises_by_itself_and_takes_any_size():
    found = card(spec("image_arrays", 1, -1, -1, 3, dtype=np.uint8), ROWS)
    assert (found.input_hw, found.mean, found.std) == ((512, 512), (0,) * 3, (1,) * 3)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        pytest.param(spec("normalized_input_image_tensor", 1, 300, 300, 3), LITE_OUTPUTS, id="SSD"),
        pytest.param(spec("images", 1, 3, 640, 640), (ROWS,), id="channels first"),
        pytest.param(AUTOML, (spec("output", 1, 100, 7),), id="another name"),
        pytest.param(AUTOML, (spec("detections", 1, 100, 6),), id="six columns"),
        pytest.param(spec("image_arrays", 1, 512, 512, 3), (ROWS,), id="a float input"),
    ],
)
def test_other_models_are_not_claimed(inputs, outputs: tuple):
    assert HEAD.recognise((inputs,), outputs, {}) is None
