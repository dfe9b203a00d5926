"""YuNet: faces and landmarks that go into its tensors by the published layout come out again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.yunet import HEAD

from .head_checks import FACE, GEOMETRY, PORTRAIT, decode_broken, overlap, read_only, run_real, spec, to_model

INPUTS = (spec("input", 1, 3, 64, 96),)
LEVELS = ((8, 8, 12), (16, 4, 6), (32, 2, 3))  # stride, rows, columns of a 64 x 96 input
SHAPES = {
    f"{kind}_{stride}": (1, rows * columns, width)
    for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    for stride, rows, columns in LEVELS
}

BOX = (40.0, 20.0, 88.0, 71.5)
LANDMARKS = ((52.0, 30.0), (75.0, 31.0), (64.5, 44.0), (55.0, 60.0), (73.0, 61.0))


def specs() -> tuple:
    return tuple(spec(name, *shape) for name, shape in SHAPES.items())


def card() -> ModelCard:
    found = HEAD.recognise(INPUTS, specs(), {})
    assert found is not None
    return found


def one_face(stride: int, row: int, column: int, *, cls: float = 0.9, obj: float = 0.4) -> dict[str, np.ndarray]:
    outputs = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    cell = row * next(columns for s, _, columns in LEVELS if s == stride) + column
    left, top, right, bottom = to_model(BOX)
    outputs[f"cls_{stride}"][0, cell] = cls
    outputs[f"obj_{stride}"][0, cell] = obj
    outputs[f"bbox_{stride}"][0, cell] = [
        (left + right) / 2 / stride - column,
        (top + bottom) / 2 / stride - row,
        math.log((right - left) / stride),
        math.log((bottom - top) / stride),
    ]
    for k, (x, y) in enumerate(LANDMARKS):
        model_x, model_y, _, _ = to_model((x, y, 0, 0))
        outputs[f"kps_{stride}"][0, cell, 2 * k : 2 * k + 2] = model_x / stride - column, model_y / stride - row
    return outputs


def decode(outputs: dict[str, np.ndarray], *, confidence: float = 0.3, multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=confidence, iou=0.3, multi_label=multi_label)


@pytest.mark.parametrize(("stride", "row", "column"), [(8, 2, 4), (16, 1, 2), (32, 1, 0)])
def test_a_face_and_its_landmarks_come_back_exactly(stride: int, row: int, column: int):
    found = decode(one_face(stride, row, column))
    np.testing.assert_allclose(found.xyxy, [BOX], atol=2e-3)
    np.testing.assert_allclose(found.confidence, [0.6], rtol=1e-6)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks, [LANDMARKS], atol=2e-3)


def test_scores_beyond_one_are_clamped_before_they_are_multiplied():
    np.testing.assert_allclose(decode(one_face(8, 2, 4, cls=4.0, obj=0.25)).confidence, [0.5])


def test_names_and_order_of_the_outputs_do_not_matter():
    outputs = one_face(16, 1, 2)
    renamed = {f"output{i}": outputs[name] for i, name in enumerate(sorted(outputs, reverse=True))}
    np.testing.assert_array_equal(decode(renamed).xyxy, decode(outputs).xyxy)
    renamed_specs = tuple(spec(name, *array.shape) for name, array in renamed.items())
    assert HEAD.recognise(INPUTS, renamed_specs, {}) == card()


def test_a_picture_without_faces_gives_empty_landmarks():
    found = decode({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
    assert found.landmarks is not None
    assert found.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), SHAPES, seed)


def test_the_card_states_how_yunet_is_fed():
    found = card()
    assert (found.colour, found.resize, found.pad, found.classes) == ("bgr", "letterbox_corner", 0, ("face",))
    assert (found.mean, found.std) == ((0, 0, 0), (1, 1, 1))
    assert HEAD.class_count(specs()) == 1


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param({**SHAPES, "kps_32": (1, 6, 12)}, id="six landmarks"),
        pytest.param({**SHAPES, "cls_32": (1, 5, 1)}, id="a level of the wrong size"),
        pytest.param({name: shape for name, shape in SHAPES.items() if "kps" not in name}, id="no landmarks"),
    ],
)
def test_other_outputs_are_not_claimed(outputs: dict):
    assert HEAD.recognise(INPUTS, tuple(spec(name, *shape) for name, shape in outputs.items()), {}) is None


@pytest.mark.parametrize(
    ("model", "input_hw"),
    [
        ("yunet_n_320_320", (320, 320)),
        ("yunet_n_640_640", (640, 640)),
        ("yunet_n_dynamic", (640, 640)),
        ("yunet_s_320_320", (320, 320)),
    ],
)
def test_yunet_finds_the_mans_face_his_eyes_and_his_mouth(shared: Path, model: str, input_hw: tuple):
    found_card, found = run_real(shared / f"models/yunet/{model}.onnx", shared / PORTRAIT, 0.5)
    assert (found_card.head, found_card.input_hw) == ("yunet", input_hw)
    assert len(found) == 1
    assert overlap(tuple(found.xyxy[0]), FACE) > 0.8
    assert found.landmarks is not None
    # Looked at: his right eye, left eye, tip of the nose, right and left corner of the mouth.
    seen = [(395, 160), (483, 152), (448, 190), (412, 240), (486, 235)]
    np.testing.assert_allclose(found.landmarks[0], seen, atol=16)
