"""``edge-sdk evaluate`` on a slice of real photos; the whole set is in the slow tests of measure/accuracy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dozen(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first twelve photos of the evaluation set, with their labels."""
    folder = tmp_path_factory.mktemp("dozen")
    (folder / "images").mkdir()
    labels = json.loads((shared / "data/coco_eval/instances.json").read_text())
    labels["images"] = labels["images"][:12]
    kept = {image["id"] for image in labels["images"]}
    labels["annotations"] = [box for box in labels["annotations"] if box["image_id"] in kept]
    (folder / "instances.json").write_text(json.dumps(labels))
    for image in labels["images"]:
        shutil.copy(shared / "data/coco_eval/images" / image["file_name"], folder / "images")
    return folder


def test_json_has_the_keys_of_the_design(edge_sdk_command, yolox: Path, dozen: Path) -> None:
    found = edge_sdk_command("evaluate", yolox, "--data", dozen, "--json").json
    assert {"map", "map50", "map75", "per_class", "images", "interval"} <= set(found)
    assert found["images"] == 12
    low, high = found["interval"]
    assert 0 <= low <= found["map"] <= high <= 1
    assert found["map"] > 0.2
    assert found["head"] == "yolox"


def test_people_read_the_figure_with_its_interval(edge_sdk_command, yolox: Path, dozen: Path) -> None:
    out = edge_sdk_command("evaluate", yolox, "--data", dozen).out
    assert "mAP50-95" in out
    assert "95 % interval" in out


def test_a_broken_model_is_measured_as_it_is_and_said_to_look_broken(
    edge_sdk_command, shared: Path, dozen: Path
) -> None:
    broken = shared / "models/yolox_nano/yolox_nano_int8_quantize.tflite"
    ran = edge_sdk_command("evaluate", broken, "--data", dozen)
    assert ran.code == 0
    assert "hardly better than chance" in ran.err


def test_a_photo_that_is_gone_is_named_and_counted(edge_sdk_command, yolox: Path, dozen: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dozen, tmp_path / "copy")
    gone = sorted((copy / "images").iterdir())[0]
    gone.unlink()
    found = edge_sdk_command("evaluate", yolox, "--data", copy, "--json").json
    assert found["skipped"] == [gone.name]
    assert found["images"] == 11


def test_data_without_labels_is_refused(edge_sdk_command, yolox: Path, tmp_path: Path) -> None:
    ran = edge_sdk_command("evaluate", yolox, "--data", tmp_path)
    assert ran.code == 1
    assert "no labels found" in ran.err


def test_data_must_be_named(edge_sdk_command, yolox: Path) -> None:
    assert edge_sdk_command("evaluate", yolox).code == 2
