"""What is said of a set, in figures and in warnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.calibration.domain import Chosen, Domain, SetReport, Spread, describe, warnings_of
from edge_sdk.calibration.photos import LeftOut, look_at
from edge_sdk.datasets import Dataset, LabelledPhoto
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard

from .scenes import scene

CARD = ModelCard("yolov8", (64, 64), ("red", "green"))


def found(*confidences: float, class_id: int = 0) -> Detections:
    count = len(confidences)
    return Detections(
        np.zeros((count, 4), np.float32), np.array(confidences, np.float32), np.full(count, class_id, np.int32)
    )


def domain(*detections: Detections, hw: tuple[int, int] = (96, 128), labels: Dataset | None = None) -> Domain:
    looks = [look_at(scene(number, hw), Path("a"), None, "") for number in range(len(detections))]
    return describe(looks, detections, CARD.classes, labels)


GOOD = domain(found(0.9, 0.5), found(0.8, class_id=1), found(0.7))
PLENTY = {
    "calibration": 64, "acceptance": 100, "usable": 190, "groups": 180, "largest": 3, "broken": 0, "cut": False,
}  # fmt: skip


def test_figures_are_of_the_pictures_and_of_what_is_found_in_them() -> None:
    some = domain(found(0.9, 0.5), found(0.8, 0.3, 0.3, class_id=1), found(), found(0.4, class_id=7))
    assert (some.pictures, some.detections, some.without_detection) == (4, 6, 1)
    assert list(some.per_class.items()) == [("green", 3), ("red", 2), ("7", 1)]
    assert some.best_confidence == Spread(0.4, 0.8, 0.9)
    assert (some.width_px, some.height_px) == (Spread(128, 128, 128), Spread(96, 96, 96))
    assert 0 < some.brightness.least < some.brightness.most < 255
    assert some.labelled is None


def test_labelled_objects_are_counted_by_name() -> None:
    photo = LabelledPhoto(
        Path("a"),
        np.zeros((3, 4), np.float32),
        np.array([1, 0, 1], np.int32),
        np.zeros(3, bool),
        np.ones(3, np.float32),
    )
    some = domain(found(0.9), labels=Dataset("COCO", ("cup", "cat"), (photo,)))
    assert some.labelled == {"cat": 2, "cup": 1}


def test_a_good_set_has_no_warning() -> None:
    assert warnings_of(GOOD, CARD, **PLENTY) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"calibration": 1}, "ranges come from 1 picture:"),
        ({"calibration": 40}, "ranges come from 40 pictures:"),
        ({"acceptance": 1}, "on 1 picture: that shows that the model still finds"),
        ({"acceptance": 39}, "on 39 pictures: that decides about large drops only"),
        ({"largest": 96}, "96 of 190 pictures are of one scene"),
        ({"groups": 1, "cut": True}, "1 scene or clip"),
        ({"groups": 2, "cut": True}, "2 scenes"),
        ({"broken": 2}, "2 photos could not be read"),
    ],
)
def test_what_a_set_does_not_allow_is_said(change: dict[str, int], words: str) -> None:
    (warning,) = warnings_of(GOOD, CARD, **{**PLENTY, **change})
    assert words in warning


def test_pictures_in_which_the_model_finds_nothing_are_said_to_be_unlike_what_it_knows() -> None:
    (warning,) = warnings_of(domain(found(), found(), found(0.9)), CARD, **PLENTY)
    assert "finds nothing in 2 of 3" in warning
    assert warnings_of(domain(found(), found(0.9)), CARD, **PLENTY) == []


def test_a_model_that_is_unsure_throughout_is_said_to_be() -> None:
    (warning,) = warnings_of(domain(found(0.3), found(0.27)), CARD, **PLENTY)
    assert "0.28" in warning or "0.29" in warning


def test_pictures_far_smaller_than_the_input_are_said() -> None:
    (warning,) = warnings_of(domain(found(0.9), hw=(20, 30)), replace(CARD, input_hw=(128, 128)), **PLENTY)
    assert "30x20" in warning


def test_a_report_is_plain_for_json_and_readable() -> None:
    report = SetReport(
        source="photos",
        layout="photos",
        found=5,
        looked_at=5,
        usable=3,
        groups=3,
        labels="teacher",
        chosen=(Chosen("a.jpg", None, "calibration", 0, "dark"), Chosen("b.mp4", 7, "acceptance", 1, "drawn")),
        left_out=(LeftOut("c.jpg", "broken", "empty"), LeftOut("b.mp4", "near-duplicate", "frames", 9)),
        domain=GOOD,
        warnings=("few",),
        digest="ab",
    )
    assert json.loads(json.dumps(report.record()))["chosen"][1]["index"] == 7
    lines = report.lines()
    assert "photos (photos): 5 found, 5 looked at, 3 usable" in lines[0]
    assert "calibration 1, search 0, acceptance 1" in lines[1]
    assert "own detections" in lines[1]
    assert "4 objects: red 3, green 1; nothing in 0 of 3" in lines[2]
    assert lines[3:] == ["left out: 1 broken, 9 near-duplicate", "warning: few"]
