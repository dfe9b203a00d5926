"""NanoDet-Plus: boxes that go into its tensor by the published layout come out again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.nanodet_plus import HEAD

from .head_checks import GEOMETRY, claims_of_all_heads, decode_broken, read_only, spec, to_model

INPUTS = (spec("data", 1, 3, 64, 96),)
LEVELS = ((8, 8, 12), (16, 4, 6), (32, 2, 3), (64, 1, 2))  # stride, rows, columns of a 64 x 96 input
CELLS = 96 + 24 + 6 + 2
CLASSES = 5


def card() -> ModelCard:
    found = HEAD.recognise(INPUTS, (spec("output", 1, CELLS, CLASSES + 32),), {})
    assert found is not None
    return found


def one_box(stride: int, row: int, column: int, source_xyxy: tuple, scores: dict) -> dict[str, np.ndarray]:
    """A box as NanoDet-Plus is trained: distances to its sides from the top left corner of a cell."""
    output = np.zeros((1, CELLS, CLASSES + 32), np.float32)
    before = sum(rows * columns for s, rows, columns in LEVELS if s < stride)
    columns = next(columns for s, _, columns in LEVELS if s == stride)
    values = output[0, before + row * columns + column]
    left, top, right, bottom = to_model(source_xyxy)
    x, y = column * stride, row * stride
    for side, pixels in enumerate((x - left, y - top, right - x, bottom - y)):
        share = pixels / stride / 7
        assert 0 < share < 1
        logits = [-60.0] * 8
        logits[0], logits[7] = math.log(1 - share), math.log(share)
        values[CLASSES + side * 8 : CLASSES + side * 8 + 8] = logits
    for class_id, score in scores.items():
        values[class_id] = score
    return {"output": output}


def decode(outputs: dict[str, np.ndarray], *, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=0.3, iou=0.6, multi_label=multi_label)


@pytest.mark.parametrize(
    ("stride", "row", "column", "box"),
    [
        (8, 3, 5, (40.0, 20.0, 88.0, 71.5)),
        (16, 2, 3, (30.0, 5.0, 110.0, 99.0)),
        (32, 1, 2, (20.0, 3.0, 186.0, 130.0)),
        (64, 0, 1, (9.0, -20.0, 400.0, 290.0)),
    ],
)
def test_a_box_comes_back_exactly_also_where_it_leaves_the_picture(stride: int, row: int, column: int, box: tuple):
    found = decode(one_box(stride, row, column, box, {3: 0.75}))
    assert found.class_id.tolist() == [3]
    np.testing.assert_allclose(found.xyxy, [box], atol=2e-3)


def test_a_box_of_two_good_classes_is_two_candidates_only_with_multi_label():
    outputs = one_box(16, 2, 3, (30.0, 5.0, 110.0, 99.0), {0: 0.4, 3: 0.6})
    assert decode(outputs).class_id.tolist() == [3]
    assert decode(outputs, multi_label=True).class_id.tolist() == [3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), {"output": (1, CELLS, CLASSES + 32)}, seed)


def test_the_published_416_export_is_claimed_by_this_head_alone():
    inputs, outputs = (spec("data", 1, 3, 416, 416),), (spec("output", 1, 3598, 112),)
    assert claims_of_all_heads(inputs, outputs) == ["nanodet_plus"]
    found = HEAD.recognise(inputs, outputs, {})
    assert found is not None
    assert (found.colour, found.resize, len(found.classes)) == ("bgr", "stretch", 80)
    assert HEAD.class_count(outputs) == 80


@pytest.mark.parametrize("shape", [(1, 3549, 112), (1, 3598, 32), (1, -1, 112), (1, 112, 3598)])
def test_other_outputs_are_not_claimed(shape: tuple):
    assert HEAD.recognise((spec("data", 1, 3, 416, 416),), (spec("output", *shape),), {}) is None
