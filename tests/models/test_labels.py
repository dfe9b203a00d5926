"""The public label sets, checked against real annotations where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk.models.labels import COCO_80, COCO_90, FACE, VOC_20, names_for


@pytest.mark.parametrize(("labels", "count"), [(COCO_80, 80), (COCO_90, 90), (VOC_20, 20), (FACE, 1)])
def test_each_set_has_its_size_and_no_name_twice(labels: tuple[str, ...], count: int) -> None:
    assert len(labels) == count
    assert len(set(labels)) == count


def test_coco_has_the_names_and_ids_of_its_own_annotation_file(shared: Path) -> None:
    categories = json.loads((shared / "data/coco_eval/instances.json").read_text())["categories"]
    assert len(categories) == 80
    assert tuple(c["name"] for c in sorted(categories, key=lambda c: c["id"])) == COCO_80
    assert {c["id"]: COCO_90[c["id"] - 1] for c in categories} == {c["id"]: c["name"] for c in categories}


def test_the_ids_that_coco_skips_are_named_as_unused() -> None:
    unused = [i for i, name in enumerate(COCO_90, 1) if name == f"unused {i}"]
    assert len(unused) == 10
    assert [name for name in COCO_90 if not name.startswith("unused")] == list(COCO_80)


def test_ssd_has_the_names_of_its_own_label_map(shared: Path) -> None:
    lines = (shared / "models/ssd_mobilenet_v1_quant/labelmap.txt").read_text().split("\n")
    told = [line.strip() for line in lines[1:91]]  # the first line is the background
    same = [(a, b) for a, b in zip(told, COCO_90, strict=True) if a == b]
    assert len(same) == 80
    assert all(a == "???" for a, b in zip(told, COCO_90, strict=True) if a != b)


@pytest.mark.parametrize("labels", [COCO_80, COCO_90, VOC_20])
def test_a_known_count_gives_its_set(labels: tuple[str, ...]) -> None:
    assert names_for(len(labels)) == labels


def test_an_unknown_count_gives_numbered_names() -> None:
    assert names_for(3) == ("class 0", "class 1", "class 2")
    assert names_for(1) == ("class 0",)
