"""``edge-sdk demo``: the main job with nothing attached."""

from __future__ import annotations

from pathlib import Path

import cv2

from edge_sdk.models import default


def test_it_finds_the_person_in_every_frame_and_writes_a_clip(
    edge_sdk_command, yolox: Path, tmp_path: Path, no_sensor: Path
) -> None:
    clip = tmp_path / "demo.mp4"
    ran = edge_sdk_command("demo", "-m", yolox, "--seconds", 1, "--save", clip)
    assert ran.code == 0
    assert "results/s" in ran.out
    assert "not measured: no energy counter" in " ".join(ran.out.split())
    assert f"annotated clip: {clip}" in ran.out
    video = cv2.VideoCapture(str(clip))
    assert video.get(cv2.CAP_PROP_FPS) == 30
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) >= 5


def test_json_gives_totals_that_add_up(edge_sdk_command, yolox: Path, tmp_path: Path, no_sensor: Path) -> None:
    totals = edge_sdk_command("demo", "-m", yolox, "--seconds", 1, "--save", tmp_path / "a.mp4", "--json").json
    assert totals["captured"] == totals["processed"] + sum(totals["dropped"].values()) + totals["in_flight"]
    assert totals["seen_in_frames"]["person"] == totals["processed"] > 0
    assert totals["energy"] is None
    assert "no energy counter" in totals["power_reason"]
    assert set(totals["percentiles"]["infer_ms"]) == {"p50", "p90", "p99", "max"}


def test_a_board_with_a_sensor_shows_its_power(edge_sdk_command, yolox: Path, tmp_path: Path, jetson: Path) -> None:
    ran = edge_sdk_command("demo", "-m", yolox, "--seconds", 1, "--save", tmp_path / "a.mp4")
    said = " ".join(ran.out.replace("\u2502", " ").split())
    assert "power 4.78 W in the mean," in said
    assert "mJ a result with idle power (sensor_total)" in said
    totals = edge_sdk_command("demo", "-m", yolox, "--seconds", 1, "--save", tmp_path / "b.mp4", "--json").json
    assert totals["energy"]["mean_w"] == 4.785
    assert totals["power_reason"] is None


def test_without_a_model_it_runs_the_embedded_one_and_finds_the_people(edge_sdk_command, tmp_path: Path) -> None:
    ran = edge_sdk_command("demo", "--seconds", 2, "--save", tmp_path / "a.mp4", "--json")
    assert ran.code == 0
    assert ran.json["model"] == default.path().name
    assert ran.json["seen_in_frames"]["person"] >= 0.9 * ran.json["processed"] > 0
