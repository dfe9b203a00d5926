"""NanoDet: boxes that go into its tensors by the published layout come out again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.nanodet import HEAD

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
    specs_of,
    to_model,
)

INPUTS = (spec("input.1", 1, 3, 64, 96),)
LEVELS = ((8, 8, 12), (16, 4, 6), (32, 2, 3))  # stride, rows, columns of a 64 x 96 input
CLASSES = 5
SHAPES = {
    f"{kind}{stride}": (1, rows * columns, width)
    for stride, rows, columns in LEVELS
    for kind, width in (("cls", CLASSES), ("dis", 32))
}


def card() -> ModelCard:
    found = HEAD.recognise(INPUTS, tuple(spec(name, *shape) for name, shape in SHAPES.items()), {})
    assert found is not None
    return found


def empty() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def bins_of(distance: float) -> list[float]:
    """Eight logits whose softmax has this mean: two neighbouring bins share the weight."""
    low = min(int(distance), 6)
    share = distance - low
    return [
        math.log(share) if i == low + 1 and share > 0 else math.log(1 - share) if i == low and share < 1 else -60.0
        for i in range(8)
    ]


def put(outputs: dict[str, np.ndarray], stride: int, row: int, column: int, source_xyxy: tuple, scores: dict) -> None:
    """Writes a box as NanoDet is trained to: distances to its sides from the middle pixel of a cell."""
    columns = next(columns for s, _, columns in LEVELS if s == stride)
    left, top, right, bottom = to_model(source_xyxy)
    x, y = column * stride + 0.5 * (stride - 1), row * stride + 0.5 * (stride - 1)
    distances = [(x - left) / stride, (y - top) / stride, (right - x) / stride, (bottom - y) / stride]
    assert all(0 <= distance <= 7 for distance in distances)
    cell = row * columns + column
    outputs[f"dis{stride}"][0, cell] = [value for distance in distances for value in bins_of(distance)]
    for class_id, score in scores.items():
        outputs[f"cls{stride}"][0, cell, class_id] = score


def decode(outputs: dict[str, np.ndarray], *, confidence: float = 0.3, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=confidence, iou=0.6, multi_label=multi_label)


def test_a_box_at_every_stride_comes_back_exactly():
    outputs = empty()
    small, middle, large = (14.0, 5.0, 52.5, 41.25), (60.0, 20.0, 131.0, 77.0), (10.0, 2.0, 180.0, 120.0)
    put(outputs, 8, 2, 2, small, {1: 0.9})
    put(outputs, 16, 1, 3, middle, {4: 0.8})
    put(outputs, 32, 0, 1, large, {0: 0.7})
    found = decode(outputs)
    assert found.class_id.tolist() == [1, 4, 0]
    np.testing.assert_allclose(found.confidence, [0.9, 0.8, 0.7], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [small, middle, large], atol=2e-3)


def test_the_order_of_the_outputs_does_not_matter():
    outputs = empty()
    put(outputs, 8, 2, 2, (14.0, 5.0, 52.5, 41.25), {1: 0.9})
    put(outputs, 32, 0, 1, (10.0, 2.0, 180.0, 120.0), {0: 0.7})
    shuffled = {name: outputs[name] for name in ("dis32", "cls16", "dis8", "cls32", "dis16", "cls8")}
    np.testing.assert_array_equal(decode(shuffled).xyxy, decode(outputs).xyxy)


def test_a_box_of_two_good_classes_is_two_candidates_only_with_multi_label():
    outputs = empty()
    put(outputs, 16, 1, 3, (60.0, 20.0, 131.0, 77.0), {4: 0.8, 2: 0.5})
    assert decode(outputs).class_id.tolist() == [4]
    assert decode(outputs, multi_label=True).class_id.tolist() == [4, 2]


def test_two_boxes_of_one_object_become_one():
    outputs = empty()
    put(outputs, 16, 1, 3, (60.0, 20.0, 131.0, 77.0), {4: 0.8})
    put(outputs, 16, 1, 2, (60.0, 20.0, 133.0, 77.0), {4: 0.6})
    np.testing.assert_allclose(decode(outputs).confidence, [0.8])


def test_nothing_above_the_threshold_gives_no_boxes():
    assert len(decode(empty())) == 0


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), SHAPES, seed)


def test_the_card_states_how_nanodet_was_trained():
    found = card()
    assert (found.input_hw, found.layout, found.colour, found.resize, found.pad) == (
        (64, 96),
        "nchw",
        "bgr",
        "letterbox_centre",
        0,
    )
    assert found.mean == (103.53, 116.28, 123.675)
    assert found.std == (57.375, 57.12, 58.395)
    assert len(found.classes) == HEAD.class_count(specs_of(empty())) == CLASSES


def test_dynamic_cells_are_recognised():
    outputs = tuple(spec(name, 1, -1, shape[2]) for name, shape in SHAPES.items())
    assert HEAD.recognise(INPUTS, outputs, {}) == card()


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param({**SHAPES, "cls64": (1, 2, CLASSES), "dis64": (1, 2, 32)}, id="four levels"),
        pytest.param({**SHAPES, "cls32": (1, 7, CLASSES)}, id="a level of the wrong size"),
        pytest.param({**SHAPES, "cls32": (1, 6, 4)}, id="levels of different classes"),
        pytest.param({name: shape for name, shape in SHAPES.items() if name != "cls8"}, id="a level missing"),
        pytest.param({name: (*shape[:2], 32) for name, shape in SHAPES.items()}, id="scores as wide as sides"),
        pytest.param(
            {name: (*shape[:2], 68 if shape[2] == 32 else CLASSES) for name, shape in SHAPES.items()}, id="17 bins"
        ),
    ],
)
def test_other_outputs_are_not_claimed(outputs: dict):
    assert HEAD.recognise(INPUTS, tuple(spec(name, *shape) for name, shape in outputs.items()), {}) is None


def test_nanodet_m_finds_the_man_and_his_tie(shared: Path):
    found_card, found = run_real(shared / "models/nanodet_m/nanodet_m.onnx", shared / PORTRAIT, 0.5)
    assert (found_card.head, found_card.input_hw, len(found_card.classes)) == ("nanodet", (416, 416), 80)
    assert overlap(best_of(found_card, found, "person"), MAN) > 0.8
    assert overlap(best_of(found_card, found, "tie"), TIE) > 0.8
