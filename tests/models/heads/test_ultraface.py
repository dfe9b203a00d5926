"""UltraFace with decoded boxes, and what tells it from the raw layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads import ultraface_raw
from edge_sdk.models.heads.ultraface import HEAD, priors

from .head_checks import (
    FACE,
    GEOMETRY,
    PORTRAIT,
    claims_of_all_heads,
    decode_broken,
    overlap,
    read_only,
    run_real,
    spec,
    to_model,
)

PYTORCH = spec("input", 1, 3, 240, 320)
KERAS = spec("input_1", -1, 240, 320, 3)
NAMED = (spec("scores", 1, 4420, 2), spec("boxes", 1, 4420, 4))
UNNAMED = (spec("317", 1, 4420, 2), spec("421", 1, 4420, 4))
OPEN = (spec("Identity", -1, -1, 4), spec("Identity_1", -1, -1, 2))

BOX = (40.0, 20.0, 88.0, 71.5)


def card() -> ModelCard:
    found = HEAD.recognise((PYTORCH,), NAMED, {})
    assert found is not None
    return found


def one_face(score: float) -> dict[str, np.ndarray]:
    scores, boxes = np.zeros((1, 4420, 2), np.float32), np.zeros((1, 4420, 4), np.float32)
    scores[..., 0] = 1
    left, top, right, bottom = to_model(BOX)
    scores[0, 1234] = 1 - score, score
    boxes[0, 1234] = left / 320, top / 240, right / 320, bottom / 240
    return {"scores": scores, "boxes": boxes}


def decode(outputs: dict[str, np.ndarray], multi_label: bool = False):
    return HEAD.decode(read_only(outputs), card(), GEOMETRY, confidence=0.5, iou=0.3, multi_label=multi_label)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_face_comes_back_exactly_and_the_background_is_no_class(multi_label: bool):
    found = decode(one_face(0.75), multi_label)
    np.testing.assert_allclose(found.xyxy, [BOX], atol=1e-3)
    assert (found.confidence.tolist(), found.class_id.tolist()) == ([0.75], [0])


def test_the_order_of_the_outputs_does_not_matter():
    outputs = one_face(0.75)
    swapped = {"a": outputs["boxes"], "b": outputs["scores"]}
    np.testing.assert_array_equal(decode(swapped).xyxy, decode(outputs).xyxy)


@pytest.mark.parametrize("seed", range(5))
def test_broken_outputs_neither_raise_nor_warn(seed: int):
    decode_broken(HEAD, card(), {"scores": (1, 4420, 2), "boxes": (1, 4420, 4)}, seed)


@pytest.mark.parametrize(
    ("input_hw", "count"), [((240, 320), 4420), ((480, 640), 17640), ((96, 128), 708), ((360, 480), 9984)]
)
def test_there_are_as_many_priors_as_the_published_models_have_rows(input_hw: tuple, count: int):
    # Feature maps of vision/ssd/config/fd_config.py: e.g. 16x12, 8x6, 4x3 and 2x2 for 128 x 96.
    assert priors(input_hw).shape == (count, 4)


def test_the_card_states_how_ultraface_is_fed():
    found = card()
    assert (found.input_hw, found.colour, found.resize, found.classes) == ((240, 320), "rgb", "stretch", ("face",))
    assert (found.mean, found.std) == ((127,) * 3, (128,) * 3)
    assert HEAD.class_count(NAMED) == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "claims"),
    [
        pytest.param(PYTORCH, NAMED, ["ultraface"], id="the names of convert_to_onnx.py say decoded"),
        pytest.param(KERAS, OPEN, ["ultraface_raw"], id="a Keras graph is raw"),
        pytest.param(PYTORCH, UNNAMED, ["ultraface", "ultraface_raw"], id="neither says: the caller must choose"),
        pytest.param(PYTORCH, OPEN, [], id="open axes and no names: anything"),
        pytest.param(PYTORCH, (spec("scores", 1, 4400, 2), spec("boxes", 1, 4400, 4)), [], id="not its number of rows"),
    ],
)
def test_the_evidence_decides_which_of_the_two_heads_claims(inputs, outputs: tuple, claims: list):
    assert [head.name for head in (HEAD, ultraface_raw.HEAD) if head.recognise((inputs,), outputs, {})] == claims


def test_no_head_of_other_models_claims_ultraface():
    for inputs, outputs in ((PYTORCH, NAMED), (PYTORCH, UNNAMED), (KERAS, OPEN)):
        assert set(claims_of_all_heads((inputs,), outputs)) <= {"ultraface", "ultraface_raw"}


@pytest.mark.parametrize("model", ["version-RFB-320", "version-RFB-640", "version-slim-320"])
def test_ultraface_finds_the_mans_face(shared: Path, model: str):
    found_card, found = run_real(shared / f"models/ultraface/{model}.onnx", shared / PORTRAIT, 0.7)
    assert found_card.head == "ultraface"
    assert len(found) == 1
    assert overlap(tuple(found.xyxy[0]), FACE) > 0.8
