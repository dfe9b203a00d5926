"""UltraFace's raw deltas: faces that are encoded on its priors, one by one, come out again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.ultraface_raw import HEAD

from .head_checks import FACE, GEOMETRY, PORTRAIT, decode_broken, overlap, read_only, run_real, spec, to_model

INPUT = spec("input_1", -1, 240, 320, 3)
OUTPUTS = (spec("Identity", -1, -1, 4), spec("Identity_1", -1, -1, 2))

# Columns and rows of the feature maps of a 320 x 240 input, and the squares at each cell (fd_config.py).
MAPS = ((40, 30, (10, 16, 24)), (20, 15, (32, 48)), (10, 8, (64, 96)), (5, 4, (128, 192, 256)))

BOX = (140.0, 90.0, 260.0, 240.0)


def card() -> ModelCard:
    found = HEAD.recognise((INPUT,), OUTPUTS, {})
    assert found is not None
    return found


def all_priors() -> list[tuple[float, float, float, float]]:
    """Centre and size of every prior in 0..1, counted out."""
    return [
        ((column + 0.5) / columns, (row + 0.5) / rows, min(size / 320, 1), min(size / 240, 1))
        for columns, rows, sizes in MAPS
        for row in range(rows)
        for column in range(columns)
        for size in sizes
    ]


def one_face(prior: int) -> dict[str, np.ndarray]:
    boxes, scores = np.zeros((1, 4420, 4), np.float32), np.zeros((1, 4420, 2), np.float32)
    x, y, width, height = all_priors()[prior]
    left, top, right, bottom = to_model(BOX)
    boxes[0, prior] = [
        ((left + right) / 2 / 320 - x) / width / 0.1,
        ((top + bottom) / 2 / 240 - y) / height / 0.1,
        math.log((right - left) / 320 / width) / 0.2,
        math.log((bottom - top) / 240 / height) / 0.2,
    ]
    scores[0, prior] = 0.25, 0.75
    return {"Identity": boxes, "Identity_1": scores}


@pytest.mark.parametrize("prior", [0, 1700, 3599, 3600, 4199, 4200, 4359, 4360, 4419])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_face_on_any_prior_comes_back_exactly(prior: int, multi_label: bool):
    outputs = read_only(one_face(prior))
    found = HEAD.decode(outputs, card(), GEOMETRY, confidence=0.5, iou=0.3, multi_label=multi_label)
    np.testing.assert_allclose(found.xyxy, [BOX], atol=5e-3)
    assert found.confidence.tolist() == [0.75]


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), {"Identity": (1, 4420, 4), "Identity_1": (1, 4420, 2)}, seed)


def test_the_published_file_gives_the_same_face_as_the_decoded_onnx(shared: Path):
    folder = shared / "models/ultraface"
    raw_card, raw = run_real(folder / "version-RFB-320_without_postprocessing.tflite", shared / PORTRAIT, 0.7)
    _, decoded = run_real(folder / "version-RFB-320.onnx", shared / PORTRAIT, 0.7)
    assert (raw_card.head, raw_card.layout, raw_card.input_hw) == ("ultraface_raw", "nhwc", (240, 320))
    assert overlap(tuple(raw.xyxy[0]), FACE) > 0.8
    np.testing.assert_allclose(raw.xyxy, decoded.xyxy, atol=0.5)
    np.testing.assert_allclose(raw.confidence, decoded.confidence, atol=1e-3)
