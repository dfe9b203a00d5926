"""The YOLOX head: rows built from the published layout come back as the boxes they were made of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yolox import HEAD
from edge_sdk.models.labels import COCO_80

from .head_checks import GEOMETRY, MAN, PORTRAIT, TIE, best_of, decode_broken, overlap, read_only, run_real, spec

HW = (64, 96)
LEVELS = ((8, 8, 12), (16, 4, 6), (32, 2, 3))  # stride, rows, columns at 64 x 96
CELLS = sum(rows * columns for _, rows, columns in LEVELS)
CLASSES = 3
CARD = ModelCard("yolox", HW, tuple("abc"), "nchw", "bgr", "letterbox_corner")


def cells() -> list[tuple[int, int, int]]:
    """Column, row and stride of every cell, in the order of the rows."""
    return [(x, y, stride) for stride, rows, columns in LEVELS for y in range(rows) for x in range(columns)]


def decode(output: np.ndarray, **options: object):
    chosen = {"confidence": 0.25, "iou": 0.65, "multi_label": False, **options}
    return HEAD.decode(read_only({"output": output}), CARD, GEOMETRY, **chosen)


def row_for(cell: int, source_xyxy: tuple[float, float, float, float], objectness: float, scores: list[float]):
    """The raw row with which a cell says that a box lies there in the source picture."""
    left, top, right, bottom = source_xyxy
    x1, y1, x2, y2 = left * 0.5 + 3, top * 0.4 + 7, right * 0.5 + 3, bottom * 0.4 + 7
    column, row, stride = cells()[cell]
    centre = ((x1 + x2) / 2 / stride - column, (y1 + y2) / 2 / stride - row)
    return [*centre, math.log((x2 - x1) / stride), math.log((y2 - y1) / stride), objectness, *scores]


def test_its_own_layout_is_claimed_with_its_card() -> None:
    found = HEAD.recognise([spec("images", 1, 3, *HW)], [spec("output", 1, CELLS, 85)], {})
    assert found is not None
    assert (found.classes, found.colour, found.resize) == (COCO_80, "bgr", "letterbox_corner")
    assert HEAD.class_count([spec("output", 1, CELLS, 85)]) == 80


@pytest.mark.parametrize("shape", [(1, CELLS + 1, 85), (1, CELLS, 84), (1, 85, CELLS), (1, CELLS, 5), (CELLS, 85)])
def test_others_are_not(shape: tuple[int, ...]) -> None:
    assert HEAD.recognise([spec("images", 1, 3, *HW)], [spec("output", *shape)], {}) is None


@settings(max_examples=60)
@given(st.data())
def test_a_box_written_by_any_cell_comes_back(data: st.DataObject) -> None:
    cell = data.draw(st.integers(0, CELLS - 1))
    left, top = data.draw(st.floats(-20, 400)), data.draw(st.floats(-20, 250))
    box = (left, top, left + data.draw(st.floats(1, 300)), top + data.draw(st.floats(1, 300)))
    output = np.zeros((1, CELLS, 5 + CLASSES), np.float32)
    output[0, cell] = row_for(cell, box, 0.9, [0.1, 0.5, 1.0])
    (found,) = decode(output)
    assert np.allclose(found.xyxy, box, rtol=1e-4, atol=0.01)
    assert (found.class_id, found.confidence) == (2, pytest.approx(0.9))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_every_row_is_read_as_a_plain_loop_reads_it(seed: int, multi_label: bool) -> None:
    rng = np.random.default_rng(seed)
    output = rng.normal(0, 1, (1, CELLS, 5 + CLASSES)).astype(np.float32)
    output[0, :, 4:] = rng.random((CELLS, 1 + CLASSES)) ** 2
    found = decode(output, iou=1.0, multi_label=multi_label)
    want = []
    for (column, row, stride), values in zip(cells(), output[0].astype(float), strict=True):
        scores = [values[4] * score for score in values[5:]]
        for class_id, score in enumerate(scores):
            if score > 0.25 and (multi_label or score == max(scores)):
                x, y = (values[0] + column) * stride, (values[1] + row) * stride
                half_w, half_h = math.exp(values[2]) * stride / 2, math.exp(values[3]) * stride / 2
                source = [
                    (x - half_w - 3) / 0.5,
                    (y - half_h - 7) / 0.4,
                    (x + half_w - 3) / 0.5,
                    (y + half_h - 7) / 0.4,
                ]
                want.append((score, class_id, source))
    want.sort(key=lambda one: -one[0])
    assert np.allclose(found.confidence, [score for score, _, _ in want], rtol=1e-5)
    assert found.class_id.tolist() == [class_id for _, class_id, _ in want]
    assert np.allclose(found.xyxy, np.reshape([box for _, _, box in want], (-1, 4)), rtol=1e-4, atol=0.01)


def test_neighbouring_cells_that_see_one_thing_make_one_box() -> None:
    output = np.zeros((1, CELLS, 5 + CLASSES), np.float32)
    box = (40.0, 30.0, 110.0, 120.0)
    for cell, objectness in ((30, 0.7), (31, 0.9), (43, 0.6)):
        output[0, cell] = row_for(cell, box, objectness, [1.0, 0.0, 0.0])
    output[0, 44] = row_for(44, box, 0.8, [0.0, 1.0, 0.0])  # of another class
    found = decode(output)
    assert [(one.class_id, round(one.confidence, 2)) for one in found] == [(0, 0.9), (1, 0.8)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_half_floats_are_read_too(dtype: type) -> None:
    output = np.zeros((1, CELLS, 5 + CLASSES), dtype)
    output[0, 5] = row_for(5, (40, 30, 110, 120), 0.9, [1, 0, 0])
    (found,) = decode(output)
    assert np.allclose(found.xyxy, (40, 30, 110, 120), atol=1)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_broken_model_writes_is_dropped_without_a_word(seed: int) -> None:
    decode_broken(HEAD, CARD, {"output": (1, CELLS, 5 + CLASSES)}, seed)


def test_the_real_model_finds_a_man_and_his_tie(yolox: Path, shared: Path) -> None:
    card, found = run_real(yolox, shared / PORTRAIT, 0.25)
    assert overlap(best_of(card, found, "person"), MAN) > 0.8
    assert overlap(best_of(card, found, "tie"), TIE) > 0.6
