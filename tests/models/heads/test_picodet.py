"""PicoDet: boxes that go into its tensors by the published layout come out again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads import nanodet
from edge_sdk.models.heads.picodet import HEAD

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

INPUTS = (spec("image", 1, 3, 64, 96),)
LEVELS = ((8, 8, 12), (16, 4, 6), (32, 2, 3), (64, 1, 2))  # stride, rows, columns of a 64 x 96 input
CLASSES = 5
SHAPES = {
    f"{kind}{stride}": (1, rows * columns, width)
    for kind, width in (("cls", CLASSES), ("dis", 32))
    for stride, rows, columns in LEVELS
}


def specs() -> tuple:
    return tuple(spec(name, *shape) for name, shape in SHAPES.items())


def card() -> ModelCard:
    found = HEAD.recognise(INPUTS, specs(), {})
    assert found is not None
    return found


def one_box(stride: int, row: int, column: int, source_xyxy: tuple, scores: dict) -> dict[str, np.ndarray]:
    """A box as PicoDet is trained: distances to its sides from the centre of a cell, each the mean over eight bins."""
    outputs = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    columns = next(columns for s, _, columns in LEVELS if s == stride)
    cell = row * columns + column
    left, top, right, bottom = to_model(source_xyxy)
    x, y = (column + 0.5) * stride, (row + 0.5) * stride
    for side, pixels in enumerate((x - left, y - top, right - x, bottom - y)):
        # Weights at the outermost bins alone: bin 7 gets a seventh of the distance.
        share = pixels / stride / 7
        assert 0 < share < 1
        logits = [-60.0] * 8
        logits[0], logits[7] = math.log(1 - share), math.log(share)
        outputs[f"dis{stride}"][0, cell, side * 8 : side * 8 + 8] = logits
    for class_id, score in scores.items():
        outputs[f"cls{stride}"][0, cell, class_id] = score
    return outputs


def decode(outputs: dict[str, np.ndarray], *, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=0.3, iou=0.6, multi_label=multi_label)


@pytest.mark.parametrize(
    ("stride", "row", "column", "box"),
    [
        (8, 3, 4, (40.0, 20.0, 88.0, 71.5)),
        (16, 1, 2, (30.0, 5.0, 110.0, 99.0)),
        (32, 1, 2, (20.0, 3.0, 186.0, 130.0)),
        (64, 0, 1, (9.0, 1.0, 400.0, 290.0)),
    ],
)
def test_a_box_comes_back_exactly(stride: int, row: int, column: int, box: tuple):
    found = decode(one_box(stride, row, column, box, {3: 0.75}))
    assert found.class_id.tolist() == [3]
    assert found.confidence.tolist() == [0.75]
    np.testing.assert_allclose(found.xyxy, [box], atol=2e-3)


def test_a_box_of_two_good_classes_is_two_candidates_only_with_multi_label():
    outputs = one_box(16, 1, 2, (30.0, 5.0, 110.0, 99.0), {0: 0.4, 3: 0.6})
    assert decode(outputs).class_id.tolist() == [3]
    assert decode(outputs, multi_label=True).class_id.tolist() == [3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), SHAPES, seed)


def test_the_card_states_how_picodet_was_trained():
    found = card()
    assert (found.input_hw, found.layout, found.colour, found.resize) == ((64, 96), "nchw", "rgb", "stretch")
    assert found.mean == (123.675, 116.28, 103.53)
    assert found.std == (58.395, 57.12, 57.375)
    assert len(found.classes) == HEAD.class_count(specs()) == CLASSES


def test_three_levels_are_nanodets_and_four_are_ours():
    three = tuple(one for one in specs() if not one.name.endswith("64"))
    assert HEAD.recognise(INPUTS, three, {}) is None
    assert nanodet.HEAD.recognise(INPUTS, three, {}) is not None
    assert nanodet.HEAD.recognise(INPUTS, specs(), {}) is None


def test_picodet_s_finds_the_man_and_his_tie(shared: Path):
    found_card, found = run_real(shared / "models/picodet_s/picodet_s_320_coco.onnx", shared / PORTRAIT, 0.5)
    assert (found_card.head, found_card.input_hw, len(found_card.classes)) == ("picodet", (320, 320), 80)
    assert overlap(best_of(found_card, found, "person"), MAN) > 0.9
    assert overlap(best_of(found_card, found, "tie"), TIE) > 0.8
