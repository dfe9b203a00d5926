"""FastestDet: boxes that go into its grid by the published layout come out again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.fastestdet import HEAD

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

HEIGHT, WIDTH = 64, 96
INPUTS = (spec("input.1", 1, 3, HEIGHT, WIDTH),)
CLASSES = 4
SHAPE = (1, 5 + CLASSES, 4, 6)


def card() -> ModelCard:
    found = HEAD.recognise(INPUTS, (spec("758", *SHAPE),), {})
    assert found is not None
    return found


def one_box(row: int, column: int, source_xyxy: tuple, objectness: float, scores: dict) -> dict[str, np.ndarray]:
    """A box as FastestDet is trained: its centre by tanh from a cell, its size by sigmoid of the whole input."""
    output = np.zeros(SHAPE, np.float32)
    left, top, right, bottom = to_model(source_xyxy)
    width, height = (right - left) / WIDTH, (bottom - top) / HEIGHT
    output[0, 0, row, column] = objectness
    output[0, 1, row, column] = math.atanh((left + right) / 2 / WIDTH * 6 - column)
    output[0, 2, row, column] = math.atanh((top + bottom) / 2 / HEIGHT * 4 - row)
    output[0, 3, row, column] = math.log(width / (1 - width))
    output[0, 4, row, column] = math.log(height / (1 - height))
    for class_id, score in scores.items():
        output[0, 5 + class_id, row, column] = score
    return {"758": output}


def decode(outputs: dict[str, np.ndarray], *, confidence: float = 0.3, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=confidence, iou=0.6, multi_label=multi_label)


@pytest.mark.parametrize(
    ("row", "column", "box"),
    [(1, 2, (40.0, 20.0, 88.0, 71.5)), (3, 5, (110.0, 60.0, 182.0, 139.0)), (2, 3, (4.0, 2.0, 180.0, 130.0))],
)
def test_a_box_comes_back_exactly(row: int, column: int, box: tuple):
    found = decode(one_box(row, column, box, 0.9, {2: 0.8}))
    assert found.class_id.tolist() == [2]
    np.testing.assert_allclose(found.xyxy, [box], atol=2e-3)


def test_the_score_weighs_objectness_more_than_the_class():
    box = (40.0, 20.0, 88.0, 71.5)
    assert decode(one_box(1, 2, box, 0.9, {2: 0.5})).confidence[0] == pytest.approx(0.9**0.6 * 0.5**0.4)
    assert decode(one_box(1, 2, box, 0.5, {2: 0.9})).confidence[0] == pytest.approx(0.5**0.6 * 0.9**0.4)


def test_a_box_just_below_the_threshold_is_left_out():
    outputs = one_box(1, 2, (40.0, 20.0, 88.0, 71.5), 0.5, {2: 1.0})
    score = 0.5**0.6
    assert len(decode(outputs, confidence=score + 1e-4)) == 0
    assert len(decode(outputs, confidence=score - 1e-4)) == 1


def test_a_box_of_two_good_classes_is_two_candidates_only_with_multi_label():
    outputs = one_box(1, 2, (40.0, 20.0, 88.0, 71.5), 0.9, {0: 0.4, 3: 0.6})
    assert decode(outputs).class_id.tolist() == [3]
    assert decode(outputs, multi_label=True).class_id.tolist() == [3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), {"758": SHAPE}, seed)


def test_the_card_states_how_fastestdet_was_trained():
    found = card()
    assert (found.input_hw, found.layout, found.colour, found.resize) == ((HEIGHT, WIDTH), "nchw", "bgr", "stretch")
    assert (found.mean, found.std) == ((0, 0, 0), (255, 255, 255))
    assert len(found.classes) == HEAD.class_count((spec("758", *SHAPE),)) == CLASSES


@pytest.mark.parametrize("shape", [(1, 9, 2, 3), (1, 5, 4, 6), (1, 9, 24), (1, 9, -1, -1)])
def test_other_outputs_are_not_claimed(shape: tuple):
    assert HEAD.recognise(INPUTS, (spec("758", *shape),), {}) is None


def test_fastestdet_finds_the_man_and_his_tie(shared: Path):
    found_card, found = run_real(shared / "models/fastestdet/FastestDet.onnx", shared / PORTRAIT, 0.5)
    assert (found_card.head, found_card.input_hw, len(found_card.classes)) == ("fastestdet", (352, 352), 80)
    assert overlap(best_of(found_card, found, "person"), MAN) > 0.7
    assert overlap(best_of(found_card, found, "tie"), TIE) > 0.7
